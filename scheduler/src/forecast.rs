//! When waiting jobs will start and finish. Pure: rows of the queue and a moment in, moments out.
//!
//! An estimate: all live workers are one pool that works without a break at the measured rate; priorities are served one after the
//! other, tenants of a priority by weight, jobs of a tenant by age; what runs on a machine that others need is not modelled.

use std::collections::BTreeMap;

use nightshift_jobs::TimeWindow;
use nightshift_store::QueueRow;

/// What an item counts for until one was measured, in engine milliseconds; as in claims.
const UNMEASURED_MS: f64 = 10_000.0;
/// The forecast looks no further ahead.
const HORIZON_MS: i64 = 366 * 86_400_000;
/// Changes that are followed: openings, closings, ends of jobs.
const MAX_STEPS: usize = 5_000;

/// When one job runs, in Unix milliseconds. `None`: not within a year, or it cannot be computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forecast {
    /// When its next item is begun.
    pub starts_unix_ms: Option<i64>,
    /// When its last item is done.
    pub finishes_unix_ms: Option<i64>,
}

/// A job on its way through the simulation.
struct Course {
    window: Option<TimeWindow>,
    opens: i64,
    closes: i64,
    /// Engine time that is left.
    left_ms: f64,
    forecast: Forecast,
    /// Its end, also when nothing was measured.
    over_at: Option<i64>,
}

impl Course {
    fn new(row: &QueueRow, now: i64) -> Self {
        let window = row.time_window.clone();
        let items = row.items_left.max(0) as f64;
        Self {
            window: window.and_then(|json| serde_json::from_value(json).ok()),
            opens: row.opens_unix_ms.unwrap_or(i64::MIN),
            closes: row.closes_unix_ms.unwrap_or(i64::MAX),
            left_ms: items * row.item_ms.unwrap_or(UNMEASURED_MS),
            forecast: Forecast {
                starts_unix_ms: (row.n_leased > 0).then_some(now),
                finishes_unix_ms: None,
            },
            over_at: (row.items_left <= 0).then_some(now),
        }
    }

    /// Moves on to the window that is open at a moment or opens next.
    fn turn_to(&mut self, at: i64) {
        // A window that was never computed opens when it would.
        if at >= self.closes || (self.opens == i64::MAX && self.window.is_some()) {
            let opening = self.window.as_ref().and_then(|window| window.opening(at));
            (self.opens, self.closes) = opening.map_or((i64::MAX, i64::MAX), |opening| {
                (opening.opens_unix_ms, opening.closes_unix_ms)
            });
        }
    }
}

/// Predicts every row, in order. `rows` are in the order of claims, as the store gives them.
#[must_use]
pub fn forecast(rows: &[QueueRow], now_unix_ms: i64) -> Vec<Forecast> {
    let mut courses: Vec<Course> = rows.iter().map(|row| Course::new(row, now_unix_ms)).collect();
    let mut now = now_unix_ms;
    for _ in 0..MAX_STEPS {
        for course in &mut courses {
            course.turn_to(now);
        }
        let workers = share_out(rows, &ready(rows, &courses, now));
        let next = courses
            .iter()
            .zip(&workers)
            .filter(|(course, _)| course.over_at.is_none())
            .filter_map(|(course, workers)| next_change(course, *workers, now))
            .min();
        for (course, workers) in courses.iter_mut().zip(&workers) {
            if *workers > 0.0 {
                course.forecast.starts_unix_ms.get_or_insert(now);
            }
        }
        let Some(next) = next.filter(|next| *next <= now_unix_ms.saturating_add(HORIZON_MS)) else {
            break;
        };
        for ((course, workers), row) in courses.iter_mut().zip(&workers).zip(rows) {
            course.left_ms -= workers * (next - now) as f64;
            if *workers > 0.0 && course.left_ms < 1.0 {
                course.over_at = Some(next);
                course.forecast.finishes_unix_ms = row.item_ms.map(|_| next);
            }
        }
        now = next;
    }
    courses.into_iter().map(|course| course.forecast).collect()
}

