//! Schedule, resources, retries, limits, notifications: where and when a job runs, and who is told.

use std::collections::BTreeMap;

use crate::spec::MaxFailed;
use crate::spec::notify::{DEFAULT_EVENTS, Notify, NotifyEvent};
use crate::spec::running::{Backoff, Running};
use crate::time::cron::Cron;
use crate::time::window::TimeWindow;
use crate::time::{self, TimeError};
use crate::units;
use crate::words::Day;
use crate::yaml::findings::Cx;
use crate::yaml::given::Given;
use crate::yaml::node::quoted;

/// Pauses and limits of time are at most a week.
const MAX_DURATION_S: f64 = 7.0 * 86_400.0;

/// Where and when the job may run. Malformed values are left out; they have been reported.
pub(crate) fn read(cx: &mut Cx<'_>, given: &Given) -> Running {
    let days = days(cx, given);
    let when_closes = given.read("schedule.when_window_closes").unwrap_or_default();
    let window =
        timed(cx, given, "schedule.window", "", |text| TimeWindow::read(text, days, when_closes));
    let cron = timed(cx, given, "schedule.cron", "", Cron::read);
    if cx.given("schedule.cron") {
        check_destination_of_runs(cx);
    }
    for (path, needs) in [
        ("schedule.days", "schedule.window"),
        ("schedule.when_window_closes", "schedule.window"),
        ("schedule.when_still_running", "schedule.cron"),
    ] {
        if given.at(path).is_some() && !cx.given(needs) {
            cx.key_error(path, "spec::needs_other", format!("{path} needs {needs}"));
        }
    }
    let mut instant = |path: &str| {
        timed(cx, given, path, &format!("{path}: "), time::instant).map(|at| at.as_millisecond())
    };
    let (not_before, stop_at) = (instant("schedule.not_before"), instant("limits.stop_at"));
    // What ends before it starts never runs.
    if let (Some(from), Some(to)) = (not_before, stop_at)
        && from >= to
    {
        let message = "schedule.not_before is not before limits.stop_at".to_owned();
        cx.error("schedule.not_before", "spec::out_of_range", message);
    }
    let (initial, max) =
        (duration(cx, given, "retry.backoff.initial"), duration(cx, given, "retry.backoff.max"));
    if let (Some(initial), Some(max)) = (initial, max)
        && initial > max
    {
        let message = "retry.backoff.initial is longer than retry.backoff.max".to_owned();
        cx.error("retry.backoff.initial", "spec::out_of_range", message);
    }
    if cx.given("evaluate") {
        cx.missing("evaluate.depth.gt", "name the column of the known depth");
    }
    Running {
        worker_labels: labels(cx, given),
        min_memory_bytes: bytes(cx, given, "resources.gpu.min_memory").unwrap_or(0),
        allow_mixed: given.is_on("resources.allow_mixed"),
        max_gpu_ms: given.read("limits.max_gpu_hours").map(|hours: f64| whole(hours * 3.6e6)),
        item_timeout_ms: duration(cx, given, "limits.item_timeout"),
        stop_at_unix_ms: stop_at,
        not_before_unix_ms: not_before,
        after: given.read("schedule.after").unwrap_or_default(),
        hold: given.is_on("schedule.hold"),
        window,
        cron,
        when_still_running: given.read("schedule.when_still_running").unwrap_or_default(),
        backoff: Backoff::new(initial, max, !given.says("retry.backoff.jitter", "none")),
        retry_classes: given.read("retry.errors"),
    }
}

/// Reads a text about time; a mistake is marked at the part that is wrong.
fn timed<T>(
    cx: &mut Cx<'_>,
    given: &Given,
    path: &str,
    prefix: &str,
    read: impl FnOnce(&str) -> Result<T, TimeError>,
) -> Option<T> {
    read(given.text(path)?)
        .map_err(|error| {
            let at = cx.inside(cx.value_at(path), &error.part, 0);
            cx.error_at_with(
                at,
                path,
                error.code,
                format!("{prefix}{}", error.message),
                error.help,
            );
        })
        .ok()
}

fn days(cx: &mut Cx<'_>, given: &Given) -> Vec<Day> {
    let days: Vec<Day> = given.read("schedule.days").unwrap_or_default();
    let mut distinct = days.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < days.len() {
        let message = "schedule.days has a day twice".to_owned();
        cx.error("schedule.days", "spec::duplicate_value", message);
    }
    days
}

