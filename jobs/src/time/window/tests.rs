use std::collections::BTreeMap;

use jiff::civil::DateTime;

use super::*;

fn window(text: &str, days: &[Day]) -> TimeWindow {
    TimeWindow::read(text, days.to_vec(), WhenWindowCloses::Pause).unwrap()
}

/// The opening at a moment, both moments in UTC.
fn opening(window: &TimeWindow, now: &str) -> (String, String) {
    let now: Timestamp = now.parse().unwrap();
    let found = window.opening(now.as_millisecond()).unwrap();
    let utc = |ms| Timestamp::from_millisecond(ms).unwrap().to_string();
    (utc(found.opens_unix_ms), utc(found.closes_unix_ms))
}

#[test]
fn windows_are_read_and_written_as_they_were() {
    let overnight = window("22:00-06:00 Europe/Berlin", &[Day::Fri, Day::Mon]);
    let json = serde_json::to_value(&overnight).unwrap();
    let expected = serde_json::json!({
        "window": "22:00-06:00 Europe/Berlin", "days": ["mon", "fri"], "when_closes": "pause",
    });
    assert_eq!(json, expected);
    assert_eq!(serde_json::from_value::<TimeWindow>(json).unwrap(), overnight);
    for good in ["00:00-23:59 UTC", "00:00-24:00 UTC", "18:30-24:00 UTC"] {
        window(good, &[]);
    }
    for bad in [
        "22:00-06:00",
        "22-06 UTC",
        "25:00-06:00 UTC",
        "24:00-06:00 UTC",
        "22:00 UTC",
        "22:00-22:00 UTC",
        "22:00-06:00 Berlin",
        "",
        "1320",
    ] {
        assert!(TimeWindow::read(bad, Vec::new(), WhenWindowCloses::Pause).is_err(), "{bad}");
    }
}

#[test]
fn a_night_is_as_long_as_the_clock_makes_it() {
    let berlin = window("22:00-06:00 Europe/Berlin", &[]);
    let night = |now| opening(&berlin, now);
    let utc = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    // Seven hours in spring, nine in autumn.
    assert_eq!(night("2026-03-28T12:00:00Z"), utc("2026-03-28T21:00:00Z", "2026-03-29T04:00:00Z"));
    assert_eq!(night("2026-10-25T03:00:00Z"), utc("2026-10-24T20:00:00Z", "2026-10-25T05:00:00Z"));
    // The moment of closing belongs to the next.
    assert_eq!(night("2026-10-25T05:00:00Z").0, "2026-10-25T21:00:00Z");
    // What begins at a time that does not exist begins at the jump; what lies there as a whole is left out.
    let gap = window("02:30-05:00 Europe/Berlin", &[]);
    assert_eq!(
        opening(&gap, "2026-03-29T00:59:00Z"),
        utc("2026-03-29T01:00:00Z", "2026-03-29T03:00:00Z")
    );
    let inside = window("02:10-02:50 Europe/Berlin", &[Day::Sun]);
    assert_eq!(opening(&inside, "2026-03-28T12:00:00Z").0, "2026-04-05T00:10:00Z");
    // The repeated hour counts once.
    let fold = window("02:00-02:30 Europe/Berlin", &[]);
    assert_eq!(
        opening(&fold, "2026-10-25T00:00:00Z"),
        utc("2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z")
    );
    assert_eq!(opening(&fold, "2026-10-25T01:10:00Z").0, "2026-10-26T01:00:00Z");
}

#[test]
fn days_name_the_day_it_opens_and_windows_that_touch_are_one() {
    let weekdays = window("22:00-06:00 UTC", &[Day::Fri]);
    // 2026-11-27 is a Friday.
    assert_eq!(opening(&weekdays, "2026-11-28T05:00:00Z").0, "2026-11-27T22:00:00Z");
    assert_eq!(opening(&weekdays, "2026-11-28T06:00:00Z").0, "2026-12-04T22:00:00Z");
    let weekend = window("00:00-24:00 UTC", &[Day::Sat, Day::Sun]);
    for now in ["2026-11-27T12:00:00Z", "2026-11-29T12:00:00Z"] {
        assert_eq!(
            opening(&weekend, now),
            ("2026-11-28T00:00:00Z".into(), "2026-11-30T00:00:00Z".into())
        );
    }
    let always = window("00:00-24:00 UTC", &[]);
    let (opens, closes) = opening(&always, "2026-11-27T12:00:00Z");
    assert!(opens.as_str() < "2026-11-27T12" && closes.as_str() > "2026-12-04");
}

