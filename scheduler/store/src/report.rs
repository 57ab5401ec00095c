//! What a worker says about its leases: any number of them in one call and one transaction.

use std::time::Instant;

use crate::columns::Calls;
use crate::leases::trusted_until;
use crate::{Error, Lease, Report, Store, Verdict, WorkerId};

/// What is said about one lease.
#[derive(Debug, Clone)]
pub enum Call {
    /// As [`Store::progress`].
    Progress,
    /// As [`Store::finish`].
    Finish,
    /// As [`Store::release`].
    Release,
    /// As [`Store::fail`].
    Fail {
        /// Stable code.
        code: String,
        /// One sentence.
        message: String,
    },
}

/// What came of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The lease goes on, or not: that of [`Store::progress`]. [`Verdict::Stop`] for the other calls too.
    Verdict(Verdict),
    /// The lease has ended as asked.
    Done,
}

impl Store {
    /// Several calls, at most 64, in one transaction; an answer each, in order. A worker of many small shards pays one commit for
    /// all of them. Renews `trusted_until` of the leases that go on. Role: worker.
    ///
    /// # Errors
    /// [`Error::Refused`] when one of them would be refused: then none was done. [`Error::Locked`] when somebody keeps one of
    /// the jobs locked: then none was done either. [`Error::Unreachable`].
    pub async fn report(
        &self,
        worker: WorkerId,
        calls: &mut [(Call, &mut Lease, Report)],
    ) -> Result<Vec<Answer>, Error> {
        let sent = Instant::now();
        let mut said = Calls::default();
        for (call, lease, report) in calls.iter() {
            said.push(call, lease, report)?;
        }
        let answers = self.say(worker, &said).await?;
        for (answer, (_, lease, _)) in answers.iter().zip(calls) {
            if !matches!(answer, Answer::Done | Answer::Verdict(Verdict::Stop)) {
                lease.trusted_until = trusted_until(sent, lease.lease);
            }
        }
        Ok(answers)
    }

    /// One call about one lease.
    pub(crate) async fn say_one(
        &self,
        call: &Call,
        lease: &Lease,
        report: &Report,
    ) -> Result<Answer, Error> {
        let mut said = Calls::default();
        said.push(call, lease, report)?;
        let answer = self.say(lease.worker, &said).await?.pop();
        answer.ok_or_else(|| Error::inconsistent("report.answers", "none"))
    }

    async fn say(&self, worker: WorkerId, calls: &Calls<'_>) -> Result<Vec<Answer>, Error> {
        let items = &calls.items;
        let answers = sqlx::query_scalar!(
            r#"/* report */ select nightshift.report($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
                $21, $22, $23, $24, $25, $26, $27) as "answers!: Vec<String>""#,
            worker.0,
            calls.health as _,
            &calls.what as _,
            &calls.job,
            &calls.shard,
            &calls.token,
            &calls.in_flight,
            &calls.log as _,
            &calls.code as _,
            &calls.message as _,
            &calls.n_items,
            &items.index,
            &items.status as _,
            &items.item_id as _,
            &items.seed as _,
            &items.fingerprint as _,
            &items.error_code as _,
            &items.error_message as _,
            &items.role as _,
            &items.key as _,
            &items.bytes as _,
            &items.sha256 as _,
            &items.gpu_ms as _,
            &items.tokens as _,
            &items.steps as _,
            &items.more as _,
            &items.info as _,
        )
        .fetch_one(&self.pool)
        .await?;
        answers
            .iter()
            .map(|answer| match answer.as_str() {
                "done" => Ok(Answer::Done),
                "stop" => Ok(Answer::Verdict(Verdict::Stop)),
                "continue" => Ok(Answer::Verdict(Verdict::Continue)),
                "drain" => Ok(Answer::Verdict(Verdict::Drain)),
                "cancelled" => Ok(Answer::Verdict(Verdict::Cancelled)),
                other => Err(Error::inconsistent("report.answers", other)),
            })
            .collect()
    }
}
