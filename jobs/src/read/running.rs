//! Schedule, resources, retries, limits, notifications, evaluation.

use serde_json::Value as Json;

use crate::keys::{Jitter, RawLimits, RawNotify, RawResources, RawRetry, RawSchedule, RawSpec};
use crate::spec::MaxFailed;
use crate::spec::notify::{DEFAULT_EVENTS, Notify};
use crate::spec::running::{Backoff, Running};
use crate::time::cron::Cron;
use crate::time::window::TimeWindow;
use crate::time::{self, TimeError};
use crate::units;
use crate::yaml::findings::Cx;

pub(crate) fn check(cx: &mut Cx<'_>, raw: &RawSpec) {
    if let Some(schedule) = &raw.schedule {
        check_schedule(cx, schedule);
    }
    if let Some(resources) = &raw.resources {
        check_resources(cx, resources);
    }
    if let Some(retry) = &raw.retry {
        check_retry(cx, retry);
    }
    if let Some(limits) = &raw.limits {
        check_limits(cx, limits);
    }
    for (n, notify) in raw.notify.iter().flatten().enumerate() {
        check_notify(cx, notify, &format!("notify[{n}]"));
    }
    check_order(cx, raw);
    if let Some(evaluate) = &raw.evaluate {
        if evaluate.depth.as_ref().is_none_or(|depth| depth.gt.is_none()) {
            cx.missing("evaluate.depth.gt", "name the column of the known depth");
        }
        cx.cannot_run("evaluate", "evaluate (scores against known maps)");
    }
}

fn time_error(cx: &mut Cx<'_>, path: &str, prefix: &str, error: TimeError) {
    let at = cx.inside(cx.value_at(path), &error.part, 0);
    cx.error_at(at, path, error.code, format!("{prefix}{}", error.message), error.help);
}

fn check_schedule(cx: &mut Cx<'_>, schedule: &RawSchedule) {
    if let Some(window) = &schedule.window
        && let Err(error) = TimeWindow::read(window, Vec::new(), Default::default())
    {
        time_error(cx, "schedule.window", "", error);
    }
    if let Some(cron) = &schedule.cron {
        if let Err(error) = Cron::read(cron) {
            time_error(cx, "schedule.cron", "", error);
        }
        let dest =
            cx.node("output.dest").and_then(|node| node.text()).unwrap_or_default().to_owned();
        let varies = crate::Template::parse(&dest).map_or(true, |dest| {
            dest.places()
                .any(|place| ["job.id", "run.date", "run.index"].contains(&place.path.as_str()))
        });
        if cx.given("output.dest") && !varies {
            let message = "output.dest is the same for every run of schedule.cron".to_owned();
            let help = "add {{ run.date }}, {{ run.index }} or {{ job.id }}".to_owned();
            cx.error("output.dest", "spec::dest_not_unique", message, Some(help));
        }
    }
    for (path, given, needs) in [
        ("schedule.days", schedule.days.is_some(), "schedule.window"),
        ("schedule.when_window_closes", schedule.when_window_closes.is_some(), "schedule.window"),
        ("schedule.when_still_running", schedule.when_still_running.is_some(), "schedule.cron"),
    ] {
        if given && !cx.given(needs) {
            let message = format!("{path} needs {needs}");
            cx.key_error(path, "spec::needs_other", message, None);
        }
    }
    if let Some(not_before) = &schedule.not_before
        && let Err(error) = time::instant(not_before)
    {
        let path = "schedule.not_before";
        time_error(cx, path, "schedule.not_before: ", error);
    }
    let mut days = schedule.days.clone().unwrap_or_default();
    let given = days.len();
    days.sort_unstable();
    days.dedup();
    if days.len() < given {
        cx.error(
            "schedule.days",
            "spec::duplicate_value",
            "schedule.days has a day twice".to_owned(),
            None,
        );
    }
}

