//! Schedule, resources, retries, limits, notifications, evaluation: checked here in full, although much of it cannot run yet.

use serde_json::Value as Json;

use crate::read::cx::Cx;
use crate::read::raw::{RawLimits, RawNotify, RawResources, RawRetry, RawSchedule, RawSpec};
use crate::schedule::{self, TimeError};
use crate::spec::MaxFailed;
use crate::units;

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
    if let Some(evaluate) = &raw.evaluate {
        if evaluate
            .depth
            .as_ref()
            .is_none_or(|depth| depth.gt.is_none())
        {
            cx.missing("evaluate.depth.gt", "name the column of the known depth");
        }
        cx.cannot_run("evaluate", "evaluate (scores against known maps)");
    }
}

fn time_error(cx: &mut Cx<'_>, path: &str, prefix: &str, error: TimeError) {
    let at = cx.inside(cx.value_at(path), &error.part, 0);
    cx.error_at(
        at,
        path,
        error.code,
        format!("{prefix}{}", error.message),
        error.help,
    );
}

fn check_schedule(cx: &mut Cx<'_>, schedule: &RawSchedule) {
    if let Some(window) = &schedule.window {
        match schedule::window(window) {
            Ok(_) => cx.cannot_run("schedule.window", "schedule.window"),
            Err(error) => time_error(cx, "schedule.window", "", error),
        }
    }
    if let Some(cron) = &schedule.cron {
        match schedule::cron(cron) {
            Ok(()) => cx.cannot_run("schedule.cron", "schedule.cron"),
            Err(error) => time_error(cx, "schedule.cron", "", error),
        }
        let dest = cx
            .node("output.dest")
            .and_then(|node| node.text())
            .unwrap_or_default()
            .to_owned();
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
    for (path, given) in [
        ("schedule.days", schedule.days.is_some()),
        (
            "schedule.when_window_closes",
            schedule.when_window_closes.is_some(),
        ),
    ] {
        if given && !cx.given("schedule.window") {
            cx.key_error(
                path,
                "spec::needs_other",
                format!("{path} needs schedule.window"),
                None,
            );
        } else if given {
            cx.cannot_run(path, path);
        }
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
    if let Some(memory) = resources
        .gpu
        .as_ref()
        .and_then(|gpu| gpu.min_memory.as_ref())
    {
        check_bytes(cx, "resources.gpu.min_memory", memory);
        cx.cannot_run("resources.gpu.min_memory", "resources.gpu.min_memory");
    }
    if resources
        .labels
        .as_ref()
        .is_some_and(|labels| !labels.is_empty())
    {
        cx.cannot_run("resources.labels", "resources.labels");
    }
    if resources.allow_mixed == Some(true) {
        cx.cannot_run("resources.allow_mixed", "resources.allow_mixed");
    }
}

/// Checks a size such as `512MiB`.
pub(crate) fn check_bytes(cx: &mut Cx<'_>, path: &str, text: &str) {
    if units::bytes(text).is_none() {
        let message = format!(
            "{path}: expected a size such as 512MiB, got {}",
            crate::read::node::quoted(text)
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
    if let Some(backoff) = &retry.backoff {
        for (path, text) in [
            ("retry.backoff.initial", &backoff.initial),
            ("retry.backoff.max", &backoff.max),
        ] {
            if let Some(text) = text
                .as_ref()
                .filter(|text| units::duration_s(text).is_none())
            {
                let message = format!(
                    "{path}: expected a duration such as 10s, got {}",
                    crate::read::node::quoted(text)
                );
                cx.error(
                    path,
                    "spec::bad_duration",
                    message,
                    Some("units are ms, s, m, h, d".to_owned()),
                );
            }
        }
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
        cx.cannot_run("retry.backoff", "retry.backoff");
    }
    if retry.errors.is_some() {
        cx.cannot_run("retry.errors", "retry.errors (classes of failures)");
    }
}

fn check_limits(cx: &mut Cx<'_>, limits: &RawLimits) {
    if limits.max_gpu_hours.is_some() {
        cx.cannot_run("limits.max_gpu_hours", "limits.max_gpu_hours");
    }
    if let Some(stop_at) = &limits.stop_at {
        match schedule::instant(stop_at) {
            Ok(_) => cx.cannot_run("limits.stop_at", "limits.stop_at"),
            Err(error) => time_error(cx, "limits.stop_at", "limits.stop_at: ", error),
        }
    }
    if limits
        .max_failed_items
        .as_ref()
        .is_some_and(|limit| max_failed(limit).is_none())
    {
        let message =
            "limits.max_failed_items must be a number, or a share above 0% and up to 100%"
                .to_owned();
        cx.error(
            "limits.max_failed_items",
            "spec::out_of_range",
            message,
            None,
        );
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
        Some(webhook) if !webhook.starts_with("https://") || webhook.len() <= "https://".len() => {
            let message = format!("{path}.webhook must be an https:// address");
            cx.error(&format!("{path}.webhook"), "spec::bad_uri", message, None);
        }
        Some(_) => {}
    }
    if let Some(name) = &notify.secret_env {
        let good = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
            && name
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
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
    cx.cannot_run(path, "notify");
}
