//! The read API: the views of schema `nightshift`, under row-level security. Times become Unix milliseconds here.

use crate::{
    AttemptOutcome, AttemptView, Error, EventView, JobFilter, JobState, JobView, LogLine,
    OutputView, ShardKind, ShardState, ShardView, Store, WorkerView,
};

impl Store {
    /// Jobs, newest first, at most `limit`. Role: tenant.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn jobs(&self, filter: &JobFilter, limit: i64) -> Result<Vec<JobView>, Error> {
        let states: Vec<String> = filter.states.iter().map(ToString::to_string).collect();
        Ok(sqlx::query_as!(
            JobView,
            r#"/* jobs */ select id as "id!", tenant as "tenant!", name, kind, state::text as "state!: JobState", held as "held!", why as reason, call, call_id,
                priority as "priority!", round as "round!", labels as "labels!", dest, model_key, fingerprint, n_rows, n_items,
                n_ok as "n_ok!", n_failed as "n_failed!", n_skipped as "n_skipped!", n_in_flight as "n_in_flight!",
                n_leased as "n_leased!", errors, nullif(warnings, '') as warnings, submitted_by as "submitted_by!", idempotency_key,
                floor(extract(epoch from submitted_at) * 1000)::bigint as "submitted_unix_ms!",
                floor(extract(epoch from planned_at) * 1000)::bigint as "planned_unix_ms",
                floor(extract(epoch from started_at) * 1000)::bigint as "started_unix_ms",
                floor(extract(epoch from finished_at) * 1000)::bigint as "finished_unix_ms"
            from nightshift.jobs
            where (cardinality($1::text[]) = 0 or state::text = any ($1)) and ($2::text is null or tenant = $2)
                and ($3::text is null or name = $3) and ($4::bigint is null or id < $4)
            order by id desc limit $5"#,
            &states,
            filter.tenant,
            filter.name,
            filter.before,
            limit,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// One job. Role: tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn job(&self, job: i64) -> Result<JobView, Error> {
        sqlx::query_as!(
            JobView,
            r#"/* job */ select id as "id!", tenant as "tenant!", name, kind, state::text as "state!: JobState", held as "held!", why as reason, call, call_id,
                priority as "priority!", round as "round!", labels as "labels!", dest, model_key, fingerprint, n_rows, n_items,
                n_ok as "n_ok!", n_failed as "n_failed!", n_skipped as "n_skipped!", n_in_flight as "n_in_flight!",
                n_leased as "n_leased!", errors, nullif(warnings, '') as warnings, submitted_by as "submitted_by!", idempotency_key,
                floor(extract(epoch from submitted_at) * 1000)::bigint as "submitted_unix_ms!",
                floor(extract(epoch from planned_at) * 1000)::bigint as "planned_unix_ms",
                floor(extract(epoch from started_at) * 1000)::bigint as "started_unix_ms",
                floor(extract(epoch from finished_at) * 1000)::bigint as "finished_unix_ms"
            from nightshift.jobs
            where id = $1"#,
            job,
        )
        .fetch_optional(&self.pool)
        .await?
        .ok_or_else(|| no_job(job))
    }

    /// The spec of a job as submitted. Role: tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn spec_text(&self, job: i64) -> Result<String, Error> {
        sqlx::query_scalar!(r#"/* spec_text */ select spec_text as "spec_text!" from nightshift.specs where job_id = $1"#, job)
            .fetch_optional(&self.pool)
            .await?
            .ok_or_else(|| no_job(job))
    }

    /// The resolved spec of a job; `None` before planning. Role: tenant.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn resolved(&self, job: i64) -> Result<Option<serde_json::Value>, Error> {
        sqlx::query_scalar!(
            "/* resolved */ select resolved from nightshift.specs where job_id = $1",
            job
        )
        .fetch_optional(&self.pool)
        .await?
        .ok_or_else(|| no_job(job))
    }

