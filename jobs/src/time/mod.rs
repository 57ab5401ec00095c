//! Times in a spec: a zone's wall clock, instants, and what is wrong with a text that should be one of them.

pub(crate) mod cron;
pub(crate) mod window;

use jiff::Timestamp;
use jiff::civil::{DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::yaml::nearest::nearest;

/// What is wrong with a time, and the part of the text that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimeError {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    /// The part that the caret marks.
    pub(crate) part: String,
}

/// The first moment at which the wall clock of a zone shows this time or a later one. A time that the clock jumps over is
/// reached at the jump; one that it shows twice is reached the first time.
pub(crate) fn first_at(zone: &TimeZone, at: DateTime) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(at).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(at).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(at).ok(),
        AmbiguousOffset::Gap { before, .. } => {
            let beyond = before.to_timestamp(at).ok()?;
            let just_beyond = beyond.checked_add(jiff::Span::new().seconds(1)).ok()?;
            let jump = zone.preceding(just_beyond).next()?;
            Some(jump.timestamp())
        }
    }
}

/// `HH:MM`.
pub(crate) fn clock(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let two = |text: &str| {
        (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse::<i8>().ok())?
    };
    Time::new(two(hour)?, two(minute)?, 0, 0).ok()
}

/// A zone of the time zone database that is built in: what a spec means does not depend on the machine that reads it.
pub(crate) fn zone(name: &str) -> Result<TimeZone, TimeError> {
    let database = jiff::tz::TimeZoneDatabase::bundled();
    if let Ok(zone) = database.get(name) {
        return Ok(zone);
    }
    let names: Vec<String> = database.available().map(|name| name.to_string()).collect();
    let help =
        nearest(name, names.iter().map(String::as_str)).map(|near| format!("did you mean {near}?"));
    Err(TimeError {
        code: "spec::unknown_time_zone",
        message: format!("unknown time zone \"{name}\""),
        help: help.or_else(|| Some("use a name such as Europe/Berlin".to_owned())),
        part: name.to_owned(),
    })
}

/// Reads `2026-11-25T06:00 Europe/Berlin`.
pub(crate) fn instant(text: &str) -> Result<Timestamp, TimeError> {
    let bad = |message: String| TimeError {
        code: "spec::bad_instant",
        message,
        help: Some("write it as \"2026-11-25T06:00 Europe/Berlin\"".to_owned()),
        part: text.to_owned(),
    };
    let (date, zone) =
        text.split_once(' ').ok_or_else(|| bad(format!("\"{text}\" names no time zone")))?;
    let date: DateTime =
        date.parse().map_err(|_| bad(format!("\"{date}\" is not a date and time")))?;
    let zone = self::zone(zone.trim())?;
    first_at(&zone, date).ok_or_else(|| bad(format!("\"{text}\" is out of range")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_need_a_zone() {
        let at = |text| instant(text).map(|at| at.to_string());
        assert_eq!(at("2026-11-25T06:00 Europe/Berlin").as_deref(), Ok("2026-11-25T05:00:00Z"));
        // Once jumped over, once shown twice.
        assert_eq!(at("2026-03-29T02:30 Europe/Berlin").as_deref(), Ok("2026-03-29T01:00:00Z"));
        assert_eq!(at("2026-10-25T02:30 Europe/Berlin").as_deref(), Ok("2026-10-25T00:30:00Z"));
        assert!(instant("2026-11-25T06:00").is_err());
        assert!(instant("tomorrow Europe/Berlin").is_err());
    }
}
