//! Recurring jobs: the database holds them and says what is due, the scheduler says when they are due next.

use serde::Serialize;

use crate::{Error, LeaderTerm, Store};

/// A schedule whose run is due, or whose next due time was not computed.
#[derive(Debug, Clone)]
pub struct ScheduleDue {
    /// The schedule.
    pub schedule: i64,
    /// Five fields and a time zone.
    pub cron: String,
    /// When the run that waits is due; `None`: not computed.
    pub due_unix_ms: Option<i64>,
    /// The database's clock.
    pub now_unix_ms: i64,
}

/// A recurring job, as in the view `schedules`.
#[derive(Debug, Clone, Serialize)]
pub struct ScheduleView {
    /// Its id.
    pub id: i64,
    /// The tenant's name.
    pub tenant: String,
    /// `metadata.name`.
    pub name: String,
    /// `active`, `paused` or `removed`.
    pub state: String,
    /// Five fields and a time zone.
    pub cron: String,
    /// `wait`, `skip` or `overlap`.
    pub when_still_running: String,
    /// When the next run is due.
    pub next_due_unix_ms: Option<i64>,
    /// Runs that were due.
    pub n_runs: i64,
    /// The last run that started.
    pub last_job: Option<i64>,
    /// Who submitted it.
    pub submitted_by: String,
}

/// What a user does to a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleMove {
    /// No run starts any more.
    Pause,
    /// Runs start again; those that were missed are left out.
    Resume,
    /// It ends; the run that waits is cancelled.
    Remove,
}

impl Store {
    /// Makes a schedule of a submitted job, which becomes its first run. `false`: not `submitted` any more. Role: scheduler.
    ///
    /// # Errors
    /// [`Error::NotLeader`].
    pub async fn recur(
        &self,
        term: &LeaderTerm,
        job: i64,
        name: &str,
        kind: &str,
        cron: &str,
        when_still_running: &str,
    ) -> Result<bool, Error> {
        Ok(sqlx::query_scalar!(
            r#"/* recur */ select nightshift.recur($1, $2, $3, $4, $5, $6) as "done!""#,
            term.term,
            job,
            name,
            cron,
            when_still_running,
            kind,
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Schedules that need attention, at most 1,000. Role: scheduler.
    ///
    /// # Errors
    /// [`Error::NotLeader`].
    pub async fn schedules_due(&self, term: &LeaderTerm) -> Result<Vec<ScheduleDue>, Error> {
        Ok(sqlx::query_as!(
            ScheduleDue,
            r#"/* schedules_due */ select schedule_id as "schedule!", cron as "cron!", due_unix_ms, now_unix_ms as "now_unix_ms!"
            from nightshift.schedules_due($1)"#,
            term.term,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Releases the run that is due and lays the next one ready. `false`: somebody else did, or the run waits for an earlier one.
    /// `next_date` is the run's date, `YYYY-MM-DD`. Role: scheduler.
    ///
    /// # Errors
    /// [`Error::NotLeader`].
    pub async fn advance_schedule(
        &self,
        term: &LeaderTerm,
        due: &ScheduleDue,
        next_unix_ms: i64,
        next_date: &str,
    ) -> Result<bool, Error> {
        Ok(sqlx::query_scalar!(
            r#"/* advance_schedule */ select nightshift.advance_schedule($1, $2, $3, $4, $5::text::date) as "done!""#,
            term.term,
            due.schedule,
            due.due_unix_ms,
            next_unix_ms,
            next_date,
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Recurring jobs, newest first, at most 1,000; removed ones too when `all`. Role: tenant.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn schedules(&self, all: bool) -> Result<Vec<ScheduleView>, Error> {
        Ok(sqlx::query_as!(
            ScheduleView,
            r#"/* schedules */ select id as "id!", tenant as "tenant!", name as "name!", state as "state!", cron as "cron!",
                when_still_running as "when_still_running!", floor(extract(epoch from next_due) * 1000)::bigint as next_due_unix_ms,
                n_runs as "n_runs!", last_job, submitted_by::text as "submitted_by!"
            from nightshift.schedules where $1 or state <> 'removed' order by id desc limit 1000"#,
            all,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Pauses, resumes or removes a schedule. `false`: it was in no state for that. Role: tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn move_schedule(&self, schedule: i64, to: ScheduleMove) -> Result<bool, Error> {
        Ok(sqlx::query_scalar!(
            r#"/* move_schedule */ select case $2::text when 'pause' then nightshift.pause_schedule($1)
                when 'resume' then nightshift.resume_schedule($1) else nightshift.remove_schedule($1) end as "done!""#,
            schedule,
            match to {
                ScheduleMove::Pause => "pause",
                ScheduleMove::Resume => "resume",
                ScheduleMove::Remove => "remove",
            },
        )
        .fetch_one(&self.pool)
        .await?)
    }
}
