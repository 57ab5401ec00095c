//! What may happen next, and how chance chooses it.
//!
//! An operation names jobs, workers and leases by small numbers, taken modulo what there is: every list of operations means
//! something, so a list with some of them left out does too. That is what makes shrinking simple.

use nightshift_jobs::WhenWindowCloses;

use crate::promise::{Hours, Wish};

/// One step of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// A user submits; `dropped`: the answer is lost and the call repeated with the same key.
    Submit { wish: Wish, held: bool, dropped: bool },
    /// The scheduler plans the oldest submitted job, or rejects it.
    Plan { good: bool },
    /// A worker asks for `n` shards; `dropped`: it never hears the answer.
    Claim { worker: u8, n: u8, dropped: bool },
    /// A worker says something about a lease that it believes in; `calls` times, since replies get lost.
    Say { lease: u8, what: What, items: Items, calls: u8 },
    /// The worker of a lease says something about all of its leases in one call.
    Report { lease: u8, whats: [What; 4], items: Items },
    /// A worker is killed: nobody goes on with its leases.
    Vanish { worker: u8 },
    /// Somebody who was thought dead writes after all: any lease ever granted, or one that nobody was granted.
    Zombie { grant: u8, what: What, forged: Forged },
    /// An administrator drains a worker, or undoes it.
    Drain { worker: u8, on: bool },
    /// A user does something to a job; `calls` times.
    Command { job: u8, command: Command, calls: u8 },
    /// The leading scheduler's tick.
    Tick,
    /// Time passes.
    Forward { ms: u32 },
    /// Time passes until something of a job may start, or nothing may any more; or one millisecond less, or more.
    Border { job: u8, off: i8 },
    /// Another scheduler leads: the one before resigned, or was not heard until its term was over.
    Depose { resigned: bool },
    /// The scheduler that led before wakes up.
    StaleTick,
}

/// What a worker says about a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Progress,
    Finish,
    Release,
    Fail,
}

/// Which items of the shard a worker reports with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Items {
    None,
    /// The next one or two that have no row, ok.
    Some,
    /// The next one, failed.
    Failed,
    /// All of the shard, also those that have a row.
    All,
    /// All, the last one failed, the first one skipped.
    Mixed,
    /// One that lies outside of the shard: refused.
    Stray,
}

/// What is wrong with a zombie's lease, besides being late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forged {
    Nothing,
    /// A token that was not handed out yet.
    Token,
    /// The lease of another worker.
    Worker,
    /// The neighbouring shard.
    Shard,
}

/// What users do to jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Pause,
    Resume,
    Hold,
    Unhold,
    Cancel,
    Retry,
}

/// A counter-based generator (splitmix64): the same seed gives the same operations on every machine and for ever.
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u8) -> u8 {
        u8::try_from(self.next() % u64::from(n)).expect("below a byte")
    }

    /// True once in `n` times.
    fn once_in(&mut self, n: u8) -> bool {
        self.below(n) == 0
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.below(u8::try_from(choices.len()).expect("a short list")))]
    }

    fn what(&mut self) -> What {
        self.one_of(&[
            What::Progress,
            What::Progress,
            What::Finish,
            What::Finish,
            What::Release,
            What::Fail,
        ])
    }

    fn items(&mut self) -> Items {
        self.one_of(&[
            Items::None,
            Items::Some,
            Items::Some,
            Items::Failed,
            Items::All,
            Items::All,
            Items::All,
            Items::Mixed,
            Items::Stray,
        ])
    }

    fn calls(&mut self) -> u8 {
        if self.once_in(5) { 2 } else { 1 }
    }

    /// A submission that may run at once.
    fn submit(&mut self) -> Op {
        Op::Submit {
            wish: Wish {
                items: self.below(9),
                shard_items: 1 + self.below(4),
                max_attempts: 1 + self.below(3),
                max_failed: self.once_in(3).then(|| self.below(3)),
                priority: self.below(3),
                hold: false,
                max_gpu: self.once_in(5).then(|| self.below(8)),
                hours: None,
                not_before: None,
                after: None,
            },
            held: self.once_in(8),
            dropped: self.once_in(4),
        }
    }

    /// A submission that may have to wait.
    fn submit_for_later(&mut self) -> Op {
        let mut op = self.submit();
        if let Op::Submit { wish, .. } = &mut op {
            wish.hold = self.once_in(10);
            wish.hours = self.once_in(2).then(|| self.hours());
            wish.not_before = self.once_in(6).then(|| self.one_of(&[0, 4, 90]));
            wish.after = self.once_in(3).then(|| self.below(4));
        }
        op
    }

    fn hours(&mut self) -> Hours {
        Hours {
            opens: self.below(3),
            minutes: 1 + self.below(3),
            rule: self.one_of(&[
                WhenWindowCloses::Pause,
                WhenWindowCloses::FinishItem,
                WhenWindowCloses::Overrun,
            ]),
        }
    }

    fn step(&mut self) -> Op {
        match self.below(100) {
            0..8 => self.submit_for_later(),
            8..16 => Op::Plan { good: !self.once_in(10) },
            16..34 => {
                Op::Claim { worker: self.below(3), n: 1 + self.below(4), dropped: self.once_in(6) }
            }
            34..54 => Op::Say {
                lease: self.below(8),
                what: self.what(),
                items: self.items(),
                calls: self.calls(),
            },
            54..59 => Op::Report {
                lease: self.below(8),
                whats: [self.what(), self.what(), self.what(), self.what()],
                items: self.items(),
            },
            59..62 => Op::Vanish { worker: self.below(3) },
            62..68 => Op::Zombie {
                grant: self.below(32),
                what: self.what(),
                forged: self.one_of(&[
                    Forged::Nothing,
                    Forged::Nothing,
                    Forged::Token,
                    Forged::Worker,
                    Forged::Shard,
                ]),
            },
            68..70 => Op::Drain { worker: self.below(3), on: self.once_in(2) },
            70..79 => Op::Command {
                job: self.below(4),
                command: self.one_of(&[
                    Command::Pause,
                    Command::Resume,
                    Command::Hold,
                    Command::Unhold,
                    Command::Cancel,
                    Command::Retry,
                    Command::Retry,
                ]),
                calls: self.calls(),
            },
            79..88 => Op::Tick,
            88..91 => {
                Op::Forward { ms: self.one_of(&[1, 1_000, 4_000, 9_999, 10_000, 10_001, 60_000]) }
            }
            91..97 => Op::Border { job: self.below(4), off: self.one_of(&[-1, 0, 0, 1]) },
            97..99 => Op::Depose { resigned: self.once_in(2) },
            _ => Op::StaleTick,
        }
    }
}

/// The operations of a seed; the first ones make sure that there is work.
pub(crate) fn sequence(seed: u64, steps: usize) -> Vec<Op> {
    let mut chance = Chance::new(seed);
    let first = match chance.once_in(2) {
        true => chance.submit(),
        false => chance.submit_for_later(),
    };
    let mut ops = vec![first, Op::Plan { good: true }];
    ops.extend((ops.len()..steps).map(|_| chance.step()));
    ops
}
