//! `queue`: rows for a forecast, and what a tenant sees of others.

use nightshift_store::Plan;

use crate::lab::{Lab, all_ok};

#[tokio::test]
async fn the_queue_is_in_the_order_of_claims_and_names_only_ones_own() {
    let lab = Lab::new().await;
    let worker = lab.register("w").await;
    let first = lab.ready(10, 4).await;
    lab.ready_of("blue", 5).await;
    let urgent = lab.ready_with(|plan| Plan { priority: 9, n_items: 4, ..plan }).await;
    let lease = lab.claim(worker).await;
    assert_eq!(lease.job, urgent);
    let queue = lab.alice.queue().await.unwrap();
    let said: Vec<_> = queue
        .iter()
        .map(|row| (row.job, row.items_left, row.shards_left, row.n_leased, row.n_workers))
        .collect();
    // The other tenant has had less.
    assert_eq!(said, [(Some(urgent), 4, 1, 1, 1), (None, 5, 5, 0, 1), (Some(first), 10, 3, 0, 1)]);
    let foreign = &queue[1];
    assert_eq!((&foreign.name, &foreign.tenant, &foreign.reason), (&None, &None, &None));
    assert!(queue.iter().all(|row| row.item_ms.is_none()));
    lab.worker.finish(&lease, &all_ok(&lease)).await.unwrap();
    let queue = lab.alice.queue().await.unwrap();
    assert_eq!(queue.len(), 2, "what is being closed is not in it");
    let first_row = queue.iter().find(|row| row.job == Some(first)).unwrap();
    assert_eq!(first_row.item_ms, Some(12.0));
    assert_eq!(first_row.measured_on.as_deref(), Some("its model"));
    assert_eq!(lab.bob.measured_ms(crate::lab::MODEL, "text_to_image").await.unwrap(), Some(12.0));
    assert_eq!(lab.bob.measured_ms(crate::lab::MODEL, "edit").await.unwrap(), None);
    lab.alice.hold(first).await.unwrap();
    let queue = lab.alice.queue().await.unwrap();
    let held = queue.iter().find(|row| row.job == Some(first)).unwrap();
    assert!(held.blocked);
}
