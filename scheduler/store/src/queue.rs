//! The queue: jobs that are not over, in the order of claims, with what a forecast needs.

use serde::Serialize;

use crate::{Error, Store};

/// A job that is not over. Of another tenant's there is neither id nor name.
#[derive(Debug, Clone, Serialize)]
pub struct QueueRow {
    /// Its id.
    pub job: Option<i64>,
    /// The tenant's name.
    pub tenant: Option<String>,
    /// `metadata.name`.
    pub name: Option<String>,
    /// Tells tenants apart within one answer.
    pub tenant_no: i32,
    /// Engine seconds that the tenant has had lately; they halve in seven days.
    pub usage: f64,
    /// Share of the tenant relative to the others.
    pub weight: f64,
    /// Shards that the tenant may have leased at a time.
    pub max_leased: Option<i32>,
    /// Higher goes first.
    pub priority: i32,
    /// Items that are not final.
    pub items_left: i64,
    /// Shards that are not over, those included that nobody has begun; where each claim decides their size, the most there can be.
    pub shards_left: i64,
    /// Shards leased now.
    pub n_leased: i64,
    /// Engine milliseconds an item takes; `None`: not measured.
    pub item_ms: Option<f64>,
    /// On what that was measured: `this job` or `its model`.
    pub measured_on: Option<String>,
    /// Live workers that may take it.
    pub n_workers: i64,
    /// Live workers.
    pub n_live: i64,
    /// Begin of its current or next window; `None`: always open.
    pub opens_unix_ms: Option<i64>,
    /// End of that window.
    pub closes_unix_ms: Option<i64>,
    /// The window as planned.
    pub time_window: Option<serde_json::Value>,
    /// Jobs that must finish before it starts.
    pub after: Vec<i64>,
    /// It does not go on by itself: paused, held, or its tenant's quota is spent.
    pub blocked: bool,
    /// Why it waits, in words.
    pub reason: Option<String>,
    /// The SQL function that lets it go on, when it waits for its user.
    pub call: Option<String>,
    /// The database's clock.
    pub now_unix_ms: i64,
}

impl Store {
    /// Every job that is not over, in the order of claims. Role: tenant.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn queue(&self) -> Result<Vec<QueueRow>, Error> {
        Ok(sqlx::query_as!(
            QueueRow,
            r#"/* queue */ select job_id as job, tenant, name, tenant_no as "tenant_no!", usage as "usage!", weight as "weight!", max_leased,
                priority as "priority!", items_left as "items_left!", shards_left as "shards_left!", n_leased as "n_leased!", item_ms, measured_on,
                n_workers as "n_workers!", n_live as "n_live!", opens_unix_ms, closes_unix_ms, time_window, after as "after!", blocked as "blocked!",
                reason, call, now_unix_ms as "now_unix_ms!"
            from nightshift.queue()"#
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Engine milliseconds an item took in the last jobs of a model and kind; `None`: none was measured. Role: tenant.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn measured_ms(&self, model_key: &str, kind: &str) -> Result<Option<f64>, Error> {
        Ok(sqlx::query_scalar!(
            "/* measured_ms */ select nightshift.measured_ms($1, $2)",
            model_key,
            kind
        )
        .fetch_one(&self.pool)
        .await?)
    }
}