fn check_resources(cx: &mut Cx<'_>, resources: &RawResources) {
    if let Some(memory) = resources.gpu.as_ref().and_then(|gpu| gpu.min_memory.as_ref()) {
        check_bytes(cx, "resources.gpu.min_memory", memory);
    }
    for (key, value) in resources.labels.iter().flatten() {
        // A worker writes its labels as key=value, separated by commas.
        let bad = |text: &str| text.is_empty() || text.len() > 63 || text.contains([',', '\n']);
        if bad(key) || bad(value) || key.contains('=') {
            let message = format!(
                "resources.labels: {} is not a label",
                crate::yaml::node::quoted(&format!("{key}={value}"))
            );
            let help = "a key and a value have 1 to 63 characters, no comma; a key has no =";
            let path = format!("resources.labels.{key}");
            cx.error(&path, "spec::bad_label", message, Some(help.to_owned()));
        }
    }
}

/// Checks a size such as `512MiB`.
pub(crate) fn check_bytes(cx: &mut Cx<'_>, path: &str, text: &str) {
    if units::bytes(text).is_none() {
        let message = format!(
            "{path}: expected a size such as 512MiB, got {}",
            crate::yaml::node::quoted(text)
        );
        cx.error(
            path,
            "spec::bad_size",
            message,
            Some("units are B, KB, MB, GB, TB, KiB, MiB, GiB, TiB".to_owned()),
        );
    }
}

fn check_retry(cx: &mut Cx<'_>, retry: &RawRetry) {
    let Some(backoff) = &retry.backoff else {
        return;
    };
    check_duration(cx, "retry.backoff.initial", backoff.initial.as_deref());
    check_duration(cx, "retry.backoff.max", backoff.max.as_deref());
    let seconds = |text: &Option<String>| text.as_deref().and_then(units::duration_s);
    if let (Some(initial), Some(max)) = (seconds(&backoff.initial), seconds(&backoff.max))
        && initial > max
    {
        cx.error(
            "retry.backoff.initial",
            "spec::out_of_range",
            "retry.backoff.initial is longer than retry.backoff.max".to_owned(),
            None,
        );
    }
}

/// Pauses and limits of time are at most a week.
const MAX_DURATION_S: f64 = 7.0 * 86_400.0;

/// Checks a duration such as `10s`.
fn check_duration(cx: &mut Cx<'_>, path: &str, text: Option<&str>) {
    let Some(text) = text else { return };
    match units::duration_s(text) {
        None => {
            let message = format!(
                "{path}: expected a duration such as 10s, got {}",
                crate::yaml::node::quoted(text)
            );
            let help = "units are ms, s, m, h, d".to_owned();
            cx.error(path, "spec::bad_duration", message, Some(help));
        }
        Some(seconds) if seconds > MAX_DURATION_S => {
            let message = format!("{path} must be at most 7d");
            cx.error(path, "spec::out_of_range", message, None);
        }
        Some(_) => {}
    }
}

/// What ends before it starts never runs.
fn check_order(cx: &mut Cx<'_>, raw: &RawSpec) {
    let running = running(raw);
    if let (Some(from), Some(to)) = (running.not_before_unix_ms, running.stop_at_unix_ms)
        && from >= to
    {
        cx.error(
            "schedule.not_before",
            "spec::out_of_range",
            "schedule.not_before is not before limits.stop_at".to_owned(),
            None,
        );
    }
}

