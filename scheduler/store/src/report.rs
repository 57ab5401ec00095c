//! What a worker says about its leases: any number of them in one call and one transaction.
//!
//! Calls and their items are sent column by column, as the arrays of `nightshift.report`. Postgres reads an array of numbers or
//! bytes several times faster than the same values in JSON, and so do we write it.

use std::time::Instant;

use serde_json::Value;
use sqlx::types::Json;

use crate::leases::trusted_until;
use crate::{Artifact, Error, ItemReport, Lease, Store, WorkerId};

/// What a worker should do after a progress call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on; the lease was renewed and everything reported was recorded.
    Continue,
    /// The lease is lost: nothing was recorded. Stop and touch nothing.
    Stop,
    /// Recorded and renewed; finish what is in the slots, then [`Store::release`].
    Drain,
    /// Recorded; the job was cancelled. Drop what is in the slots, then [`Store::release`].
    Cancelled,
}

/// What happened since the last report. An empty report is a heartbeat.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Items that became final; at most 10,000. Repeating one is harmless.
    pub items: Vec<ItemReport>,
    /// Indices of items in the engine's slots now. When the attempt is lost it is held against them.
    pub in_flight: Vec<i64>,
    /// New log lines of this attempt, each with its own time stamp. The store takes a text equal to the
    /// last one it got from this attempt for a repetition.
    pub log: Option<String>,
    /// Health of the worker (JSON object), shown in the view `workers`; only with [`Store::progress`].
    pub health: Option<serde_json::Value>,
}

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
    /// Heartbeat, results, fence check, cancel and drain poll in one call; every few seconds, never per item.
    /// Renews `lease.trusted_until` unless the verdict is [`Verdict::Stop`]. Role: worker.
    ///
    /// # Errors
    /// [`Error::Refused`] when an item lies outside the shard (a bug of the worker), [`Error::Unreachable`].
    pub async fn progress(&self, lease: &mut Lease, report: &Report) -> Result<Verdict, Error> {
        let sent = Instant::now();
        let verdict = match self.say_one(&Call::Progress, lease, report).await? {
            Answer::Verdict(Verdict::Stop) => return Ok(Verdict::Stop),
            Answer::Verdict(verdict) => verdict,
            Answer::Done => return Err(Error::inconsistent("report.answers", "done")),
        };
        lease.trusted_until = trusted_until(sent, lease.lease);
        Ok(verdict)
    }

    /// Reports the last items and ends the shard. All items of the range must be final by then. Role: worker.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]; [`Error::Refused`] when items are missing (a bug of the worker).
    pub async fn finish(&self, lease: &Lease, report: &Report) -> Result<(), Error> {
        self.end(&Call::Finish, lease, report).await
    }

    /// Gives the shard back after a drain, with what is final so far; costs no attempt. Role: worker.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    pub async fn release(&self, lease: &Lease, report: &Report) -> Result<(), Error> {
        self.end(&Call::Release, lease, report).await
    }

    /// Gives the shard up because of an error of the whole shard (out of memory, destination refuses writes); spends an
    /// attempt. At the job's `max_attempts` the remaining items become failed items with this `code`. Role: worker.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    pub async fn fail(
        &self,
        lease: &Lease,
        report: &Report,
        code: &str,
        message: &str,
    ) -> Result<(), Error> {
        let call = Call::Fail { code: code.to_owned(), message: message.to_owned() };
        self.end(&call, lease, report).await
    }

    async fn end(&self, call: &Call, lease: &Lease, report: &Report) -> Result<(), Error> {
        match self.say_one(call, lease, report).await? {
            Answer::Done => Ok(()),
            Answer::Verdict(_) => Err(Error::LeaseLost),
        }
    }

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
    async fn say_one(&self, call: &Call, lease: &Lease, report: &Report) -> Result<Answer, Error> {
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

/// One row a call.
#[derive(Default)]
struct Calls<'a> {
    what: Vec<&'static str>,
    job: Vec<i64>,
    shard: Vec<i32>,
    token: Vec<i64>,
    /// Each as the text of a `bigint[]`: arrays of arrays of unequal length do not exist.
    in_flight: Vec<String>,
    log: Vec<Option<&'a str>>,
    code: Vec<Option<&'a str>>,
    message: Vec<Option<&'a str>>,
    n_items: Vec<i32>,
    items: Items<'a>,
    health: Option<&'a Value>,
}

