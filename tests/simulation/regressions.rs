//! Sequences that once broke a rule, shortened.

use crate::op::{Items, Op, What};
use crate::run;

#[tokio::test]
async fn a_shard_that_is_given_back_counts_against_the_limit_of_failed_items() {
    let ops = [
        Op::Submit {
            items: 6,
            shard_items: 4,
            max_attempts: 3,
            max_failed: Some(0),
            priority: 0,
            held: false,
            dropped: false,
        },
        Op::Plan { good: true },
        Op::Claim {
            worker: 0,
            n: 3,
            dropped: false,
        },
        Op::Say {
            lease: 0,
            what: What::Release,
            items: Items::Failed,
            calls: 1,
        },
    ];
    run::replay("given back over the limit", &ops).await;
}
