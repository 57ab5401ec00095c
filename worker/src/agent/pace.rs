//! How long an item takes here: wall clock from one picture to the next, by job. The database sizes this worker's shards by it.

use std::time::{Duration, Instant};

use serde_json::Value;

/// About so many of the last pictures count; with many slots, eight times as many as there are slots.
const PICTURES: usize = 64;
/// Jobs that are remembered.
const JOBS: usize = 8;

/// Time counts while the worker has items in hand, also when it waits for inputs or uploads. What it had not to draw counts for
/// nothing: a thousand items that were there already must not promise a thousand more.
#[derive(Debug)]
pub(crate) struct Pace {
    slots: usize,
    /// Since the last picture, or since there was something to do.
    since: Option<Instant>,
    /// The one drawn last is the last.
    jobs: Vec<(i64, Drawn)>,
}

#[derive(Debug, Default)]
struct Drawn {
    pictures: u64,
    /// Decaying sums of time and pictures; with several slots, pictures come in bunches.
    ms: f64,
    weight: f64,
}

impl Pace {
    pub(crate) fn new(slots: usize) -> Self {
        Self { slots, since: None, jobs: Vec::new() }
    }

    /// Whether items are in hand now.
    pub(crate) fn working(&mut self, working: bool, now: Instant) {
        match working {
            true => drop(self.since.get_or_insert(now)),
            false => self.since = None,
        }
    }

    /// The engine finished a picture.
    pub(crate) fn drew(&mut self, job: i64, now: Instant) {
        let since = self.since.replace(now).unwrap_or(now);
        let mut drawn = match self.jobs.iter().position(|(known, _)| *known == job) {
            Some(place) => self.jobs.remove(place).1,
            None => Drawn::default(),
        };
        let keep = 1.0 - 1.0 / PICTURES.max(8 * self.slots) as f64;
        drawn.pictures += 1;
        drawn.ms = drawn.ms * keep + ms(now.saturating_duration_since(since));
        drawn.weight = drawn.weight * keep + 1.0;
        if self.jobs.len() >= JOBS {
            self.jobs.remove(0);
        }
        self.jobs.push((job, drawn));
    }

    /// Milliseconds an item by job, of jobs that filled the slots once.
    pub(crate) fn json(&self) -> Value {
        let filled = |drawn: &Drawn| drawn.pictures >= self.slots as u64;
        let told = self.jobs.iter().filter(|(_, drawn)| filled(drawn));
        let told = told.map(|(job, drawn)| {
            let ms = (drawn.ms / drawn.weight).max(1.0).round();
            (job.to_string(), Value::from(ms))
        });
        Value::Object(told.collect())
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Lets `n` pictures of a job come together, again and again.
    fn bunches(
        pace: &mut Pace,
        at: &mut Instant,
        job: i64,
        n: usize,
        each: Duration,
        times: usize,
    ) {
        for _ in 0..times {
            *at += each;
            for _ in 0..n {
                pace.drew(job, *at);
            }
        }
    }

    /// The one job's milliseconds an item.
    fn told(pace: &Pace) -> Option<f64> {
        pace.json()["7"].as_f64()
    }

    #[test]
    fn slots_share_the_time_of_a_bunch() {
        for slots in [8, 100] {
            let (mut pace, mut at) = (Pace::new(slots), Instant::now());
            let near = |ms: f64| ms * 0.9..ms * 1.1;
            pace.working(true, at);
            bunches(&mut pace, &mut at, 7, slots - 1, Duration::from_secs(8), 1);
            assert_eq!(told(&pace), None, "the slots were not full once");
            bunches(&mut pace, &mut at, 7, 1, Duration::ZERO, 1);
            let ms = 8_000.0 / slots as f64;
            assert!(near(ms).contains(&told(&pace).unwrap()), "{pace:?}");
            bunches(&mut pace, &mut at, 7, slots, Duration::from_secs(16), 40);
            assert!(near(2.0 * ms).contains(&told(&pace).unwrap()), "{pace:?}");
        }
    }

    #[test]
    fn waiting_for_work_counts_for_nothing_and_waiting_for_inputs_does() {
        let (mut pace, mut at) = (Pace::new(1), Instant::now());
        pace.working(true, at);
        bunches(&mut pace, &mut at, 7, 1, Duration::from_secs(1), 3);
        pace.working(false, at);
        at += Duration::from_secs(3_600);
        pace.working(true, at);
        at += Duration::from_secs(1);
        pace.working(true, at);
        bunches(&mut pace, &mut at, 7, 1, Duration::ZERO, 1);
        assert_eq!(pace.json(), json!({"7": 1_000.0}));
    }

    #[test]
    fn the_jobs_drawn_last_are_remembered() {
        let (mut pace, mut at) = (Pace::new(1), Instant::now());
        pace.working(true, at);
        for job in 0..8 {
            bunches(&mut pace, &mut at, job, 1, Duration::from_secs(2), 1);
        }
        bunches(&mut pace, &mut at, 0, 1, Duration::from_secs(2), 1);
        bunches(&mut pace, &mut at, 8, 1, Duration::from_secs(2), 1);
        let told = pace.json();
        let jobs: Vec<&String> = told.as_object().unwrap().keys().collect();
        assert_eq!(jobs, ["0", "2", "3", "4", "5", "6", "7", "8"]);
    }
}