/// When something changes for a job that is not over: its end, or an end of its window.
fn next_change(course: &Course, workers: f64, now: i64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "beyond the horizon it does not matter")]
    let end = (workers > 0.0).then(|| now.saturating_add((course.left_ms / workers).ceil() as i64));
    [end, Some(course.opens), Some(course.closes)]
        .into_iter()
        .flatten()
        .filter(|at| *at > now && *at < i64::MAX)
        .min()
}

/// Which jobs could be worked on at a moment.
fn ready(rows: &[QueueRow], courses: &[Course], now: i64) -> Vec<bool> {
    let over = |job: &i64| {
        let place = rows.iter().position(|row| row.job == Some(*job));
        // What is not in the queue has finished; a job that failed takes along what waits for it.
        place.is_none_or(|place| courses[place].over_at.is_some())
    };
    rows.iter()
        .zip(courses)
        .map(|(row, course)| {
            !row.blocked
                && course.over_at.is_none()
                && (course.opens..course.closes).contains(&now)
                && row.after.iter().all(over)
        })
        .collect()
}

/// How many workers each job has, in fractions.
fn share_out(rows: &[QueueRow], ready: &[bool]) -> Vec<f64> {
    let mut given = vec![0.0; rows.len()];
    let mut free = rows.iter().map(|row| row.n_live).max().unwrap_or(0) as f64;
    let mut lanes: BTreeMap<i32, BTreeMap<i32, Vec<usize>>> = BTreeMap::new();
    for (place, row) in rows.iter().enumerate().filter(|(place, _)| ready[*place]) {
        let lane = lanes.entry(-row.priority).or_default();
        lane.entry(row.tenant_no).or_default().push(place);
    }
    for tenants in lanes.values() {
        let wants =
            |place: &usize| rows[*place].n_workers.min(rows[*place].shards_left).max(0) as f64;
        let tenants: Vec<(&Vec<usize>, f64, f64)> = tenants
            .values()
            .map(|places| {
                let row = &rows[places[0]];
                let most = row.max_leased.map_or(f64::INFINITY, f64::from);
                let demand = places.iter().map(wants).sum::<f64>().min(most);
                (places, demand, row.weight)
            })
            .collect();
        let demands: Vec<(f64, f64)> = tenants.iter().map(|(_, d, w)| (*d, *w)).collect();
        for ((places, _, _), mut share) in tenants.iter().zip(fill(free, &demands)) {
            free -= share;
            for place in *places {
                given[*place] = share.min(wants(place));
                share -= given[*place];
            }
        }
    }
    given
}

