//! What a scheduler tells Prometheus: counts of what is open.

use crate::lab::{Lab, failed, ok, report};
use crate::webhooks::telling;

/// The figures of a name, as `label value`.
async fn figures(lab: &Lab, name: &str) -> Vec<String> {
    let figures = lab.scheduler.figures().await.unwrap();
    let of_name = figures.iter().filter(|figure| figure.name == name);
    of_name.map(|figure| format!("{} {}", figure.label, figure.value)).collect()
}

async fn age(lab: &Lab, of: &str) -> f64 {
    let figures = lab.scheduler.figures().await.unwrap();
    let mut ages = figures.iter().filter(|figure| figure.name == "oldest_waiting_seconds");
    ages.find(|figure| figure.label == of).unwrap().value
}

#[tokio::test]
async fn figures_count_jobs_items_leases_workers_and_notifications() {
    let lab = Lab::new().await;
    lab.submitted().await;
    let begun = telling(&lab, &["started"]).await;
    lab.ready(7, 2).await;
    lab.advance(100).await;
    lab.submitted().await;
    let paused = lab.ready(5, 5).await;
    assert!(lab.alice.pause(paused).await.unwrap());
    assert!((100.0..160.0).contains(&age(&lab, "submitted").await));
    assert!((100.0..160.0).contains(&age(&lab, "ready").await));
    assert_eq!(figures(&lab, "webhooks_waiting").await, [" 0"]);

    let (worker, drained) = (lab.register("w").await, lab.register("d").await);
    lab.sql(&format!("select nightshift.drain_worker({}, true)", drained.0)).await;
    let mut lease = lab.claim(worker).await;
    assert_eq!(lease.job, begun);
    let items = vec![ok(lease.first_item), failed(lease.first_item + 1, "x")];
    lab.worker.progress(&mut lease, &report(items)).await.unwrap();
    let n_items = lab.job(begun).await.n_items.unwrap();
    let waiting = n_items + 7 + 5 - 2;
    assert_eq!(
        figures(&lab, "jobs").await,
        ["submitted 2", "ready 2", "paused 1", "closing 0", "cancelling 0"]
    );
    assert_eq!(
        figures(&lab, "active_items").await,
        ["ok 1", "failed 1", "skipped 0", &format!("waiting {waiting}")]
    );
    assert_eq!(figures(&lab, "leases").await, [" 1"]);
    assert_eq!(figures(&lab, "workers").await, ["live 1", "draining 1"]);
    assert_eq!(figures(&lab, "webhooks_waiting").await, [" 1"]);
    lab.alice.cancel(begun).await.unwrap();
    lab.worker.release(&lease, &report(vec![])).await.unwrap();
    assert_eq!(
        figures(&lab, "active_items").await,
        ["ok 0", "failed 0", "skipped 0", "waiting 12"],
        "what has ended is not counted"
    );
    assert_eq!(figures(&lab, "leases").await, [" 0"]);
}