    /// Events of a job (`None`: of all) with id > `after`, in order, at most `limit`. Role: tenant.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn events(
        &self,
        job: Option<i64>,
        after: i64,
        limit: i64,
    ) -> Result<Vec<EventView>, Error> {
        Ok(sqlx::query_as!(
            EventView,
            r#"/* events */ select id as "id!", floor(extract(epoch from at) * 1000)::bigint as "at_unix_ms!", job_id as job, shard_no as shard,
                worker_id as worker, what as "what!", message as "message!"
            from nightshift.events where ($1::bigint is null or job_id = $1) and id > $2 order by id limit $3"#,
            job,
            after,
            limit,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Log texts of a job (or of the shard that holds `item`) with id > `after`, in order, at most 1,000. Role: tenant.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn logs(
        &self,
        job: i64,
        item: Option<i64>,
        after: i64,
    ) -> Result<Vec<LogLine>, Error> {
        Ok(sqlx::query_as!(
            LogLine,
            r#"/* logs */ select id as "id!", floor(extract(epoch from at) * 1000)::bigint as "at_unix_ms!", shard_no as "shard!", attempt as "attempt!", text as "text!"
            from nightshift.logs
            where job_id = $1 and id > $3 and ($2::bigint is null or shard_no in (select s.shard_no from nightshift.shards s
                where s.job_id = $1 and s.kind = 'items' and s.first_item <= $2 and s.end_item > $2))
            order by id limit 1000"#,
            job,
            item,
            after,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Workers, newest first, at most 1,000. Role: tenant.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn workers(&self) -> Result<Vec<WorkerView>, Error> {
        Ok(sqlx::query_as!(
            WorkerView,
            r#"/* workers */ select id as "id!", name as "name!", state as "state!", models as "models!", info as "info!", health as "health!",
                n_leased as "n_leased!",
                floor(extract(epoch from registered_at) * 1000)::bigint as "registered_unix_ms!",
                floor(extract(epoch from seen_at) * 1000)::bigint as "seen_unix_ms!"
            from nightshift.workers order by id desc limit 1000"#
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Carved shards of a job that are not finished, by number, at most 1,000. Role: tenant.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn open_shards(&self, job: i64) -> Result<Vec<ShardView>, Error> {
        Ok(sqlx::query_as!(
            ShardView,
            r#"/* open_shards */ select shard_no as "shard!", kind::text as "kind!: ShardKind", state::text as "state!: ShardState",
                first_item as "first_item!", end_item as "end_item!", attempt as "attempt!", n_failed_attempts as "n_failed_attempts!",
                n_lost_attempts as "n_lost_attempts!", (n_ok + n_failed + n_skipped)::bigint as "n_final!", worker_id as worker,
                floor(extract(epoch from ready_at) * 1000)::bigint as "ready_unix_ms",
                floor(extract(epoch from leased_until) * 1000)::bigint as "leased_until_unix_ms"
            from nightshift.shards where job_id = $1 and state <> 'finished' order by shard_no limit 1000"#,
            job,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Attempts of a job that did not simply finish, newest first, at most `limit`. Role: tenant.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn attempts(&self, job: i64, limit: i64) -> Result<Vec<AttemptView>, Error> {
        Ok(sqlx::query_as!(
            AttemptView,
            r#"/* attempts */ select shard_no as "shard!", attempt as "attempt!", worker_id as "worker!", outcome::text as "outcome: AttemptOutcome",
                code, message,
                floor(extract(epoch from started_at) * 1000)::bigint as "started_unix_ms!",
                floor(extract(epoch from ended_at) * 1000)::bigint as "ended_unix_ms"
            from nightshift.attempts where job_id = $1 and outcome is distinct from 'finished'
            order by started_at desc, shard_no desc limit $2"#,
            job,
            limit,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Objects of ok items with item index > `after_index`, by index, of at most `limit` items. Role: tenant.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn outputs(
        &self,
        job: i64,
        after_index: i64,
        limit: i64,
    ) -> Result<Vec<OutputView>, Error> {
        Ok(sqlx::query_as!(
            OutputView,
            r#"/* outputs */ select index as "index!", item_id as "item_id!", role as "role!", uri as "uri!", bytes as "bytes!", sha256 as "sha256!"
            from nightshift.outputs
            where job_id = $1 and index in (select index from nightshift.items where job_id = $1 and index > $2 and status = 'ok' order by index limit $3)
            order by index, n"#,
            job,
            after_index,
            limit,
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

fn no_job(job: i64) -> Error {
    Error::NotFound { is_job: true, message: format!("there is no job {job}") }
}
