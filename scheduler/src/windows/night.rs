//! A simulated day around a night on which the clock is set: one job for each rule of what happens when the window closes.

use std::time::Duration;

use nightshift_store::{
    Artifact, ItemReport, ItemStatus, JobState, Lease, Registration, Report, Submission, Verdict,
    WorkerId,
};

use crate::lab::Lab;

/// The longest that the database grants.
const LEASE: Duration = Duration::from_secs(3600);
const MINUTE: i64 = 60_000;
/// Simulated time between two looks of everybody.
const STEP: i64 = 5 * MINUTE;
/// How long an item is in its slot.
const ITEM: i64 = 25 * MINUTE;

/// A worker of one slot, and what became of the job that its label leads it to.
struct Machine {
    id: WorkerId,
    lease: Option<Lease>,
    /// The item in the slot, and since when.
    slot: Option<(i64, i64)>,
    /// Items of the lease that have not begun.
    next_item: i64,
    draining: bool,
    claimed: Vec<i64>,
    /// Begin and end of every item.
    items: Vec<(i64, i64)>,
    shards_finished: usize,
}

impl Machine {
    async fn new(lab: &Lab, rule: &str) -> Self {
        let registration = Registration {
            name: rule.to_owned(),
            models: [("tiny/f32/f32".to_owned(), "f00d".to_owned())].into(),
            info: serde_json::json!({"labels": {"rule": rule}, "slots": 1}),
        };
        Self {
            id: lab.worker.register(&registration).await.unwrap(),
            lease: None,
            slot: None,
            next_item: 0,
            draining: false,
            claimed: Vec::new(),
            items: Vec::new(),
            shards_finished: 0,
        }
    }

    /// Finish the item in the slot, report, and go on with the next one unless told otherwise.
    async fn step(&mut self, lab: &Lab, now: i64) {
        let mut report = Report::default();
        if let Some((index, since)) = self.slot
            && now >= since + ITEM
        {
            self.items.push((since, now));
            report.items.push(done(index));
            self.slot = None;
        }
        if let Some(mut lease) = self.lease.take() {
            report.in_flight = self.slot.iter().map(|(index, _)| *index).collect();
            let verdict = lab.worker.progress(&mut lease, &report).await.unwrap();
            self.draining |= verdict == Verdict::Drain;
            assert!(matches!(verdict, Verdict::Continue | Verdict::Drain));
            let idle = self.slot.is_none();
            if idle && self.next_item == lease.end_item {
                let finished = lab.worker.finish(&lease, &Report::default()).await;
                finished.unwrap();
                self.shards_finished += 1;
            } else if idle && self.draining {
                let released = lab.worker.release(&lease, &Report::default()).await;
                released.unwrap();
            } else {
                self.lease = Some(lease);
            }
        }
        if self.lease.is_none() {
            self.draining = false;
            let mut leases = lab.worker.claim(self.id, 1, LEASE).await.unwrap();
            if let Some(lease) = leases.pop() {
                self.claimed.push(now);
                let finished = lab.worker.finished(&lease, -1, 100).await.unwrap();
                self.next_item = lease.first_item + finished.len() as i64;
                self.lease = Some(lease);
            }
        }
        if let Some(lease) = &self.lease
            && self.slot.is_none()
            && !self.draining
            && self.next_item < lease.end_item
        {
            self.slot = Some((self.next_item, now));
            self.next_item += 1;
        }
    }
}

fn done(index: i64) -> ItemReport {
    ItemReport {
        index,
        status: ItemStatus::Ok,
        item_id: Some(format!("{index:032x}")),
        seed: Some(index),
        fingerprint: Some("f00d".to_owned()),
        error_code: None,
        error_message: None,
        artifacts: vec![Artifact {
            role: "image".to_owned(),
            key: format!("{index}.png"),
            bytes: 1,
            sha256: format!("{index:064x}"),
        }],
        gpu_ms: Some(i32::try_from(ITEM).unwrap()),
        tokens: None,
        steps: None,
        info: None,
    }
}

/// A night, 22:00 to 06:00, in Unix milliseconds.
struct Night {
    zone: &'static str,
    opens: i64,
    closes: i64,
    opens_again: i64,
    /// No scheduler looks around the closing, and for long after.
    outage: bool,
}

