//! Notifications leave here: the leader empties the outbox, each delivery signed, at least once, tried again with growing pauses.
//!
//! A delivery is a POST of JSON with these headers:
//! - `nightshift-event-id`: the same at every delivery of one event, for the receiver to know repetitions by;
//! - `nightshift-attempt`: number of the delivery, from 1;
//! - `nightshift-signature`, when the spec names a secret: `t=<Unix seconds>,v1=<hex>`, where hex is the HMAC-SHA256 of
//!   `<Unix seconds>.<body>` under the secret.
//!
//! Any 2xx is acceptance. Redirects are not followed: the tenant's list of places is about the address in the spec.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use nightshift_objects::chain;
use nightshift_store::{Error as StoreError, LeaderTerm, Store, Webhook};
use ring::hmac;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::metrics::Metrics;

/// Pause between two looks into the outbox.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Deliveries at a time.
const AT_ONCE: i32 = 16;
/// The store gives a delivery twenty seconds.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Where secrets come from, by name.
pub(crate) type Secrets = fn(&str) -> Option<String>;

/// Secrets are variables of the scheduler's environment.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Delivers while this process leads.
pub(crate) async fn run(
    store: Store,
    term: watch::Receiver<LeaderTerm>,
    metrics: Arc<Metrics>,
    secrets: Secrets,
) {
    let sender = Sender::new(secrets);
    loop {
        let now = term.borrow().clone();
        match deliver(&store, &now, &sender, &metrics).await {
            Ok(()) => {}
            Err(StoreError::NotLeader) => return,
            Err(error) => tracing::debug!(%error, "the outbox cannot be read now"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Delivers what is due, all at once.
async fn deliver(
    store: &Store,
    term: &LeaderTerm,
    sender: &Sender,
    metrics: &Metrics,
) -> Result<(), StoreError> {
    let mut deliveries = JoinSet::new();
    for webhook in store.webhooks_due(term, AT_ONCE).await? {
        let sender = sender.clone();
        deliveries.spawn(async move {
            let outcome = sender.post(&webhook).await;
            (webhook, outcome)
        });
    }
    while let Some(delivered) = deliveries.join_next().await {
        let Ok((webhook, outcome)) = delivered else {
            continue; // due again by itself
        };
        metrics.delivery(outcome.error.is_none());
        let error = outcome.error.as_deref();
        store.webhook_told(term, &webhook, outcome.status, error).await?;
        match error {
            None => tracing::info!(event = webhook.event_id, "a webhook is delivered"),
            Some(error) => {
                tracing::warn!(event = webhook.event_id, attempt = webhook.attempt, %error, "could not deliver a webhook");
            }
        }
    }
    Ok(())
}

/// How one delivery went.
#[derive(Debug)]
struct Outcome {
    status: Option<u16>,
    error: Option<String>,
}

#[derive(Clone)]
struct Sender {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    secrets: Secrets,
}

impl Sender {
    /// Trusts what the system trusts; a system that has no list gets the usual one.
    fn new(secrets: Secrets) -> Self {
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .unwrap_or_else(|_| HttpsConnectorBuilder::new().with_webpki_roots())
            .https_or_http()
            .enable_http1()
            .build();
        let client =
            Client::builder(TokioExecutor::new()).timer(TokioTimer::new()).build(connector);
        Self { client, secrets }
    }

    async fn post(&self, webhook: &Webhook) -> Outcome {
        let failed = |status, error: String| Outcome { status, error: Some(error) };
        let request = match self.request(webhook, unix_seconds()) {
            Ok(request) => request,
            Err(error) => return failed(None, error),
        };
        match tokio::time::timeout(TIMEOUT, self.client.request(request)).await {
            Err(_) => failed(None, format!("no answer within {} s", TIMEOUT.as_secs())),
            // The URL may hold a secret, so only the cause is reported.
            Ok(Err(error)) => failed(None, chain(&error)),
            Ok(Ok(response)) if response.status().is_success() => {
                Outcome { status: Some(response.status().as_u16()), error: None }
            }
            Ok(Ok(response)) => {
                let status: StatusCode = response.status();
                failed(Some(status.as_u16()), format!("answered {status}"))
            }
        }
    }

    fn request(&self, webhook: &Webhook, at: u64) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::post(&webhook.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("nightshift/", env!("CARGO_PKG_VERSION")))
            .header("nightshift-event-id", &webhook.event_id)
            .header("nightshift-attempt", webhook.attempt);
        if let Some(name) = &webhook.secret_name {
            let secret = (self.secrets)(name).ok_or_else(|| {
                format!("the secret {name} is not set in the scheduler's environment")
            })?;
            request = request.header("nightshift-signature", signature(&secret, at, &webhook.body));
        }
        request
            .body(Full::new(Bytes::from(webhook.body.clone())))
            .map_err(|error| format!("the URL is not valid: {error}"))
    }
}

/// `t=<Unix seconds>,v1=<hex HMAC-SHA256 of "<Unix seconds>.<body>">`.
fn signature(secret: &str, at: u64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
    format!("t={at},v1={}", nightshift_objects::hex(tag.as_ref()))
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(secret: Option<&str>) -> Webhook {
        Webhook {
            id: 1,
            event_id: "e1".to_owned(),
            url: "https://hooks.example.test/ml".to_owned(),
            secret_name: secret.map(str::to_owned),
            body: r#"{"a": 1}"#.to_owned(),
            attempt: 3,
        }
    }

    /// By `printf '1700000000.{"a": 1}' | openssl dgst -sha256 -hmac sesame`.
    const KNOWN: &str = "29e3e37db22e4fc8a25d4a1059e3ffa8b915b666aebe228c20c39c4a9a721a03";

    #[test]
    fn a_request_is_signed_over_time_and_body() {
        let sender = Sender::new(|name| (name == "HOOK").then(|| "sesame".to_owned()));
        let request = sender.request(&webhook(Some("HOOK")), 1_700_000_000).unwrap();
        let header = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("nightshift-signature"), format!("t=1700000000,v1={KNOWN}"));
        assert_eq!(
            (header("nightshift-event-id"), header("nightshift-attempt")),
            ("e1".to_owned(), "3".to_owned())
        );
        let unsigned = sender.request(&webhook(None), 1).unwrap();
        assert!(!unsigned.headers().contains_key("nightshift-signature"));
    }

    #[test]
    fn a_secret_that_is_not_there_is_said_and_nothing_is_sent() {
        let sender = Sender::new(|_| None);
        let error = sender.request(&webhook(Some("HOOK")), 1).unwrap_err();
        assert_eq!(error, "the secret HOOK is not set in the scheduler's environment");
    }
}