/// Each run of a recurring job needs a destination of its own.
fn check_destination_of_runs(cx: &mut Cx<'_>) {
    let dest = cx.node("output.dest").and_then(|node| node.text()).unwrap_or_default().to_owned();
    let varies = crate::Template::parse(&dest).map_or(true, |dest| {
        dest.places()
            .any(|place| ["job.id", "run.date", "run.index"].contains(&place.path.as_str()))
    });
    if cx.given("output.dest") && !varies {
        let message = "output.dest is the same for every run of schedule.cron".to_owned();
        let help = "add {{ run.date }}, {{ run.index }} or {{ job.id }}".to_owned();
        cx.error_with("output.dest", "spec::dest_not_unique", message, Some(help));
    }
}

fn labels(cx: &mut Cx<'_>, given: &Given) -> BTreeMap<String, String> {
    let labels: BTreeMap<String, String> = given.read("resources.labels").unwrap_or_default();
    for (key, value) in &labels {
        // A worker writes its labels as key=value, separated by commas.
        let bad = |text: &str| text.is_empty() || text.len() > 63 || text.contains([',', '\n']);
        if bad(key) || bad(value) || key.contains('=') {
            let message =
                format!("resources.labels: {} is not a label", quoted(&format!("{key}={value}")));
            let help = "a key and a value have 1 to 63 characters, no comma; a key has no =";
            let path = format!("resources.labels.{key}");
            cx.error_with(&path, "spec::bad_label", message, Some(help.to_owned()));
        }
    }
    labels
}

/// A size such as `512MiB`, in bytes.
pub(crate) fn bytes(cx: &mut Cx<'_>, given: &Given, path: &str) -> Option<u64> {
    let text = given.text(path)?;
    let bytes = units::bytes(text);
    if bytes.is_none() {
        let message = format!("{path}: expected a size such as 512MiB, got {}", quoted(text));
        let help = "units are B, KB, MB, GB, TB, KiB, MiB, GiB, TiB".to_owned();
        cx.error_with(path, "spec::bad_size", message, Some(help));
    }
    bytes
}

/// A duration such as `10s`, in milliseconds.
fn duration(cx: &mut Cx<'_>, given: &Given, path: &str) -> Option<u32> {
    let text = given.text(path)?;
    match units::duration_s(text) {
        None => {
            let message = format!("{path}: expected a duration such as 10s, got {}", quoted(text));
            cx.error_with(
                path,
                "spec::bad_duration",
                message,
                Some("units are ms, s, m, h, d".to_owned()),
            );
            None
        }
        Some(seconds) if seconds > MAX_DURATION_S => {
            cx.error(path, "spec::out_of_range", format!("{path} must be at most 7d"));
            None
        }
        Some(seconds) => u32::try_from(whole(seconds * 1000.0)).ok(),
    }
}

/// The nearest whole number; nothing that is measured here comes near 2^53.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 2^53")]
fn whole(number: f64) -> u64 {
    number.round().clamp(0.0, 9e15) as u64
}

/// The limit of failed items, a number or a share.
pub(crate) fn max_failed(cx: &mut Cx<'_>, given: &Given) -> Option<MaxFailed> {
    let path = "limits.max_failed_items";
    let limit = given.at(path)?;
    let read = match limit.as_str() {
        Some(share) => units::share(share).map(MaxFailed::Share),
        None => limit.as_u64().map(MaxFailed::Items),
    };
    if read.is_none() {
        let message = format!("{path} must be a number, or a share above 0% and up to 100%");
        cx.error(path, "spec::out_of_range", message);
    }
    read
}

/// Who is told of what.
pub(crate) fn notify(cx: &mut Cx<'_>, given: &Given) -> Vec<Notify> {
    (0..given.len("notify")).filter_map(|n| receiver(cx, given, &format!("notify[{n}]"))).collect()
}

fn receiver(cx: &mut Cx<'_>, given: &Given, path: &str) -> Option<Notify> {
    let at = format!("{path}.webhook");
    cx.missing(&at, "webhook: \"https://…\"");
    let webhook = given.text(&at).map(str::to_owned);
    if webhook.as_deref().is_some_and(|webhook| !is_web_address(webhook)) {
        let message = format!("{at} must be an https:// or http:// address");
        cx.error(&at, "spec::bad_uri", message);
    }
    let at = format!("{path}.secret_env");
    let secret_env = given.text(&at).map(str::to_owned);
    let is_variable = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
            && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    };
    if secret_env.as_deref().is_some_and(|name| !is_variable(name)) {
        let help =
            "this looks like a secret; put it into an environment variable and name that here"
                .to_owned();
        let message = format!("{at} must be the name of an environment variable");
        cx.error_with(&at, "spec::secret", message, Some(help));
    }
    let events: Option<Vec<NotifyEvent>> = given.read(&format!("{path}.events"));
    Some(Notify {
        webhook: webhook?,
        events: events.unwrap_or_else(|| DEFAULT_EVENTS.to_vec()),
        secret_env,
    })
}

fn is_web_address(text: &str) -> bool {
    let rest = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && text.bytes().all(|b| b.is_ascii_graphic())
}
