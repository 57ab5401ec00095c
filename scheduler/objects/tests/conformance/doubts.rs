//! Answers that are no proof: whatever may be of a moment is asked again, and what lasts is told in its own words.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use nightshift_objects::{Error, Objects, Put, PutOutcome, StoreConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{BUCKET, Fault, Proxy, Store, config, once, uri};

const HTML: &str = "<html><body>We are back in a moment.</body></html>";

async fn through(store: &Store, faults: Vec<Fault>) -> (Proxy, Objects) {
    let proxy = Proxy::new(store.server.addr(), faults).await;
    let config = StoreConfig {
        attempt_timeout: Duration::from_secs(2),
        retry_budget: Duration::from_secs(10),
        refusal_patience: Duration::from_secs(5),
        ..config(&store.server, &proxy.endpoint())
    };
    (proxy, Objects::connect(config).await.unwrap())
}

/// Everything that an endpoint may say for a moment, to any request.
fn moments() -> Vec<(&'static str, Fault)> {
    let html = |status| Fault::answer(status, "content-type: text/html\r\n", HTML);
    vec![
        ("denied", Fault::refusal("403 Forbidden", "AccessDenied")),
        ("denied by a gateway", html("403 Forbidden")),
        ("unknown key", Fault::refusal("403 Forbidden", "InvalidAccessKeyId")),
        ("expired", Fault::refusal("400 Bad Request", "ExpiredToken")),
        ("no bucket", Fault::refusal("404 Not Found", "NoSuchBucket")),
        ("bad digest", Fault::refusal("400 Bad Request", "BadDigest")),
        ("full", Fault::refusal("507 Insufficient Storage", "InsufficientCapacity")),
        ("slow down with another status", Fault::refusal("400 Bad Request", "SlowDown")),
        ("500", html("500 Internal Server Error")),
        ("509", html("509 Bandwidth Limit Exceeded")),
        ("520", html("520 Web Server Returned an Unknown Error")),
        ("522", html("522 Connection Timed Out")),
        ("599", html("599 Network Connect Timeout")),
        ("400 by a gateway", html("400 Bad Request")),
        ("499", html("499 Client Closed Request")),
        ("418", html("418 I'm a teapot")),
        ("307", Fault::refusal("307 Temporary Redirect", "TemporaryRedirect")),
        ("an error with status 200", Fault::refusal("200 OK", "InternalError")),
        ("a page with status 200", html("200 OK")),
        ("no ETag", Fault::answer("200 OK", "etag: \"\"\r\n", "")),
        ("nothing", Fault::Answer("")),
        ("noise", Fault::Answer("SSH-2.0-OpenSSH_9.2\r\n")),
        ("half an answer", Fault::Answer("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n<?xml")),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_of_a_moment_is_asked_again() {
    let store = Store::new().await;
    store.objects.put(&uri("old"), "OLD".into(), &Put::default()).await.unwrap();
    join_all(moments().into_iter().map(async |(name, fault)| {
        let (proxy, objects) = through(&store, vec![fault.clone(); 2]).await;
        let key = format!("new/{name}");
        let put = objects.put(&uri(&key), "mine".into(), &once()).await;
        assert!(matches!(put, Ok(PutOutcome::Created)), "put, {name}: {put:?}");
        assert_eq!((proxy.left(), store.body(&key).await.as_ref()), (0, &b"mine"[..]), "{name}");

        let (proxy, objects) = through(&store, vec![fault.clone(); 2]).await;
        let got = objects.get(&uri("old"), 100, None).await;
        assert!(got.as_ref().is_ok_and(|got| got.body == "OLD"), "get, {name}: {got:?}");
        assert_eq!(proxy.left(), 0, "{name}");

        let (proxy, objects) = through(&store, vec![fault.clone(); 2]).await;
        let page = objects.list_page(&uri("old"), None).await;
        assert!(page.as_ref().is_ok_and(|page| page.objects.len() == 1), "list, {name}: {page:?}");
        assert_eq!(proxy.left(), 0, "{name}");

        // A page with status 200 deletes nothing that could be noticed, and a bare 404 is the answer to HEAD.
        if !name.contains("200") && name != "no ETag" && name != "no bucket" {
            let (proxy, objects) = through(&store, vec![fault.clone()]).await;
            objects.delete(&uri(&key)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(proxy.left(), 0, "{name}");
            let (proxy, objects) = through(&store, vec![fault]).await;
            let info = objects.head(&uri("old")).await;
            assert!(matches!(info, Ok(Some(_))), "head, {name}: {info:?}");
            assert_eq!(proxy.left(), 0, "{name}");
        }
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lasts_keeps_its_class() {
    let store = Store::new().await;
    let lasting = async |fault: Fault| {
        let proxy = Proxy::new(store.server.addr(), vec![fault; 50]).await;
        let config = StoreConfig {
            retry_budget: Duration::from_secs(3),
            refusal_patience: Duration::from_secs(1),
            ..config(&store.server, &proxy.endpoint())
        };
        let objects = Objects::connect(config).await.unwrap();
        let error = objects.put(&uri("k"), "x".into(), &Put::default()).await.unwrap_err();
        assert!(proxy.left() < 49, "asked again: {error}");
        error
    };
    let error = lasting(Fault::refusal("403 Forbidden", "AccessDenied")).await;
    assert!(matches!(error, Error::Denied { .. }) && error.is_of_the_place(), "{error}");
    let error = lasting(Fault::refusal("404 Not Found", "NoSuchBucket")).await;
    assert!(matches!(error, Error::NotFound { hint: Some(_), .. }), "{error}");
    assert!(error.is_of_the_place() && !error.is_transient());
    let error = lasting(Fault::refusal("403 Forbidden", "SignatureDoesNotMatch")).await;
    assert!(matches!(error, Error::Unauthenticated { .. }), "{error}");
    let error = lasting(Fault::refusal("400 Bad Request", "BadDigest")).await;
    assert!(matches!(error, Error::Refused { status: 400, .. }), "{error}");
    join_all(["507 Insufficient Storage", "520 Unknown", "522 Timed Out"].map(async |status| {
        let error = lasting(Fault::answer(status, "", HTML)).await;
        assert!(matches!(error, Error::Unavailable { attempts: 2.., .. }), "{error}");
        assert!(error.is_transient() && error.is_of_the_place(), "{error}");
    }))
    .await;
}

#[tokio::test]
async fn what_is_proven_is_final_at_once() {
    let store = Store::new().await;
    for (fault, words) in [
        (Fault::refusal("400 Bad Request", "InvalidRequest"), "InvalidRequest"),
        (Fault::refusal("501 Not Implemented", "NotImplemented"), "NotImplemented"),
        (Fault::refusal("405 Method Not Allowed", "MethodNotAllowed"), "MethodNotAllowed"),
        (
            Fault::answer(
                "301 Moved Permanently",
                "x-amz-bucket-region: eu-north-1\r\n",
                "<Error><Code>PermanentRedirect</Code></Error>",
            ),
            "lies in region eu-north-1; set storage.region",
        ),
        (
            Fault::answer(
                "400 Bad Request",
                "",
                "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-3</Region></Error>",
            ),
            "lies in region eu-west-3",
        ),
        (
            Fault::answer(
                "301 Moved Permanently",
                "",
                "<Error><Code>PermanentRedirect</Code><Endpoint>b.s3.example.org</Endpoint></Error>",
            ),
            "is served by b.s3.example.org",
        ),
    ] {
        let (proxy, objects) = through(&store, vec![fault; 2]).await;
        let error = objects.put(&uri("k"), "x".into(), &Put::default()).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(proxy.left(), 1, "asked once: {error}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_wrong_is_told_at_once() {
    let store = Store::new().await;
    // A TLS client hears plain HTTP.
    let plain = format!("https://{}", store.server.addr());
    for (endpoint, words) in [(plain.as_str(), "does not speak TLS")] {
        let objects = Objects::connect(config(&store.server, endpoint)).await.unwrap();
        let begun = Instant::now();
        let error = objects.get(&uri("k"), 1, None).await.unwrap_err();
        assert!(matches!(error, Error::Misdirected { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_condition_that_the_endpoint_ignores_is_checked_here() {
    let store = Store::new().await;
    let other = Fault::answer("200 OK", "etag: \"beef\"\r\n", "OTHER");
    let (_proxy, objects) = through(&store, vec![other; 20]).await;
    let got = objects.get(&uri("k"), 100, Some("f00d")).await;
    assert!(matches!(got, Err(Error::Changed { .. })), "{got:?}");
}

#[tokio::test]
async fn a_download_is_not_continued_with_the_beginning() {
    let store = Store::new().await;
    let body: Bytes = (0..400_000_u32).map(|i| u8::try_from(i % 253).unwrap()).collect();
    store.objects.put(&uri("big"), body.clone(), &Put::default()).await.unwrap();
    let etag = store.objects.head(&uri("big")).await.unwrap().unwrap().etag;
    let whole = Fault::answer("200 OK", &format!("etag: \"{etag}\"\r\n"), &"x".repeat(400_000));
    let (proxy, objects) = through(&store, vec![Fault::CutAfter(100_000), whole]).await;
    let mut stream = objects.get_stream(&uri("big"), None).await.unwrap();
    let mut read = Vec::new();
    while let Some(chunk) = stream.next().await.unwrap() {
        read.extend_from_slice(&chunk);
    }
    assert_eq!((read == body, proxy.left()), (true, 0));
}

/// A page of a listing.
fn page(keys: &[&str], rest: &str) -> Fault {
    let keys: String = keys
        .iter()
        .map(|key| format!("<Contents><Key>{key}</Key><Size>1</Size><ETag>\"e\"</ETag></Contents>"))
        .collect();
    let body = format!(
        "<?xml version=\"1.0\"?><ListBucketResult><Name>{BUCKET}</Name>{rest}{keys}</ListBucketResult>"
    );
    Fault::answer("200 OK", "content-type: application/xml\r\n", &body)
}

const MORE: &str =
    "<IsTruncated>true</IsTruncated><NextContinuationToken>t1</NextContinuationToken>";
const LAST: &str = "<IsTruncated>false</IsTruncated>";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_that_cannot_be_whole_is_an_error() {
    let store = Store::new().await;
    let list = async |pages: Vec<Fault>| {
        let proxy = Proxy::new(store.server.addr(), pages).await;
        let config = StoreConfig {
            retry_budget: Duration::from_secs(2),
            ..config(&store.server, &proxy.endpoint())
        };
        let objects = Objects::connect(config).await.unwrap();
        let (mut keys, mut after) = (Vec::new(), None);
        loop {
            let page = objects.list_page(&uri("a"), after).await?;
            keys.extend(page.objects.into_iter().map(|object| object.key));
            after = page.next;
            if after.is_none() {
                return Ok::<_, Error>(keys);
            }
        }
    };
    let whole = list(vec![page(&["a1", "a2"], MORE), page(&["a3"], LAST)]).await.unwrap();
    assert_eq!(whole, ["a1", "a2", "a3"]);
    let again = |first: Fault| [vec![page(&["a1"], MORE)], vec![first; 20]].concat();
    let no_token = "<IsTruncated>true</IsTruncated>";
    let no_mark = "<NextContinuationToken>t2</NextContinuationToken>";
    let unmarked =
        "<IsTruncated>false</IsTruncated><NextContinuationToken>t2</NextContinuationToken>";
    let broken = [
        (page(&["a2"], no_token), "no token"),
        (page(&["a2"], no_mark), "has a token"),
        (page(&["a2"], unmarked), "has a token"),
        (page(&["a2"], ""), "the last"),
        (page(&["a2"], MORE), "circle"),
        (page(&["a1"], LAST), "order"),
        (page(&["a3", "a2"], LAST), "order"),
        (page(&["b"], LAST), "begin"),
        (page(&["a2"], "<IsTruncated>false</IsTruncated><KeyCount>3</KeyCount>"), "holds 1"),
    ];
    join_all(broken.into_iter().map(async |(what, words)| {
        let error = list(again(what.clone())).await.unwrap_err();
        assert!(matches!(&error, Error::Refused { .. }), "{error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
        // Of a moment it is nothing.
        let healed = [vec![page(&["a1"], MORE), what.clone(), page(&["a2"], LAST)]].concat();
        assert_eq!(list(healed).await.unwrap(), ["a1", "a2"], "{words}");
    }))
    .await;
    // A body that ends early, with the connection as its only end.
    let cut = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a1</Key><Size>1</Size></Contents><Contents><Key>a2</Ke";
    let healed = list(vec![Fault::Answer(cut), page(&["a1", "a2"], LAST)]).await.unwrap();
    assert_eq!(healed, ["a1", "a2"]);
    let cut = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a1</Key><Size>1</Size></Contents>";
    let healed = list(vec![Fault::Answer(cut), page(&["a1", "a2"], LAST)]).await.unwrap();
    assert_eq!(healed, ["a1", "a2"]);
}

#[tokio::test]
async fn a_retry_that_is_asked_for_at_once_does_not_spin() {
    let store = Store::new().await;
    let busy = Fault::answer("503 Slow Down", "retry-after: 0\r\n", "");
    let (proxy, objects) = through(&store, vec![busy; 500]).await;
    let asked = tokio::time::timeout(Duration::from_secs(2), objects.get(&uri("k"), 1, None)).await;
    assert!(asked.is_err(), "it goes on asking");
    assert!(proxy.left() > 480, "{} left", proxy.left());
}

/// Nobody answers, and nobody refuses.
#[tokio::test]
async fn a_silent_endpoint_costs_the_time_of_an_attempt() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let hold = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = silent.accept().await {
            let mut some = [0; 16];
            drop(stream.read(&mut some).await);
            drop(stream.flush().await);
            held.push(stream);
        }
    });
    let config = StoreConfig {
        endpoint: Some(endpoint),
        attempt_timeout: Duration::from_millis(300),
        retry_budget: Duration::from_secs(1),
        ..StoreConfig::default()
    };
    let objects = Objects::connect(config).await.unwrap();
    let begun = Instant::now();
    let error = objects.get(&uri("k"), 1, None).await.unwrap_err();
    assert!(error.to_string().contains("no answer within"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    hold.abort();
}
