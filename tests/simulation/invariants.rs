//! What must hold after every step. Each rule is one function that says in words what is broken.

use std::collections::BTreeSet;

use nightshift_jobs::WhenWindowCloses;
use nightshift_store::{AttemptOutcome, ItemStatus, JobState, ShardKind, ShardState};

use crate::model::Model;
use crate::promise::ITEM_GPU_MS;
use crate::world::{Job, World};

/// Returns with these words unless the condition holds.
macro_rules! demand {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err(format!($($words)+));
        }
    };
}
pub(crate) use demand;

/// All rules. `retried`: the job that a user retried in this step.
pub(crate) fn check(
    model: &Model,
    before: &World,
    after: &World,
    retried: Option<i64>,
) -> Result<(), String> {
    leases(model, after)?;
    attempts(model, after)?;
    items(model, after)?;
    budgets(model, after)?;
    hours(model, after)?;
    engine_time(model, after)?;
    stopped(model, before, after)?;
    check_stored(model, after)?;
    for job in before.jobs.iter().filter(|job| job.state.is_final()) {
        let now = after.job(job.id);
        demand!(
            now == job || retried == Some(job.id),
            "job {} had ended and changed: {job:?} -> {now:?}",
            job.id
        );
    }
    Ok(())
}

/// The rules that need no history: they compare what is stored with itself.
pub(crate) fn check_stored(model: &Model, after: &World) -> Result<(), String> {
    for job in &after.jobs {
        tiles(job, after)?;
        counts(job, model, after)?;
        states(job, model, after)?;
    }
    Ok(())
}

/// Leased is exactly what was granted and has not ended; nobody else has the token, and no token of a lost lease is left.
fn leases(model: &Model, after: &World) -> Result<(), String> {
    let granted: BTreeSet<_> = (model.grants.iter().filter(|grant| grant.end.is_none()))
        .map(|grant| {
            (
                grant.lease.job,
                grant.lease.shard,
                grant.lease.token,
                Some(grant.lease.worker.0),
                Some(grant.until),
            )
        })
        .collect();
    let leased: BTreeSet<_> =
        (after.shards.iter().filter(|shard| shard.state == ShardState::Leased))
            .map(|shard| (shard.job, shard.shard, shard.token, shard.worker, shard.leased_until))
            .collect();
    demand!(
        granted == leased,
        "leased (job, shard, token, worker, until) is {leased:?}, granted is {granted:?}"
    );
    let mut tokens = BTreeSet::new();
    for shard in &after.shards {
        demand!(tokens.insert(shard.token), "two shards have the token {}", shard.token);
    }
    let lost = model.grants.iter().find(|grant| {
        grant.end == Some(AttemptOutcome::Lost) && tokens.contains(&grant.lease.token)
    });
    demand!(lost.is_none(), "the token of a lost lease is still good: {lost:?}");
    Ok(())
}

/// One attempt for each grant, each with its outcome; lost and failed are told apart.
fn attempts(model: &Model, after: &World) -> Result<(), String> {
    let mut granted: Vec<_> = (model.grants.iter())
        .map(|grant| {
            (
                grant.lease.token,
                grant.lease.job,
                grant.lease.shard,
                grant.lease.attempt,
                grant.lease.worker.0,
                grant.end,
            )
        })
        .collect();
    granted.sort_by_key(|grant| grant.0);
    let stored: Vec<_> = (after.attempts.iter())
        .map(|row| (row.token, row.job, row.shard, row.attempt, row.worker, row.outcome))
        .collect();
    demand!(
        granted == stored,
        "attempts (token, job, shard, attempt, worker, outcome) are {stored:?}, granted was {granted:?}"
    );
    Ok(())
}

/// Exactly the accepted items, as they were first reported.
fn items(model: &Model, after: &World) -> Result<(), String> {
    let accepted: Vec<_> = (model.items.iter())
        .map(|((job, index), item)| (*job, *index, item.status, item.shard, item.attempt))
        .collect();
    let stored: Vec<_> = (after.items.iter())
        .map(|row| (row.job, row.index, row.status, row.shard, row.attempt))
        .collect();
    demand!(
        accepted == stored,
        "items (job, index, status, shard, attempt) are {stored:?}, accepted was {accepted:?}"
    );
    Ok(())
}

