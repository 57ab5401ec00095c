//! `schedule.cron`: five fields and a time zone. Pure: it is told what time it is.

use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::time::{TimeError, first_at, zone};

/// Days that are looked through for the next time: February 29 comes again within eight years.
const LOOK_AHEAD: i64 = 366 * 8;

/// A recurring time of the wall clock of a zone.
///
/// A time that the clock jumps over is due at the jump, and one that it shows twice is due once; only an expression whose hour is
/// `*` is due in both of them, because it means every so many minutes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    zone: TimeZone,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether days of the month, and of the week, are left open; when neither is, either may match.
    any_day: bool,
    any_weekday: bool,
    any_hour: bool,
}

/// A field: its name, bounds, and names for its values.
struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", min: 0, max: 59, names: &[] },
    Field { name: "hour", min: 0, max: 23, names: &[] },
    Field { name: "day", min: 1, max: 31, names: &[] },
    Field {
        name: "month",
        min: 1,
        max: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    },
    Field {
        name: "weekday",
        min: 0,
        max: 7,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

impl Field {
    /// The values that a text allows, as bits.
    fn read(&self, text: &str) -> Option<u64> {
        let mut bits = 0;
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(step.parse::<u32>().ok()?)),
                None => (part, None),
            };
            let (from, to) = match range.split_once('-') {
                _ if range == "*" => (self.min, self.max),
                Some((from, to)) => (self.number(from)?, self.number(to)?),
                None => {
                    let from = self.number(range)?;
                    // `5/15` means from 5 on.
                    (from, if step.is_some() { self.max } else { from })
                }
            };
            let step = step.unwrap_or(1);
            if from > to || !(1..=self.max.max(1)).contains(&step) {
                return None;
            }
            for value in (from..=to).step_by(step as usize) {
                bits |= 1_u64 << value;
            }
        }
        Some(bits)
    }

    fn number(&self, text: &str) -> Option<u32> {
        let named = self
            .names
            .iter()
            .zip(self.min..)
            .find(|(known, _)| text.eq_ignore_ascii_case(known))
            .map(|(_, n)| n);
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        named
            .or_else(|| digits.then(|| text.parse().ok())?)
            .filter(|n| (self.min..=self.max).contains(n))
    }
}

impl TryFrom<String> for Cron {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::read(&text).map_err(|error| error.message)
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text
    }
}