/// One row an item, those of the first call first.
#[derive(Default)]
struct Items<'a> {
    index: Vec<i64>,
    status: Vec<&'static str>,
    item_id: Vec<Option<Vec<u8>>>,
    seed: Vec<Option<i64>>,
    fingerprint: Vec<Option<&'a str>>,
    error_code: Vec<Option<&'a str>>,
    error_message: Vec<Option<&'a str>>,
    role: Vec<Option<&'a str>>,
    key: Vec<Option<&'a str>>,
    bytes: Vec<Option<i64>>,
    sha256: Vec<Option<Vec<u8>>>,
    gpu_ms: Vec<Option<i32>>,
    tokens: Vec<Option<i32>>,
    steps: Vec<Option<i32>>,
    /// Objects after the first.
    more: Vec<Option<Json<&'a [Artifact]>>>,
    info: Vec<Option<Json<&'a Value>>>,
}

impl<'a> Calls<'a> {
    fn push(&mut self, call: &'a Call, lease: &Lease, report: &'a Report) -> Result<(), Error> {
        let (what, code, message) = match call {
            Call::Progress => ("progress", None, None),
            Call::Finish => ("finish", None, None),
            Call::Release => ("release", None, None),
            Call::Fail { code, message } => ("fail", Some(code.as_str()), Some(message.as_str())),
        };
        self.what.push(what);
        self.code.push(code);
        self.message.push(message);
        self.job.push(lease.job);
        self.shard.push(lease.shard);
        self.token.push(lease.token);
        let in_flight: Vec<String> = report.in_flight.iter().map(i64::to_string).collect();
        self.in_flight.push(format!("{{{}}}", in_flight.join(",")));
        self.log.push(report.log.as_deref());
        self.health = report.health.as_ref().or(self.health);
        // More than fits is more than the database takes.
        self.n_items.push(i32::try_from(report.items.len()).unwrap_or(i32::MAX));
        for item in &report.items {
            self.items.push(item)?;
        }
        Ok(())
    }
}

impl<'a> Items<'a> {
    fn push(&mut self, item: &'a ItemReport) -> Result<(), Error> {
        self.index.push(item.index);
        self.status.push(item.status.as_str());
        self.item_id.push(item.item_id.as_deref().map(bytes).transpose()?);
        self.seed.push(item.seed);
        self.fingerprint.push(item.fingerprint.as_deref());
        self.error_code.push(item.error_code.as_deref());
        self.error_message.push(item.error_message.as_deref());
        let first = item.artifacts.first();
        self.role.push(first.map(|object| object.role.as_str()));
        self.key.push(first.map(|object| object.key.as_str()));
        self.bytes.push(first.map(|object| object.bytes));
        self.sha256.push(first.map(|object| bytes(&object.sha256)).transpose()?);
        self.gpu_ms.push(item.gpu_ms);
        self.tokens.push(item.tokens);
        self.steps.push(item.steps);
        let more = item.artifacts.get(1..).filter(|more| !more.is_empty());
        self.more.push(more.map(Json));
        self.info.push(item.info.as_ref().map(Json));
        Ok(())
    }
}

/// The bytes that a hex text spells.
fn bytes(hex: &str) -> Result<Vec<u8>, Error> {
    let digit = |c: u8| char::from(c).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
        _ => None,
    };
    hex.as_bytes()
        .chunks(2)
        .map(byte)
        .collect::<Option<_>>()
        .ok_or_else(|| Error::inconsistent("report.items", format!("{hex:?} is not hex")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_read_or_refused() {
        assert_eq!(bytes("00ffA1").unwrap(), [0, 255, 161]);
        assert_eq!(bytes("").unwrap(), [0_u8; 0]);
        for bad in ["0", "0g", "é", "abc"] {
            assert!(bytes(bad).unwrap_err().to_string().contains("not hex"));
        }
    }
}
