//! The queue's state machine under chance: random sequences of everything that users, workers, schedulers and accidents do, on a
//! real Postgres, with the rules of the queue checked after every single step.
//!
//! **Goals.** No item is counted twice or lost; no write is accepted on a lease that ended or ran out, with a guessed token, or by
//! another worker; tokens are never reused; shards tile their job; counts add up; attempts that were given back cost nothing; failed
//! and lost attempts are counted apart; ended jobs stay as they are; a claim finds whatever may be claimed, by priority; a call that
//! is refused leaves no trace, and one that is repeated has one effect; a deposed scheduler does nothing; nothing starts outside of its
//! window, too early, over its budget, or before what it waits for has ended well; those who hold leases hear when a window closes, by its
//! rule; every job ends once everything is allowed to run.
//!
//! **How.** [`op`] makes a sequence from a seed; [`run`] carries it out, one call after the other; [`model`] says from the answers
//! alone what must be stored, [`promise`] from the wishes alone when something may start; [`world`] reads what is; [`invariants`] compares. A sequence that breaks a rule is shortened and
//! printed, ready to be pasted into [`regressions`]; `NIGHTSHIFT_SIMULATION_SEED=N` runs the sequence of one seed.
//!
//! **Non-goals.** Calls at the same time ([`storm`] has those, with the rules checked at the end), durations, fair shares, caps of
//! tenants (the store's own tests), nights on which the clock is set (the scheduler's own), objects and pictures (`tests/faults`).
//!
//! **Known nondeterminism.** The database's clock stands still between steps and pauses are not jittered, so a seed always gives the
//! same states. Ids and tokens depend on what ran before in the same database; no rule looks at their values.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod invariants;
mod lab;
mod leaders;
mod locks;
mod model;
mod op;
mod promise;
mod regressions;
mod retries;
mod run;
mod storm;
mod users;
mod workers;
mod world;
mod zombies;

/// Steps of one sequence, before everything is run to its end.
const STEPS: usize = 40;

/// Whether the long forms run.
fn is_full() -> bool {
    std::env::var_os("NIGHTSHIFT_TEST_FULL").is_some()
}

// Two halves, so that they run side by side.
#[tokio::test]
async fn no_sequence_of_an_even_seed_breaks_a_rule() {
    simulate(0).await;
}

#[tokio::test]
async fn no_sequence_of_an_odd_seed_breaks_a_rule() {
    simulate(1).await;
}

/// Runs the sequences of every other seed.
async fn simulate(parity: u64) {
    let seeds = match std::env::var("NIGHTSHIFT_SIMULATION_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("a number");
            seed..seed + 1
        }
        Err(_) => 0..if is_full() { 1_500 } else { 160 },
    };
    let mut lab = lab::Lab::new().await;
    for seed in seeds.filter(|seed| seed % 2 == parity) {
        let ops = op::sequence(seed, STEPS);
        if let Err(broken) = run::run(&mut lab, &ops).await {
            run::replay(&format!("seed {seed}"), &ops).await;
            panic!(
                "seed {seed} broke a rule, but only in a database that was used before: {broken:?}\n{ops:#?}"
            );
        }
    }
}