/// Where and when the job may run. What was written wrongly is left out: a mistake was said about it.
pub(crate) fn running(raw: &RawSpec) -> Running {
    let schedule = raw.schedule.clone().unwrap_or_default();
    let resources = raw.resources.clone().unwrap_or_default();
    let retry = raw.retry.clone().unwrap_or_default();
    let limits = raw.limits.clone().unwrap_or_default();
    let backoff = retry.backoff.unwrap_or_default();
    let instant = |text: Option<String>| {
        let at = time::instant(&text?).ok()?;
        Some(at.as_millisecond())
    };
    let memory = resources.gpu.and_then(|gpu| gpu.min_memory);
    let days = schedule.days.unwrap_or_default();
    let when_closes = schedule.when_window_closes.unwrap_or_default();
    Running {
        worker_labels: resources.labels.unwrap_or_default(),
        min_memory_bytes: memory.and_then(|text| units::bytes(&text)).unwrap_or(0),
        allow_mixed: resources.allow_mixed.unwrap_or(false),
        max_gpu_ms: limits.max_gpu_hours.map(|hours| whole(hours * 3.6e6)),
        item_timeout_ms: millis(limits.item_timeout.as_deref()),
        stop_at_unix_ms: instant(limits.stop_at),
        not_before_unix_ms: instant(schedule.not_before),
        after: schedule.after.unwrap_or_default(),
        hold: schedule.hold.unwrap_or(false),
        window: schedule.window.and_then(|text| TimeWindow::read(&text, days, when_closes).ok()),
        cron: schedule.cron.and_then(|text| Cron::read(&text).ok()),
        when_still_running: schedule.when_still_running.unwrap_or_default(),
        backoff: Backoff::new(
            millis(backoff.initial.as_deref()),
            millis(backoff.max.as_deref()),
            backoff.jitter != Some(Jitter::None),
        ),
        retry_classes: retry.errors,
    }
}

fn millis(text: Option<&str>) -> Option<u32> {
    let seconds = units::duration_s(text?).filter(|seconds| *seconds <= MAX_DURATION_S)?;
    u32::try_from(whole(seconds * 1000.0)).ok()
}

/// The nearest whole number; nothing that is measured here comes near 2^53.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 2^53")]
fn whole(number: f64) -> u64 {
    number.round().clamp(0.0, 9e15) as u64
}

fn check_limits(cx: &mut Cx<'_>, limits: &RawLimits) {
    check_duration(cx, "limits.item_timeout", limits.item_timeout.as_deref());
    if let Some(stop_at) = &limits.stop_at
        && let Err(error) = time::instant(stop_at)
    {
        time_error(cx, "limits.stop_at", "limits.stop_at: ", error);
    }
    if limits.max_failed_items.as_ref().is_some_and(|limit| max_failed(limit).is_none()) {
        let message =
            "limits.max_failed_items must be a number, or a share above 0% and up to 100%"
                .to_owned();
        cx.error("limits.max_failed_items", "spec::out_of_range", message, None);
    }
}

/// The limit of failed items, from a number or a share.
pub(crate) fn max_failed(limit: &Json) -> Option<MaxFailed> {
    match limit {
        Json::Number(number) => number.as_u64().map(MaxFailed::Items),
        Json::String(share) => units::share(share).map(MaxFailed::Share),
        _ => None,
    }
}

fn check_notify(cx: &mut Cx<'_>, notify: &RawNotify, path: &str) {
    match &notify.webhook {
        None => cx.missing(&format!("{path}.webhook"), "webhook: \"https://…\""),
        Some(webhook) if !is_web_address(webhook) => {
            let message = format!("{path}.webhook must be an https:// or http:// address");
            cx.error(&format!("{path}.webhook"), "spec::bad_uri", message, None);
        }
        Some(_) => {}
    }
    if let Some(name) = &notify.secret_env {
        let good = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
            && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        if !good {
            let at = format!("{path}.secret_env");
            let help =
                "this looks like a secret; put it into an environment variable and name that here"
                    .to_owned();
            cx.error(
                &at,
                "spec::secret",
                format!("{at} must be the name of an environment variable"),
                Some(help),
            );
        }
    }
}

fn is_web_address(text: &str) -> bool {
    let rest = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && text.bytes().all(|b| b.is_ascii_graphic())
}

/// A receiver; none when it has no address, which is a mistake that was told.
pub(crate) fn notify(raw: RawNotify) -> Option<Notify> {
    Some(Notify {
        webhook: raw.webhook?,
        events: raw.events.unwrap_or_else(|| DEFAULT_EVENTS.to_vec()),
        secret_env: raw.secret_env,
    })
}
