//! Calls of a worker and their items, column by column: what the arrays of `nightshift.report` hold. Postgres reads an array of
//! numbers or bytes several times faster than the same values in JSON, and so do we write it.

use serde_json::Value;
use sqlx::types::Json;

use crate::report::Call;
use crate::{Artifact, Error, ItemReport, Lease, Report};

/// One row a call.
#[derive(Default)]
pub(crate) struct Calls<'a> {
    pub(crate) what: Vec<&'static str>,
    pub(crate) job: Vec<i64>,
    pub(crate) shard: Vec<i32>,
    pub(crate) token: Vec<i64>,
    /// Each as the text of a `bigint[]`: arrays of arrays of unequal length do not exist.
    pub(crate) in_flight: Vec<String>,
    pub(crate) log: Vec<Option<&'a str>>,
    pub(crate) code: Vec<Option<&'a str>>,
    pub(crate) message: Vec<Option<&'a str>>,
    pub(crate) n_items: Vec<i32>,
    pub(crate) items: Items<'a>,
    pub(crate) health: Option<&'a Value>,
}

/// One row an item, those of the first call first.
#[derive(Default)]
pub(crate) struct Items<'a> {
    pub(crate) index: Vec<i64>,
    pub(crate) status: Vec<&'static str>,
    pub(crate) item_id: Vec<Option<Vec<u8>>>,
    pub(crate) seed: Vec<Option<i64>>,
    pub(crate) fingerprint: Vec<Option<&'a str>>,
    pub(crate) error_code: Vec<Option<&'a str>>,
    pub(crate) error_message: Vec<Option<&'a str>>,
    pub(crate) role: Vec<Option<&'a str>>,
    pub(crate) key: Vec<Option<&'a str>>,
    pub(crate) bytes: Vec<Option<i64>>,
    pub(crate) sha256: Vec<Option<Vec<u8>>>,
    pub(crate) gpu_ms: Vec<Option<i32>>,
    pub(crate) tokens: Vec<Option<i32>>,
    pub(crate) steps: Vec<Option<i32>>,
    /// Objects after the first.
    pub(crate) more: Vec<Option<Json<&'a [Artifact]>>>,
    pub(crate) info: Vec<Option<Json<&'a Value>>>,
}

impl<'a> Calls<'a> {
    pub(crate) fn push(
        &mut self,
        call: &'a Call,
        lease: &Lease,
        report: &'a Report,
    ) -> Result<(), Error> {
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
