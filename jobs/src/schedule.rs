//! When a job may run: windows in a named zone, cron expressions, instants. Read and checked here; the scheduler keeps them.

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;

use crate::read::nearest::nearest;

/// A daily window by the wall clock of a zone; it crosses midnight when it ends before it starts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DailyWindow {
    pub(crate) opens: Time,
    pub(crate) closes: Time,
    pub(crate) zone: TimeZone,
}

/// What is wrong with a time, and the part of the text that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimeError {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    /// The part that the caret marks.
    pub(crate) part: String,
}

const WINDOW_FORM: &str = "write it as \"22:00-06:00 Europe/Berlin\"";

/// Reads `22:00-06:00 Europe/Berlin`. Messages start with what stands in front of them, `window ...`.
pub(crate) fn window(text: &str) -> Result<DailyWindow, TimeError> {
    let bad = |part: &str, message: String| TimeError {
        code: "spec::bad_window",
        message,
        help: Some(WINDOW_FORM.to_owned()),
        part: part.to_owned(),
    };
    let (hours, zone) = text
        .split_once(' ')
        .ok_or_else(|| bad(text, format!("window \"{text}\" names no time zone")))?;
    let (from, to) = hours
        .split_once('-')
        .ok_or_else(|| bad(hours, format!("\"{hours}\" is no window")))?;
    let time =
        |text: &str| clock(text).ok_or_else(|| bad(text, format!("\"{text}\" is no time of day")));
    let (opens, closes) = (time(from)?, time(to)?);
    if opens == closes {
        let help = Some("leave the window out to run at any time".to_owned());
        return Err(TimeError {
            code: "spec::empty_window",
            message: format!("window {hours} is empty"),
            help,
            part: hours.to_owned(),
        });
    }
    Ok(DailyWindow {
        opens,
        closes,
        zone: self::zone(zone.trim())?,
    })
}

/// `HH:MM`.
fn clock(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let two = |text: &str| {
        (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse::<i8>().ok())?
    };
    Time::new(two(hour)?, two(minute)?, 0, 0).ok()
}

/// A zone of the time zone database that is built in: what a spec means does not depend on the machine that reads it.
fn zone(name: &str) -> Result<TimeZone, TimeError> {
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
pub(crate) fn instant(text: &str) -> Result<jiff::Zoned, TimeError> {
    let bad = |message: String| TimeError {
        code: "spec::bad_instant",
        message,
        help: Some("write it as \"2026-11-25T06:00 Europe/Berlin\"".to_owned()),
        part: text.to_owned(),
    };
    let (date, zone) = text
        .split_once(' ')
        .ok_or_else(|| bad(format!("\"{text}\" names no time zone")))?;
    let date: DateTime = date
        .parse()
        .map_err(|_| bad(format!("\"{date}\" is no date and time")))?;
    let zone = self::zone(zone.trim())?;
    date.to_zoned(zone)
        .map_err(|_| bad(format!("\"{text}\" is out of range")))
}

/// Checks five cron fields and a zone, `0 21 * * 1-5 Europe/Berlin`.
pub(crate) fn cron(text: &str) -> Result<(), TimeError> {
    let bad = |part: &str, message: String| TimeError {
        code: "spec::bad_cron",
        message,
        help: Some("write five fields and a time zone, \"0 21 * * 1-5 Europe/Berlin\"".to_owned()),
        part: part.to_owned(),
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let [fields @ .., zone] = words.as_slice() else {
        return Err(bad(text, "cron is empty".to_owned()));
    };
    if fields.len() != 5 {
        return Err(bad(
            text,
            format!(
                "cron has {} fields and no time zone after five",
                words.len()
            ),
        ));
    }
    let days = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    let months = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    let limits: [(&str, u32, u32, &[&str]); 5] = [
        ("minute", 0, 59, &[]),
        ("hour", 0, 23, &[]),
        ("day", 1, 31, &[]),
        ("month", 1, 12, &months),
        ("weekday", 0, 7, &days),
    ];
    for (field, (name, min, max, names)) in fields.iter().zip(limits) {
        let number = |text: &str| {
            let named = names
                .iter()
                .zip(min..)
                .find(|(known, _)| text.eq_ignore_ascii_case(known))
                .map(|(_, n)| n);
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            named
                .or_else(|| digits.then(|| text.parse().ok())?)
                .filter(|n| (min..=max).contains(n))
        };
        let good = field.split(',').all(|part| {
            let (range, step) = part
                .split_once('/')
                .map_or((part, None), |(range, step)| (range, Some(step)));
            let step_good = step.is_none_or(|step| {
                step.parse::<u32>()
                    .is_ok_and(|step| (1..=max.max(1)).contains(&step))
            });
            let range_good = match range.split_once('-') {
                _ if range == "*" => true,
                None => number(range).is_some(),
                Some((from, to)) => {
                    matches!((number(from), number(to)), (Some(from), Some(to)) if from <= to)
                }
            };
            step_good && range_good
        });
        if !good {
            return Err(bad(
                field,
                format!("\"{field}\" is no {name} of a cron expression"),
            ));
        }
    }
    self::zone(zone).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_read() {
        let overnight = window("22:00-06:00 Europe/Berlin").unwrap();
        assert!(overnight.opens > overnight.closes);
        assert_eq!(overnight.zone.iana_name(), Some("Europe/Berlin"));
        assert!(window("00:00-23:59 UTC").is_ok());
        for bad in [
            "22:00-06:00",
            "22-06 UTC",
            "25:00-06:00 UTC",
            "22:00 UTC",
            "22:00-22:00 UTC",
            "22:00-06:00 Berlin",
            "",
            "1320",
        ] {
            assert!(window(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cron_fields_are_checked() {
        for good in [
            "0 21 * * 1-5 Europe/Berlin",
            "*/15 0-6,22-23 1 jan mon-fri UTC",
            "0 0 * * 7 UTC",
        ] {
            assert_eq!(cron(good), Ok(()), "{good}");
        }
        for bad in [
            "0 21 * * 1-5",
            "60 * * * * UTC",
            "* * 0 * * UTC",
            "* * * * mon-sun UTC",
            "*/0 * * * * UTC",
            "a b c d e UTC",
            "",
        ] {
            assert!(cron(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn instants_need_a_zone() {
        assert!(instant("2026-11-25T06:00 Europe/Berlin").is_ok());
        assert!(instant("2026-11-25T06:00").is_err());
        assert!(instant("tomorrow Europe/Berlin").is_err());
    }
}
