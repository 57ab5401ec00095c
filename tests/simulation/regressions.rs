//! Sequences that once broke a rule, shortened; and those that chance makes too seldom.

use nightshift_jobs::WhenWindowCloses;

use crate::op::{Command, Items, Op, What};
use crate::promise::{Hours, Wish};
use crate::run;

/// Six items in two shards, and nothing else asked for.
const PLAIN: Wish = Wish {
    items: 6,
    shard_items: 4,
    max_attempts: 3,
    max_failed: None,
    priority: 0,
    hold: false,
    max_gpu: None,
    hours: None,
    not_before: None,
    after: None,
};

#[tokio::test]
async fn a_shard_that_is_given_back_counts_against_the_limit_of_failed_items() {
    let ops = [
        Op::Submit { wish: Wish { max_failed: Some(0), ..PLAIN }, held: false, dropped: false },
        Op::Plan { good: true },
        Op::Claim { worker: 0, n: 3, dropped: false },
        Op::Say { lease: 0, what: What::Release, items: Items::Failed, calls: 1 },
    ];
    run::replay("given back over the limit", &ops).await;
}

fn submit(wish: Wish) -> Op {
    Op::Submit { wish, held: false, dropped: false }
}

fn claim(worker: u8, n: u8) -> Op {
    Op::Claim { worker, n, dropped: false }
}

/// The worker of the only lease says this.
fn say(what: What, items: Items) -> Op {
    Op::Say { lease: 0, what, items, calls: 1 }
}

#[tokio::test]
async fn a_window_that_closes_on_a_lease_is_over_for_it_by_its_rule() {
    for rule in [WhenWindowCloses::Pause, WhenWindowCloses::FinishItem, WhenWindowCloses::Overrun] {
        let hours = Some(Hours { opens: 1, minutes: 2, rule });
        let ops = [
            submit(Wish { hours, ..PLAIN }),
            Op::Plan { good: true },
            Op::Tick,
            claim(0, 1),
            say(What::Progress, Items::Some),
            Op::Tick, // the rule `pause` knows by now how long an item takes
            say(What::Release, Items::None),
            Op::Forward { ms: 115_000 },
            claim(0, 1),
            say(What::Progress, Items::None),
            Op::Forward { ms: 5_000 },
            claim(1, 2),
            say(What::Progress, Items::None),
            Op::Tick,
            claim(1, 2),
            say(What::Progress, Items::None),
            say(What::Finish, Items::All),
            Op::Tick,
            claim(1, 2),
        ];
        run::replay(&format!("a window with the rule {rule:?}"), &ops).await;
    }
}

#[tokio::test]
async fn a_job_that_has_started_goes_on_when_what_it_waited_for_runs_again() {
    let ops = [
        submit(Wish { items: 2, ..PLAIN }),
        Op::Plan { good: true },
        submit(Wish { after: Some(0), ..PLAIN }),
        Op::Plan { good: true },
        claim(0, 1),
        say(What::Finish, Items::Mixed),
        claim(0, 1),
        say(What::Finish, Items::None),
        Op::Tick,
        claim(0, 1),
        say(What::Release, Items::None),
        command(0, Command::Retry),
        command(1, Command::Hold),
        command(1, Command::Unhold),
        claim(0, 4),
    ];
    run::replay("a job whose predecessor runs again", &ops).await;
}

#[tokio::test]
async fn a_job_without_items_is_closed_when_what_it_waits_for_has_ended() {
    let ops = [
        submit(PLAIN),
        Op::Plan { good: true },
        submit(Wish { items: 0, after: Some(0), ..PLAIN }),
        Op::Plan { good: true },
        claim(0, 4),
    ];
    run::replay("an empty job that waits", &ops).await;
}

fn command(job: u8, command: Command) -> Op {
    Op::Command { job, command, calls: 1 }
}
