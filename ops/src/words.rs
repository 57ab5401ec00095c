//! Jobs and times in words, for people at a shell.

use nightshift_store::JobView;

/// The state of a job in words; a job that is worked on stays `ready`.
#[must_use]
pub fn standing(view: &JobView) -> String {
    match view.n_leased {
        0 => view.state.to_string(),
        shards => format!("{} ({shards} running)", view.state),
    }
}

/// What the database advises, for people at a shell: `select nightshift.release(3)` is `nightshift resume 3` there.
#[must_use]
pub fn at_a_shell(words: &str) -> String {
    let verbs =
        [("release", "resume"), ("resume", "resume"), ("resume_schedule", "schedule resume")];
    let mut text = words.to_owned();
    for (function, verb) in verbs {
        if let Some((before, call)) = text.split_once(&format!("select nightshift.{function}("))
            && let Some((id, rest)) = call.split_once(')')
        {
            text = format!("{before}`nightshift {verb} {id}`{rest}");
        }
    }
    text
}

/// Unix milliseconds as local time to the second, with its zone.
#[must_use]
pub fn time(unix_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(unix_ms) {
        Ok(at) => {
            at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
        }
        Err(_) => unix_ms.to_string(),
    }
}
