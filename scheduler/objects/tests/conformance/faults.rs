//! Lost answers, busy endpoints and broken bodies between our client and the server.

use std::time::Duration;

use bytes::Bytes;
use nightshift_objects::{Error, Objects, Put, PutOutcome, StoreConfig};

use crate::support::{Fault, Proxy, Store, config, once, uri};

const BUSY: &str =
    "HTTP/1.1 503 Slow Down\r\nretry-after: 0\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const CONFLICT: &str = "HTTP/1.1 409 Conflict\r\ncontent-length: 93\r\nconnection: close\r\n\r\n<Error><Code>ConditionalRequestConflict</Code><Message>another write is going on</Message></Error>";

const SKEWED: &str = "HTTP/1.1 403 Forbidden\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\ncontent-length: 83\r\nconnection: close\r\n\r\n<Error><Code>RequestTimeTooSkewed</Code><Message>what time is it?</Message></Error>";

async fn through(store: &Store, faults: Vec<Fault>) -> (Proxy, Objects) {
    let proxy = Proxy::new(store.server.addr(), faults).await;
    let config = StoreConfig {
        attempt_timeout: Duration::from_secs(2),
        retry_budget: Duration::from_secs(10),
        ..config(&store.server, &proxy.endpoint())
    };
    let objects = Objects::connect(config).await.unwrap();
    (proxy, objects)
}

#[tokio::test]
async fn a_put_whose_answer_was_lost_is_looked_up() {
    let store = Store::new().await;
    let (proxy, objects) = through(&store, vec![Fault::LoseAnswer]).await;
    assert_eq!(
        objects.put(&uri("k"), "mine".into(), &once()).await.unwrap(),
        PutOutcome::Created,
        "our own object is no rival"
    );
    assert_eq!(proxy.left(), 0);
    assert_eq!(store.body("k").await, "mine");
    // And the lookup itself is lost too.
    let (_proxy, objects) =
        through(&store, vec![Fault::LoseAnswer, Fault::LoseAnswer, Fault::LoseAnswer]).await;
    assert_eq!(objects.put(&uri("l"), "mine".into(), &once()).await.unwrap(), PutOutcome::Created);
}

#[tokio::test]
async fn a_request_with_the_wrong_time_is_signed_again_by_the_clock_of_the_endpoint() {
    let store = Store::new().await;
    // After this answer the client takes it to be that day, and the real server tells it better.
    let (proxy, objects) = through(&store, vec![Fault::Answer(SKEWED)]).await;
    let put = objects.put(&uri("k"), "mine".into(), &once()).await;
    assert_eq!(put.unwrap(), PutOutcome::Created);
    assert_eq!(proxy.left(), 0);
    assert_eq!(store.body("k").await, "mine");
}

#[tokio::test]
async fn after_a_lost_answer_a_rival_is_still_a_rival() {
    let store = Store::new().await;
    store.objects.put(&uri("k"), "theirs".into(), &once()).await.unwrap();
    let (_proxy, objects) = through(&store, vec![Fault::LoseAnswer]).await;
    assert_eq!(
        objects.put(&uri("k"), "mine".into(), &once()).await.unwrap(),
        PutOutcome::AlreadyExists
    );
    assert_eq!(store.body("k").await, "theirs");
}

#[tokio::test]
async fn a_busy_endpoint_and_a_conflict_are_tried_again() {
    let store = Store::new().await;
    let (proxy, objects) =
        through(&store, vec![Fault::Answer(BUSY), Fault::Answer(CONFLICT), Fault::Answer(BUSY)])
            .await;
    assert_eq!(objects.put(&uri("k"), "x".into(), &once()).await.unwrap(), PutOutcome::Created);
    assert_eq!(proxy.left(), 0);
    let (proxy, objects) = through(&store, vec![Fault::Answer(BUSY); 2]).await;
    assert_eq!(objects.list_page(&uri(""), None).await.unwrap().objects.len(), 1);
    assert_eq!(proxy.left(), 0);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_read_again() {
    let store = Store::new().await;
    let body: Bytes = (0..2_000_000_u32).map(|i| u8::try_from(i % 253).unwrap()).collect();
    store.objects.put(&uri("big"), body.clone(), &Put::default()).await.unwrap();
    let cut = Fault::CutAfter(700_000);
    let (proxy, objects) = through(&store, vec![cut.clone()]).await;
    assert_eq!(objects.get(&uri("big"), 2_000_000, None).await.unwrap().body, body);
    assert_eq!(proxy.left(), 0);

    let (proxy, objects) = through(&store, vec![cut.clone(), cut.clone()]).await;
    let mut stream = objects.get_stream(&uri("big"), None).await.unwrap();
    let mut read = Vec::new();
    while let Some(chunk) = stream.next().await.unwrap() {
        read.extend_from_slice(&chunk);
    }
    assert_eq!(read, body);
    assert_eq!(proxy.left(), 0);

    // Never two halves of different objects.
    let (_proxy, objects) = through(&store, vec![cut]).await;
    let mut stream = objects.get_stream(&uri("big"), None).await.unwrap();
    stream.next().await.unwrap();
    store.objects.put(&uri("big"), body.slice(1..), &Put::default()).await.unwrap();
    let end = loop {
        match stream.next().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(end, Err(Error::Changed { .. })), "{end:?}");
}