/// Failed and lost attempts are counted apart, in this round alone; what was given back costs nothing, neither attempts nor time.
fn budgets(model: &Model, after: &World) -> Result<(), String> {
    for shard in &after.shards {
        let job = after.job(shard.job);
        let spent = |end| model.spent(shard.job, shard.shard, job.round, end) as i32;
        let (failed, lost) = (spent(AttemptOutcome::Failed), spent(AttemptOutcome::Lost));
        let max = job.max_attempts.unwrap_or(i32::MAX);
        let is_open = matches!(shard.state, ShardState::Waiting | ShardState::Leased);
        demand!(
            !is_open || (shard.n_failed_attempts, shard.n_lost_attempts) == (failed, lost),
            "shard {shard:?} had {failed} failed and {lost} lost attempts in this round"
        );
        demand!(
            !is_open || failed.max(lost) < max,
            "shard {shard:?} is out of attempts and goes on"
        );
        demand!(
            shard.state != ShardState::Dead
                || shard.n_failed_attempts.max(shard.n_lost_attempts) >= max,
            "shard {shard:?} has attempts left and is dead"
        );
        let last = model
            .grants
            .iter()
            .rev()
            .find(|grant| (grant.lease.job, grant.lease.shard) == (shard.job, shard.shard));
        if let (Some(at), Some(last)) = (shard.ready_at, last) {
            let costs = matches!(last.end, Some(AttemptOutcome::Failed | AttemptOutcome::Lost));
            demand!(
                costs || at <= model.now,
                "shard {shard:?} waits although its last attempt was given back"
            );
        }
    }
    Ok(())
}

/// A window that is stored lies within one that was promised, and ends earlier than that only for the rule `pause`, by the time of an item.
fn hours(model: &Model, after: &World) -> Result<(), String> {
    for job in after.jobs.iter().filter(|job| job.planned) {
        let promise = &model.promises[&job.id];
        let not_before = promise.not_before.unwrap_or(i64::MIN);
        let Some(window) = &promise.window else {
            demand!(
                (job.opens_at, job.closes_at) == (not_before, i64::MAX),
                "{job:?} has no window, and starts not before {not_before}"
            );
            continue;
        };
        if job.window_closes_at == i64::MIN {
            demand!(
                job.opens_at == i64::MAX,
                "{job:?} has a window that nobody computed, and is open"
            );
            continue;
        }
        let promised = window.opening(job.opens_at).ok_or("it opens every day")?;
        let pause = promise.rule() == Some(WhenWindowCloses::Pause);
        let early = job.window_closes_at - job.closes_at;
        demand!(
            job.opens_at == promised.opens_unix_ms.max(not_before)
                && job.window_closes_at == promised.closes_unix_ms
                && (early == 0 || pause && (1..=ITEM_GPU_MS).contains(&early)),
            "{job:?} has the window {promised:?}, not before {not_before}"
        );
    }
    Ok(())
}

/// Engine time is that of the items that were accepted. A job that has used more than it may goes on no more: what was in flight is all
/// that is added.
fn engine_time(model: &Model, after: &World) -> Result<(), String> {
    for job in &after.jobs {
        let open: i64 = after.open_shards(job.id).map(|shard| shard.gpu_ms).sum();
        let used = model.gpu_ms.get(&job.id).copied().unwrap_or(0);
        demand!(
            job.gpu_ms + open == used,
            "{job:?} and its open shards count {open} more ms of engine time; its items took {used} ms"
        );
        demand!(
            !model.is_over_budget(job.id)
                || !matches!(job.state, JobState::Ready | JobState::Paused),
            "{job:?} is over its budget and goes on"
        );
    }
    Ok(())
}

/// Whatever fails has a reason: items or a closing that failed, a budget, or a job that it waited for and that did not end well.
fn stopped(model: &Model, before: &World, after: &World) -> Result<(), String> {
    let failed = |job: &&Job| job.state == JobState::Failed;
    for job in after.jobs.iter().filter(failed) {
        let was = before.jobs.iter().find(|was| was.id == job.id);
        if was.is_none_or(|was| was.state == JobState::Failed) {
            continue;
        }
        let dead = |of: &i64| {
            let states = [before, after].map(|world| world.job(*of).state);
            let ended_badly = [JobState::Rejected, JobState::Cancelled, JobState::Failed];
            states.iter().any(|state| ended_badly.contains(state))
        };
        let in_vain = !job.started && model.promises[&job.id].after.iter().any(dead);
        let n_failed = model.count(job.id, ItemStatus::Failed);
        let too_many = job.max_failed_items.is_some_and(|max| n_failed > max);
        let closings = after.shards.iter().any(|shard| {
            (shard.job, shard.kind, shard.state) == (job.id, ShardKind::Close, ShardState::Dead)
        });
        demand!(
            in_vain || too_many || closings || model.is_over_budget(job.id),
            "{job:?} failed for no reason"
        );
    }
    Ok(())
}

