//! A database whose clock stands where a test puts it, and the looks of schedulers, so that days pass in seconds.

use std::time::Duration;

use nightshift_lab::{Database, SCHEDULER, Session, USER, WORKER};
use nightshift_objects::{Objects, StoreConfig};
use nightshift_store::Store;
use tokio::sync::watch;

use crate::plan::plan_job;
use crate::schedules::advance_schedules;
use crate::windows::refresh_windows;

/// A database whose clock stands where the test puts it. Field order: connections go before the database.
pub(crate) struct Lab {
    pub(crate) user: Store,
    scheduler: Store,
    pub(crate) worker: Store,
    objects: Objects,
    clock: Session,
    _database: Database,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let database = Database::fresh().await;
        database.take_clock();
        // Nothing is read from it: inputs stand in the specs, and what does not answer says nothing of a destination.
        let objects = Objects::connect(StoreConfig {
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            access_key_id: Some("none".to_owned()),
            secret_access_key: Some("none".to_owned()),
            retry_budget: Duration::ZERO,
            ..StoreConfig::default()
        })
        .await
        .unwrap();
        Self {
            user: database.store(USER).await,
            scheduler: database.store(SCHEDULER).await,
            worker: database.store(WORKER).await,
            objects,
            clock: database.session(),
            _database: database,
        }
    }

    pub(crate) fn set_clock(&mut self, unix_ms: i64) {
        self.clock.run(&format!("update lab.clock set at = to_timestamp({unix_ms} / 1000.0);"));
    }

    /// What a scheduler does in one look, if it leads.
    pub(crate) async fn look(&self, holder: &str) {
        let term = self.scheduler.lead(holder, Duration::from_secs(600)).await;
        let Some(term) = term.unwrap() else { return };
        advance_schedules(&self.scheduler, &term).await.unwrap();
        self.scheduler.tick(&term).await.unwrap();
        refresh_windows(&self.scheduler, &term).await.unwrap();
        for job in self.scheduler.submitted(&term, 10).await.unwrap() {
            let (_, term) = watch::channel(term.clone());
            plan_job(&self.scheduler, &self.objects, &term, &job).await.unwrap();
        }
    }
}