/// Nine hours: the clock is set back, on 25 October 2026.
const AUTUMN: Night = Night {
    zone: "Europe/Berlin",
    opens: 1_792_872_000_000,
    closes: 1_792_904_400_000,
    opens_again: 1_792_962_000_000,
    outage: false,
};
/// Seven hours: the clock is set forward, on 29 March 2026.
const SPRING: Night = Night {
    zone: "Europe/Berlin",
    opens: 1_774_731_600_000,
    closes: 1_774_756_800_000,
    opens_again: 1_774_814_400_000,
    outage: true,
};
/// Nine hours: autumn in the south, 5 April 2026.
const SOUTHERN_AUTUMN: Night = Night {
    zone: "Australia/Sydney",
    opens: 1_775_300_400_000,
    closes: 1_775_332_800_000,
    opens_again: 1_775_390_400_000,
    outage: true,
};
/// Seven hours: spring in the south, 4 October 2026.
const SOUTHERN_SPRING: Night = Night {
    zone: "Australia/Sydney",
    opens: 1_791_028_800_000,
    closes: 1_791_054_000_000,
    opens_again: 1_791_111_600_000,
    outage: false,
};

fn spec(rule: &str, zone: &str) -> String {
    format!(
        "apiVersion: nightshift/v1\nkind: text_to_image\nmetadata: {{name: {rule}}}\ninput: {{inline: [{{prompt: a night}}]}}\n\
         generate: {{size: 64x64, images_per_prompt: 400, seeds: {{start: 1}}}}\nmodel: {{name: tiny, weights: f32, kv_cache: f32}}\n\
         schedule: {{window: \"22:00-06:00 {zone}\", when_window_closes: {rule}}}\n\
         resources: {{labels: {{rule: {rule}}}, shard_items: 4}}\noutput: {{dest: \"s3://outputs/{rule}/\"}}\n"
    )
}

async fn simulate(night: &Night) {
    let mut lab = Lab::new().await;
    let noon = night.opens - 10 * 60 * MINUTE;
    lab.set_clock(noon);
    let mut machines = Vec::new();
    let mut jobs = Vec::new();
    for rule in ["pause", "finish_item", "overrun"] {
        let submission = Submission { spec: spec(rule, night.zone), ..Submission::default() };
        jobs.push(lab.user.submit(&submission).await.unwrap());
        machines.push(Machine::new(&lab, rule).await);
    }
    let mut now = noon;
    while now < noon + 24 * 60 * MINUTE {
        lab.set_clock(now);
        let down = night.closes - 10 * MINUTE..=night.closes + 4 * 60 * MINUTE;
        if !(night.outage && down.contains(&now)) {
            lab.look("night").await;
        }
        for machine in &mut machines {
            machine.step(&lab, now).await;
        }
        now += STEP;
    }
    for machine in &machines {
        assert!(machine.claimed.len() >= 4, "{:?}", machine.claimed);
        let outside = |at: &&i64| !(night.opens..night.closes).contains(*at);
        assert_eq!(machine.claimed.iter().find(outside), None);
        assert_eq!(machine.claimed[0], night.opens);
    }
    let [pause, finish_item, overrun] = &machines[..] else {
        panic!("three machines");
    };
    let last = |machine: &Machine| *machine.items.last().unwrap();
    let (begun, ended) = last(pause);
    assert!(ended <= night.closes, "an item was in hand after the end");
    // One more would have lasted beyond it, and none was left out that would not.
    assert!(begun + 2 * ITEM + STEP > night.closes);
    let (begun, ended) = last(finish_item);
    assert!(begun < night.closes && ended > night.closes);
    assert!(finish_item.lease.is_none() && finish_item.slot.is_none());
    assert_eq!(overrun.items.len(), 4 * overrun.claimed.len());
    assert_eq!(overrun.shards_finished, overrun.claimed.len());
    assert!(last(overrun).1 > night.closes + ITEM);
    // All go on the next night, and say so.
    for (job, machine) in jobs.iter().zip(&machines) {
        let view = lab.user.job(*job).await.unwrap();
        assert_eq!(view.state, JobState::Ready);
        assert_eq!(view.n_ok, machine.items.len() as i64);
    }
    lab.set_clock(night.opens_again - 1);
    for machine in &mut machines {
        machine.step(&lab, night.opens_again - 1).await;
        assert!(machine.lease.is_none());
    }
    lab.set_clock(night.opens_again);
    for machine in &mut machines {
        machine.step(&lab, night.opens_again).await;
        assert!(machine.lease.is_some());
    }
}

#[tokio::test]
async fn nothing_starts_outside_a_night_on_which_the_clock_is_set_back() {
    simulate(&AUTUMN).await;
}

#[tokio::test]
async fn nothing_starts_outside_a_southern_night_on_which_the_clock_is_set_back() {
    simulate(&SOUTHERN_AUTUMN).await;
}

#[tokio::test]
async fn nothing_starts_outside_a_southern_night_on_which_the_clock_is_set_forward() {
    simulate(&SOUTHERN_SPRING).await;
}

#[tokio::test]
async fn nothing_starts_outside_a_night_on_which_the_clock_is_set_forward() {
    simulate(&SPRING).await;
}