/// Shares out by weight; what one does not need goes to the others. Pairs are (demand, weight).
fn fill(free: f64, demands: &[(f64, f64)]) -> Vec<f64> {
    let mut given = vec![0.0; demands.len()];
    let mut left = free;
    loop {
        let hungry: Vec<usize> =
            (0..demands.len()).filter(|i| demands[*i].0 - given[*i] > 1e-9).collect();
        let weights: f64 = hungry.iter().map(|i| demands[*i].1).sum();
        if left < 1e-9 || hungry.is_empty() {
            return given;
        }
        let portion = left / weights;
        for i in hungry {
            let more = (portion * demands[i].1).min(demands[i].0 - given[i]);
            given[i] += more;
            left -= more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000;
    const HOUR: i64 = 3_600 * SECOND;

    /// A job of 100 items of a second, in shards of 10, that any of two workers may take.
    fn row(job: i64) -> QueueRow {
        QueueRow {
            job: Some(job),
            tenant: Some("default".to_owned()),
            name: Some(format!("job-{job}")),
            tenant_no: 1,
            usage: 0.0,
            weight: 1.0,
            max_leased: None,
            priority: 50,
            items_left: 100,
            shards_left: 10,
            n_leased: 0,
            item_ms: Some(1_000.0),
            measured_on: Some("this job".to_owned()),
            n_workers: 2,
            n_live: 2,
            opens_unix_ms: None,
            closes_unix_ms: None,
            time_window: None,
            after: Vec::new(),
            blocked: false,
            reason: None,
            call: None,
            now_unix_ms: 0,
        }
    }

    /// Starts and ends in seconds.
    fn said(rows: &[QueueRow]) -> Vec<(Option<i64>, Option<i64>)> {
        let seconds = |at: Option<i64>| at.map(|at| at / SECOND);
        forecast(rows, 0)
            .iter()
            .map(|f| (seconds(f.starts_unix_ms), seconds(f.finishes_unix_ms)))
            .collect()
    }

    #[test]
    fn jobs_of_a_tenant_follow_each_other_and_a_higher_priority_goes_first() {
        assert_eq!(said(&[row(1), row(2)]), [(Some(0), Some(50)), (Some(50), Some(100))]);
        let urgent = QueueRow { priority: 90, ..row(2) };
        assert_eq!(said(&[row(1), urgent]), [(Some(50), Some(100)), (Some(0), Some(50))]);
    }

    #[test]
    fn tenants_share_by_weight_and_within_their_caps() {
        let other = QueueRow { tenant_no: 2, ..row(2) };
        assert_eq!(said(&[row(1), other.clone()]), [(Some(0), Some(100)), (Some(0), Some(100))]);
        let heavy = QueueRow { weight: 3.0, ..other.clone() };
        // Three quarters of two workers, and then the rest.
        assert_eq!(said(&[row(1), heavy]), [(Some(0), Some(100)), (Some(0), Some(66))]);
        let capped = QueueRow { max_leased: Some(1), ..row(1) };
        assert_eq!(said(&[capped]), [(Some(0), Some(100))]);
        let narrow = QueueRow { shards_left: 1, ..row(1) };
        assert_eq!(said(&[narrow]), [(Some(0), Some(100))]);
    }

    #[test]
    fn windows_pause_a_job_and_let_others_go_first() {
        let window = serde_json::json!({"window": "00:01-00:02 UTC", "when_closes": "pause"});
        let night = QueueRow {
            priority: 90,
            items_left: 7_200,
            opens_unix_ms: Some(60 * SECOND),
            closes_unix_ms: Some(120 * SECOND),
            time_window: Some(window),
            ..row(1)
        };
        // Two workers for a minute a day do 120 items.
        let day = 24 * 3_600;
        let ends = said(&[night.clone(), row(2)]);
        assert_eq!(ends[0], (Some(60), Some(59 * day + 120)));
        assert_eq!(ends[1], (Some(0), Some(50)));
        // One that has no other window does not go on, and one that nobody has computed opens all the same.
        let once = QueueRow { time_window: None, ..night.clone() };
        assert_eq!(said(&[once]), [(Some(60), None)]);
        let new = QueueRow {
            opens_unix_ms: Some(i64::MAX),
            closes_unix_ms: None,
            items_left: 60,
            ..night
        };
        assert_eq!(said(&[new]), [(Some(60), Some(90))]);
    }

    #[test]
    fn what_cannot_run_is_not_foretold() {
        let blocked = QueueRow { blocked: true, ..row(1) };
        let nobody = QueueRow { n_workers: 0, ..row(2) };
        let behind = QueueRow { after: vec![4], ..row(3) };
        let unmeasured = QueueRow { item_ms: None, ..row(4) };
        assert_eq!(
            said(&[blocked, nobody, behind, unmeasured]),
            [(None, None), (None, None), (Some(500), Some(550)), (Some(0), None)]
        );
        let far = QueueRow { opens_unix_ms: Some(400 * 24 * HOUR), ..row(5) };
        assert_eq!(said(&[far]), [(None, None)]);
        assert_eq!(said(&[]), []);
    }
}