/// Shards of items tile [0, `next_item`) without gap or overlap; there is at most one closing, of the whole job.
fn tiles(job: &Job, after: &World) -> Result<(), String> {
    let of_kind =
        |kind| after.shards.iter().filter(move |shard| shard.job == job.id && shard.kind == kind);
    let mut ranges: Vec<_> =
        of_kind(ShardKind::Items).map(|shard| (shard.first_item, shard.end_item)).collect();
    ranges.sort_unstable();
    let mut next = 0;
    for (first, end) in &ranges {
        demand!(
            *first == next && end > first,
            "shards of job {} do not tile it: {ranges:?}",
            job.id
        );
        next = *end;
    }
    demand!(
        next == job.next_item && next <= job.n_items.unwrap_or(0),
        "job {job:?} is carved up to {next}"
    );
    demand!(of_kind(ShardKind::Close).count() <= 1, "job {} has two closings", job.id);
    Ok(())
}

/// Counters of shards and jobs are those of the items.
fn counts(job: &Job, model: &Model, after: &World) -> Result<(), String> {
    let mut sum = [job.n_ok, job.n_failed, job.n_skipped];
    for shard in
        after.shards.iter().filter(|shard| shard.job == job.id && shard.kind == ShardKind::Items)
    {
        let of = |status| {
            let in_shard = |item: &&crate::world::Item| {
                (item.job, item.shard, item.status) == (job.id, shard.shard, status)
            };
            after.items.iter().filter(in_shard).count() as i64
        };
        let items = [of(ItemStatus::Ok), of(ItemStatus::Failed), of(ItemStatus::Skipped)];
        demand!(
            [shard.n_ok, shard.n_failed, shard.n_skipped] == items,
            "shard {shard:?} has items {items:?}"
        );
        if matches!(shard.state, ShardState::Waiting | ShardState::Leased) {
            sum.iter_mut().zip(items).for_each(|(sum, n)| *sum += n);
        }
        let whole = items.iter().sum::<i64>() == shard.end_item - shard.first_item;
        demand!(
            whole || !matches!(shard.state, ShardState::Finished | ShardState::Dead),
            "shard {shard:?} ended without all of its items"
        );
    }
    let items = [ItemStatus::Ok, ItemStatus::Failed, ItemStatus::Skipped]
        .map(|status| model.count(job.id, status));
    demand!(
        sum == items,
        "job {job:?} and its open shards count {sum:?}, its items are {items:?} (ok, failed, skipped)"
    );
    Ok(())
}

/// A state is what the items and shards of its job say.
fn states(job: &Job, model: &Model, after: &World) -> Result<(), String> {
    let [ok, failed, skipped] = [ItemStatus::Ok, ItemStatus::Failed, ItemStatus::Skipped]
        .map(|status| model.count(job.id, status));
    let all = job.n_items == Some(ok + failed + skipped);
    let open = after.open_shards(job.id).count();
    let closings = after.open_shards(job.id).filter(|shard| shard.kind == ShardKind::Close).count();
    let running = open > 0 || job.n_items.is_some_and(|n| job.next_item < n);
    let too_many = job.max_failed_items.is_some_and(|max| failed > max);
    let fits = match job.state {
        JobState::Submitted | JobState::Rejected => open == 0 && !job.planned,
        JobState::Ready | JobState::Paused => running && closings == 0 && !too_many,
        JobState::Closing => all && (open, closings) == (1, 1),
        JobState::Cancelling => {
            open > 0 && after.open_shards(job.id).all(|shard| shard.state == ShardState::Leased)
        }
        JobState::Cancelled => open == 0,
        JobState::Finished => open == 0 && all && failed == 0,
        JobState::FinishedWithErrors => open == 0 && all && failed > 0,
        JobState::Failed => open == 0, // and for a reason, see above
    };
    demand!(
        fits,
        "job {job:?} has {ok} ok, {failed} failed, {skipped} skipped items, {open} open shards, {closings} open closings"
    );
    demand!(job.finished_at.is_some() == job.state.is_final(), "job {job:?} has the wrong end");
    Ok(())
}