/// A zone's wall clock, minute by minute, around a night on which it is changed.
struct Minutes {
    first: Timestamp,
    shown: Vec<DateTime>,
}

impl Minutes {
    fn around(zone: &TimeZone, midday: &str) -> Self {
        let first: Timestamp = midday.parse().unwrap();
        let shown = (0..4 * 24 * 60)
            .map(|minute| zone.to_datetime(first + Span::new().minutes(minute)))
            .collect();
        Self { first, shown }
    }

    fn first_at_or_after(&self, at: DateTime) -> Option<usize> {
        self.shown.iter().position(|shown| *shown >= at)
    }
}

#[test]
fn openings_are_what_counting_minutes_finds() {
    let times: Vec<String> = [
        "00:00", "00:30", "01:00", "01:30", "01:45", "02:00", "02:15", "02:30", "02:45", "03:00",
        "03:30", "06:00", "12:00", "22:00", "23:30",
    ]
    .map(str::to_owned)
    .to_vec();
    let nights = [
        ("Europe/Berlin", "2026-03-27T12:00:00Z"),
        ("Europe/Berlin", "2026-10-23T12:00:00Z"),
        ("America/New_York", "2026-03-06T12:00:00Z"),
        ("America/New_York", "2026-10-30T12:00:00Z"),
        // Half an hour, on the other side of the world.
        ("Australia/Lord_Howe", "2026-04-03T00:00:00Z"),
        ("Australia/Lord_Howe", "2026-10-02T00:00:00Z"),
    ];
    let (mut changed, mut asked) = (0, 0);
    for (name, midday) in nights {
        let zone = zone(name).unwrap();
        let minutes = Minutes::around(&zone, midday);
        let days = [1, 2, 3].map(|n| minutes.shown[0].date() + Span::new().days(n));
        let mut reached: BTreeMap<DateTime, usize> = BTreeMap::new();
        for day in days {
            for time in &times {
                let at = day.to_datetime(clock(time).unwrap());
                if let Some(minute) = minutes.first_at_or_after(at) {
                    changed += usize::from(minutes.shown[minute] != at);
                    reached.insert(at, minute);
                }
            }
        }
        for from in &times {
            for to in times.iter().filter(|to| *to != from) {
                let window = window(&format!("{from}-{to} {name}"), &[]);
                let (opens, closes) = (clock(from).unwrap(), clock(to).unwrap());
                let mut counted: Vec<(usize, usize)> = Vec::new();
                for day in days {
                    let last = if closes > opens { day } else { day.tomorrow().unwrap() };
                    let (Some(&start), Some(&end)) = (
                        reached.get(&day.to_datetime(opens)),
                        reached.get(&last.to_datetime(closes)),
                    ) else {
                        continue;
                    };
                    match counted.last_mut() {
                        Some(before) if before.1 == start => before.1 = end,
                        _ if start < end => counted.push((start, end)),
                        _ => {}
                    }
                }
                let ms = |minute: usize| minutes.first.as_millisecond() + minute as i64 * 60_000;
                let said = |minute| window.opening(ms(minute)).unwrap();
                for (start, end) in counted {
                    let expected = Opening { opens_unix_ms: ms(start), closes_unix_ms: ms(end) };
                    for minute in [start, (start + end) / 2, end - 1] {
                        assert_eq!(said(minute), expected, "{from}-{to} {name}");
                    }
                    assert!(said(end).opens_unix_ms >= ms(end), "{from}-{to} {name}");
                    asked += 1;
                }
            }
        }
    }
    assert!(asked > 2_000, "only {asked} windows were asked about");
    assert!(changed >= 6, "only {changed} times fell into a jump");
}
