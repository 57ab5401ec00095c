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

/// Why a job waits, and the verb that lets it go on, where its user can: `resume(3)` of the database is `nightshift resume 3` at a shell.
#[must_use]
pub fn at_a_shell(why: &str, call: Option<&str>, id: Option<i64>) -> String {
    let verb = match call {
        Some("release" | "resume") => "resume",
        Some("resume_schedule") => "schedule resume",
        _ => return why.to_owned(),
    };
    match id {
        Some(id) => format!("{why}; `nightshift {verb} {id}`"),
        None => why.to_owned(),
    }
}

/// Why a job waits, at a shell.
#[must_use]
pub fn why(view: &JobView) -> Option<String> {
    Some(at_a_shell(view.reason.as_deref()?, view.call.as_deref(), view.call_id))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_what_one_may_type() {
        assert_eq!(at_a_shell("paused", Some("resume"), Some(3)), "paused; `nightshift resume 3`");
        assert_eq!(at_a_shell("held", Some("release"), Some(3)), "held; `nightshift resume 3`");
        let run = at_a_shell("run 2: paused", Some("resume_schedule"), Some(12));
        assert_eq!(run, "run 2: paused; `nightshift schedule resume 12`");
        assert_eq!(at_a_shell("no worker is running", None, None), "no worker is running");
    }
}
