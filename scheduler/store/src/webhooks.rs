//! The outbox of notifications, as the leading scheduler empties it.

use crate::{Error, LeaderTerm, Refusal, Store};

/// A notification to deliver now.
#[derive(Clone)]
pub struct Webhook {
    /// Its row.
    pub id: i64,
    /// What the receiver knows it by: the same at every delivery.
    pub event_id: String,
    /// Where to.
    pub url: String,
    /// Name of the secret that signs it; `None`: unsigned.
    pub secret_name: Option<String>,
    /// JSON, byte for byte the same at every delivery.
    pub body: String,
    /// Number of this delivery, from 1.
    pub attempt: i32,
}

impl std::fmt::Debug for Webhook {
    /// Without the url, whose path may be a secret itself, and the body.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook")
            .field("id", &self.id)
            .field("event_id", &self.event_id)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Why `notify` of a spec is not allowed (JSON array of `webhook`, `events`, `secret_env`); `None`: it is. Role: scheduler.
    ///
    /// # Errors
    /// [`Error::NotLeader`].
    pub async fn notify_refusal(
        &self,
        term: &LeaderTerm,
        job: i64,
        entries: &serde_json::Value,
    ) -> Result<Option<Refusal>, Error> {
        let row = sqlx::query!(
            "/* notify_refusal */ select place, message, hint from nightshift.notify_refusal($1, $2, $3)",
            term.term,
            job,
            entries
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Refusal::read(row.place, row.message, row.hint))
    }

    /// Takes at most `limit` (64) notifications to deliver. Each is due again in 20 seconds unless [`Store::webhook_told`] is called
    /// before: so it is delivered at least once. Role: scheduler.
    ///
    /// # Errors
    /// [`Error::NotLeader`].
    pub async fn webhooks_due(&self, term: &LeaderTerm, limit: i32) -> Result<Vec<Webhook>, Error> {
        Ok(sqlx::query_as!(
            Webhook,
            r#"/* webhooks_due */ select id as "id!", event_id::text as "event_id!", url as "url!", secret_name, body as "body!", attempt as "attempt!"
            from nightshift.webhooks_due($1, $2)"#,
            term.term,
            limit,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Says how a delivery went: the receiver's HTTP status if it answered, and why it did not work (`None`: it was accepted).
    /// `false`: another delivery has begun meanwhile. Role: scheduler.
    ///
    /// # Errors
    /// [`Error::NotLeader`].
    pub async fn webhook_told(
        &self,
        term: &LeaderTerm,
        webhook: &Webhook,
        status: Option<u16>,
        error: Option<&str>,
    ) -> Result<bool, Error> {
        Ok(sqlx::query_scalar!(
            r#"/* webhook_told */ select nightshift.webhook_told($1, $2, $3, $4, $5) as "done!""#,
            term.term,
            webhook.id,
            webhook.attempt,
            status.map(i32::from),
            error,
        )
        .fetch_one(&self.pool)
        .await?)
    }
}