impl Cron {
    /// Reads `0 21 * * 1-5 Europe/Berlin`.
    pub(crate) fn read(text: &str) -> Result<Self, TimeError> {
        let bad = |part: &str, message: String| TimeError {
            code: "spec::bad_cron",
            message,
            help: Some(
                "write five fields and a time zone, \"0 21 * * 1-5 Europe/Berlin\"".to_owned(),
            ),
            part: part.to_owned(),
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let [fields @ .., name] = words.as_slice() else {
            return Err(bad(text, "cron is empty".to_owned()));
        };
        if fields.len() != 5 {
            let message = format!("cron has {} fields and no time zone after five", words.len());
            return Err(bad(text, message));
        }
        let mut bits = [0; 5];
        for ((text, field), bits) in fields.iter().zip(FIELDS).zip(&mut bits) {
            *bits = field.read(text).ok_or_else(|| {
                bad(
                    text,
                    format!("\"{text}\" is not valid as the {} of a cron expression", field.name),
                )
            })?;
        }
        let [minutes, hours, days, months, weekdays] = bits;
        let cron = Self {
            text: text.to_owned(),
            zone: zone(name)?,
            minutes,
            hours,
            days,
            months,
            // Sunday is 0 and 7.
            weekdays: weekdays | (weekdays >> 7),
            any_day: fields[2].starts_with('*'),
            any_weekday: fields[4].starts_with('*'),
            any_hour: fields[1] == "*",
        };
        if cron.next(0).is_none() {
            let message = format!("cron \"{text}\" names a day that never comes");
            return Err(bad(fields[2], message));
        }
        Ok(cron)
    }

    /// The first time that is due after a moment, both in Unix milliseconds.
    pub fn next(&self, after_unix_ms: i64) -> Option<i64> {
        let after = Timestamp::from_millisecond(after_unix_ms).ok()?;
        let today = self.zone.to_datetime(after).date();
        // A time of yesterday may be due today, when the clock jumps at midnight.
        for ahead in -1..=LOOK_AHEAD {
            let day = today.checked_add(Span::new().days(ahead)).ok()?;
            if let Some(at) = self.first_of(day, after) {
                return Some(at.as_millisecond());
            }
        }
        None
    }

    /// The date of the wall clock at a moment, `YYYY-MM-DD`.
    pub fn date(&self, at_unix_ms: i64) -> Option<String> {
        let at = Timestamp::from_millisecond(at_unix_ms).ok()?;
        Some(self.zone.to_datetime(at).date().to_string())
    }

    fn first_of(&self, day: Date, after: Timestamp) -> Option<Timestamp> {
        let has = |bits: u64, n: i8| bits >> n & 1 == 1;
        let by_day = has(self.days, day.day());
        let by_weekday = has(self.weekdays, day.weekday().to_sunday_zero_offset());
        // As every cron does it.
        let fits = match self.any_day || self.any_weekday {
            true => by_day && by_weekday,
            false => by_day || by_weekday,
        };
        if !fits || !has(self.months, day.month()) {
            return None;
        }
        let mut first: Option<Timestamp> = None;
        for hour in (0..24).filter(|hour| has(self.hours, *hour)) {
            for minute in (0..60).filter(|minute| has(self.minutes, *minute)) {
                let at = day.to_datetime(Time::constant(hour, minute, 0, 0));
                let again = match self.zone.to_ambiguous_timestamp(at).offset() {
                    AmbiguousOffset::Fold { after, .. } if self.any_hour => {
                        after.to_timestamp(at).ok()
                    }
                    _ => None,
                };
                let due = [first_at(&self.zone, at), again].into_iter().flatten();
                let next = due.filter(|due| *due > after).min();
                first = [first, next].into_iter().flatten().min();
            }
            // Later hours are not earlier, unless the clock was set back.
            if first.is_some() && !self.any_hour {
                break;
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next times after a moment, in UTC without seconds.
    fn due(cron: &str, after: &str, n: usize) -> String {
        let cron = Cron::read(cron).unwrap();
        let mut at = after.parse::<Timestamp>().unwrap().as_millisecond();
        let mut found = Vec::new();
        for _ in 0..n {
            at = cron.next(at).unwrap();
            let utc = Timestamp::from_millisecond(at).unwrap().to_string();
            found.push(utc[5..16].to_owned());
        }
        found.join(" ")
    }

    #[test]
    fn fields_are_checked() {
        for good in [
            "0 21 * * 1-5 Europe/Berlin",
            "*/15 0-6,22-23 1 jan mon-fri UTC",
            "0 0 * * 7 UTC",
            "0 0 29 2 * UTC",
        ] {
            assert!(Cron::read(good).is_ok(), "{good}");
        }
        for bad in [
            "0 21 * * 1-5",
            "60 * * * * UTC",
            "* * 0 * * UTC",
            "* * * * mon-sun UTC",
            "*/0 * * * * UTC",
            "a b c d e UTC",
            "0 0 31 2 * UTC",
            "",
        ] {
            assert!(Cron::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn days_of_the_month_or_of_the_week() {
        assert_eq!(
            due("0 21 * * 1-5 Europe/Berlin", "2026-11-27T19:59:00Z", 3),
            "11-27T20:00 11-30T20:00 12-01T20:00"
        );
        assert_eq!(
            due("0 0 13 * 5 UTC", "2026-11-01T00:00:00Z", 4),
            "11-06T00:00 11-13T00:00 11-20T00:00 11-27T00:00"
        );
        assert_eq!(due("0 0 29 2 * UTC", "2026-11-01T00:00:00Z", 2), "02-29T00:00 02-29T00:00");
        assert_eq!(due("0 12 * * sun UTC", "2026-11-27T00:00:00Z", 1), "11-29T12:00");
    }

    #[test]
    fn nights_on_which_the_clock_is_set() {
        // Skipped in spring: at the jump. Twice in autumn: once.
        assert_eq!(
            due("30 2 * * * Europe/Berlin", "2026-03-28T12:00:00Z", 2),
            "03-29T01:00 03-30T00:30"
        );
        assert_eq!(
            due("30 2 * * * Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            "10-25T00:30 10-26T01:30"
        );
        // Two times that fall into one jump are one.
        assert_eq!(
            due("0,30 2 * * * Europe/Berlin", "2026-03-28T12:00:00Z", 2),
            "03-29T01:00 03-30T00:00"
        );
        // Every half hour goes on through both nights.
        assert_eq!(
            due("*/30 * * * * Europe/Berlin", "2026-10-25T00:00:00Z", 5),
            "10-25T00:30 10-25T01:00 10-25T01:30 10-25T02:00 10-25T02:30"
        );
        assert_eq!(
            due("*/30 * * * * Europe/Berlin", "2026-03-29T00:00:00Z", 3),
            "03-29T00:30 03-29T01:00 03-29T01:30"
        );
    }

    #[test]
    fn it_travels_as_its_text() {
        let cron = Cron::read("0 21 * * 1-5 Europe/Berlin").unwrap();
        let json = serde_json::to_value(&cron).unwrap();
        assert_eq!(json, "0 21 * * 1-5 Europe/Berlin");
        assert_eq!(serde_json::from_value::<Cron>(json).unwrap(), cron);
        let due = "2026-11-27T23:30:00Z".parse::<Timestamp>().unwrap();
        assert_eq!(cron.date(due.as_millisecond()).as_deref(), Some("2026-11-28"));
    }
}
