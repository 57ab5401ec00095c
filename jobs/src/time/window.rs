//! `schedule.window`: from hours of the wall clock, days and a zone to moments. Pure: it is told what time it is.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use crate::time::{TimeError, clock, first_at, zone};
use crate::words::{Day, WhenWindowCloses};

/// How many days ahead an opening is looked for: rare days and nights on which the clock jumps over the window included.
const LOOK_AHEAD: i64 = 400;
/// Windows that touch are one; a job that may always run is looked at again after so many days.
const MERGE: i64 = 8;

/// When a job may run, day by day: from one time of the wall clock to another, which is on the next day unless it is later.
///
/// Both ends are the first moment at which the clock of the zone shows that time or a later one. So a time that the clock jumps
/// over in spring is reached at the jump, and the hour that it shows twice in autumn is inside once, as a whole. `days` are those on
/// which the window opens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct TimeWindow {
    opens: Time,
    closes: Time,
    zone: TimeZone,
    /// As written.
    text: String,
    /// Sorted; empty: every day.
    days: Vec<Day>,
    when_closes: WhenWindowCloses,
}

/// A window that is open or opens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// Its first moment, in Unix milliseconds.
    pub opens_unix_ms: i64,
    /// The first moment after it, in Unix milliseconds.
    pub closes_unix_ms: i64,
}

/// The JSON of a window, in the words of a spec.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stored {
    window: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    days: Vec<Day>,
    #[serde(default)]
    when_closes: WhenWindowCloses,
}

impl TryFrom<Stored> for TimeWindow {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let read = Self::read(&stored.window, stored.days, stored.when_closes);
        read.map_err(|error| error.message)
    }
}

impl From<TimeWindow> for Stored {
    fn from(window: TimeWindow) -> Self {
        Self { window: window.text, days: window.days, when_closes: window.when_closes }
    }
}

impl TimeWindow {
    /// Reads `22:00-06:00 Europe/Berlin`. Messages start with what stands in front of them, `window ...`.
    pub(crate) fn read(
        text: &str,
        mut days: Vec<Day>,
        when_closes: WhenWindowCloses,
    ) -> Result<Self, TimeError> {
        let bad = |part: &str, message: String| TimeError {
            code: "spec::bad_window",
            message,
            help: Some("write it as \"22:00-06:00 Europe/Berlin\"".to_owned()),
            part: part.to_owned(),
        };
        let (hours, name) = text
            .split_once(' ')
            .ok_or_else(|| bad(text, format!("window \"{text}\" names no time zone")))?;
        let (from, to) = hours
            .split_once('-')
            .ok_or_else(|| bad(hours, format!("\"{hours}\" is not a time window")))?;
        let time = |text: &str| {
            clock(text).ok_or_else(|| bad(text, format!("\"{text}\" is not a time of day")))
        };
        let opens = time(from)?;
        // The end of a day is the start of the next.
        let closes = if to == "24:00" { Time::midnight() } else { time(to)? };
        if from == to {
            return Err(TimeError {
                code: "spec::empty_window",
                message: format!("window {hours} is empty"),
                help: Some("leave the window out to run at any time".to_owned()),
                part: hours.to_owned(),
            });
        }
        days.sort_unstable();
        days.dedup();
        Ok(Self {
            opens,
            closes,
            zone: zone(name.trim())?,
            text: text.to_owned(),
            days,
            when_closes,
        })
    }

    /// What happens with items in hand when it closes.
    pub fn when_closes(&self) -> WhenWindowCloses {
        self.when_closes
    }

    /// The window that is open at a moment, else the next one; `None` when there is none in the next four hundred days.
    pub fn opening(&self, now_unix_ms: i64) -> Option<Opening> {
        let now = Timestamp::from_millisecond(now_unix_ms).ok()?;
        let today = self.zone.to_datetime(now).date();
        let enough = now.checked_add(Span::new().hours(24 * MERGE)).ok()?;
        let mut found: Option<(Timestamp, Timestamp)> = None;
        for ahead in -2..=LOOK_AHEAD {
            let day = today.checked_add(Span::new().days(ahead)).ok()?;
            let Some((opens, closes)) = self.on(day) else {
                continue;
            };
            match &mut found {
                Some(found) if found.1 >= opens => found.1 = closes,
                Some(found) if found.1 > now => break,
                _ => found = Some((opens, closes)),
            }
            if closes > enough {
                break;
            }
        }
        let (opens, closes) = found.filter(|(_, closes)| *closes > now)?;
        Some(Opening {
            opens_unix_ms: opens.as_millisecond(),
            closes_unix_ms: closes.as_millisecond(),
        })
    }

    /// The window that opens on a day, if one does.
    fn on(&self, day: Date) -> Option<(Timestamp, Timestamp)> {
        if !self.days.is_empty() && !self.days.contains(&day_of(day.weekday())) {
            return None;
        }
        let last = if self.closes > self.opens { day } else { day.tomorrow().ok()? };
        let opens = first_at(&self.zone, day.to_datetime(self.opens))?;
        let closes = first_at(&self.zone, last.to_datetime(self.closes))?;
        (opens < closes).then_some((opens, closes))
    }
}

/// A day in the words of a spec.
pub(crate) fn day_of(weekday: Weekday) -> Day {
    match weekday {
        Weekday::Monday => Day::Mon,
        Weekday::Tuesday => Day::Tue,
        Weekday::Wednesday => Day::Wed,
        Weekday::Thursday => Day::Thu,
        Weekday::Friday => Day::Fri,
        Weekday::Saturday => Day::Sat,
        Weekday::Sunday => Day::Sun,
    }
}

#[cfg(test)]
mod tests;
