//! What a worker says about several leases, in one transaction.

use std::time::Instant;

use serde_json::{Value, json};

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
    /// [`Error::Refused`] when one of them would be refused: then none was done. [`Error::Unreachable`].
    pub async fn report(
        &self,
        worker: WorkerId,
        calls: &mut [(Call, &mut Lease, Report)],
    ) -> Result<Vec<Answer>, Error> {
        let sent = Instant::now();
        let said: Vec<Value> = calls
            .iter()
            .map(|(call, lease, report)| said(call, lease, report))
            .collect();
        let answers = sqlx::query_scalar!(
            r#"/* report */ select nightshift.report($1, $2) as "answers!: Vec<String>""#,
            worker.0,
            Value::Array(said),
        )
        .fetch_one(&self.pool)
        .await?;
        answers
            .iter()
            .zip(calls)
            .map(|(answer, (_, lease, _))| {
                let verdict = match answer.as_str() {
                    "done" => return Ok(Answer::Done),
                    "stop" => return Ok(Answer::Verdict(Verdict::Stop)),
                    "continue" => Verdict::Continue,
                    "drain" => Verdict::Drain,
                    "cancelled" => Verdict::Cancelled,
                    other => return Err(Error::inconsistent("report.answers", other)),
                };
                lease.trusted_until = trusted_until(sent, lease.lease);
                Ok(Answer::Verdict(verdict))
            })
            .collect()
    }
}

fn said(call: &Call, lease: &Lease, report: &Report) -> Value {
    let mut said = json!({
        "job": lease.job, "shard": lease.shard, "token": lease.token, "items": report.items, "in_flight": report.in_flight,
        "log": report.log, "health": report.health,
    });
    said["what"] = match call {
        Call::Progress => "progress",
        Call::Finish => "finish",
        Call::Release => "release",
        Call::Fail { code, message } => {
            said["code"] = json!(code);
            said["message"] = json!(message);
            "fail"
        }
    }
    .into();
    said
}
