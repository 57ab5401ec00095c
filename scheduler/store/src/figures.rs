//! Figures for monitoring.

use crate::{Error, Store};

/// One figure of the whole system.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// `jobs`, `active_items`, `leases`, ...
    pub name: String,
    /// State or status it counts; empty when there is but one.
    pub label: String,
    /// Its value.
    pub value: f64,
}

impl Store {
    /// Figures of the whole system, now: cheap, nothing in it grows with what has ended. Role: scheduler, leading or not.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn figures(&self) -> Result<Vec<Figure>, Error> {
        Ok(sqlx::query_as!(
            Figure,
            r#"/* figures */ select name as "name!", label as "label!", value as "value!" from nightshift.figures()"#,
        )
        .fetch_all(&self.pool)
        .await?)
    }
}
