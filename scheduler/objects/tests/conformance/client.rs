//! Our client's promises.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nightshift_objects::{
    ChecksumMode, ConditionalPut, Error, Objects, Put, PutOutcome, S3Uri, StoreConfig,
};

use crate::support::{Store, config, once, uri};

#[tokio::test]
async fn an_object_from_writing_to_deleting() {
    let store = Store::new().await;
    let how = Put {
        content_type: "image/png".into(),
        metadata: BTreeMap::from([("item_id".into(), "0a1b".into())]),
        ..Put::default()
    };
    let body = Bytes::from_static(b"not really a picture");
    assert_eq!(
        store.objects.put(&uri("a/b.png"), body.clone(), &how).await.unwrap(),
        PutOutcome::Created
    );
    assert_eq!(std::fs::read(store.file("a/b.png")).unwrap(), body, "a user opens the file itself");

    let info = store.objects.head(&uri("a/b.png")).await.unwrap().unwrap();
    assert_eq!(
        (info.bytes, info.content_type.as_str(), info.metadata["item_id"].as_str()),
        (20, "image/png", "0a1b")
    );
    assert_eq!(info.sha256.as_ref(), Some(&info.metadata["sha256"]));
    assert_eq!(info.sha256.unwrap().len(), 64);

    let got = store.objects.get(&uri("a/b.png"), 20, Some(&info.etag)).await.unwrap();
    assert_eq!(
        (&got.body, got.bytes, got.etag.as_str(), got.metadata["item_id"].as_str()),
        (&body, 20, info.etag.as_str(), "0a1b")
    );
    let page = store.objects.list_page(&uri("a/"), None).await.unwrap();
    assert_eq!(
        page.objects.iter().map(|o| (o.key.as_str(), o.bytes, o.etag.as_str())).collect::<Vec<_>>(),
        [("a/b.png", 20, info.etag.as_str())]
    );
    assert_eq!(page.next, None);

    store.objects.delete(&uri("a/b.png")).await.unwrap();
    store.objects.delete(&uri("a/b.png")).await.unwrap();
    assert_eq!(store.objects.head(&uri("a/b.png")).await.unwrap(), None);
    assert!(!store.file("a").exists(), "no empty folder stays behind");
}

#[tokio::test]
async fn the_second_creator_is_told_and_changes_nothing() {
    let store = Store::new().await;
    assert_eq!(
        store.objects.put(&uri("k"), "one".into(), &once()).await.unwrap(),
        PutOutcome::Created
    );
    assert_eq!(
        store.objects.put(&uri("k"), "two".into(), &once()).await.unwrap(),
        PutOutcome::AlreadyExists
    );
    assert_eq!(store.body("k").await, "one");
    assert_eq!(
        store.objects.put(&uri("k"), "three".into(), &Put::default()).await.unwrap(),
        PutOutcome::Created
    );
    assert_eq!(store.body("k").await, "three");
}

#[tokio::test]
async fn every_error_is_a_decision() {
    let store = Store::new().await;
    store.objects.put(&uri("k"), "12345".into(), &Put::default()).await.unwrap();
    let get =
        async |uri: &S3Uri, limit, etag| store.objects.get(uri, limit, etag).await.unwrap_err();
    let error = get(&uri("missing"), 10, None).await;
    assert!(
        matches!(&error, Error::NotFound { hint: None, .. })
            && error.to_string().contains("s3://pictures/missing"),
        "{error}"
    );
    let error = get(&"s3://no-such/k".parse().unwrap(), 10, None).await;
    assert!(
        matches!(&error, Error::NotFound { hint: Some(_), .. })
            && error.to_string().contains("no bucket `no-such`"),
        "{error}"
    );
    assert!(matches!(
        get(&uri("k"), 4, None).await,
        Error::TooLarge { bytes: 5, limit_bytes: 4, .. }
    ));
    assert!(matches!(get(&uri("k"), 5, Some("0123")).await, Error::Changed { .. }));
    let error = store.objects.put(&uri("a//b"), "x".into(), &Put::default()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Refused { status: 400, .. })
            && error.to_string().contains("contains `//`"),
        "{error}"
    );
    let strange = Put { metadata: BTreeMap::from([("a".into(), "ü".into())]), ..Put::default() };
    assert!(matches!(
        store.objects.put(&uri("k"), "x".into(), &strange).await,
        Err(Error::Invalid { .. })
    ));
    assert_eq!(store.objects.head(&"s3://no-such/k".parse().unwrap()).await.unwrap(), None);
    let page = store.objects.list_page(&"s3://no-such/".parse().unwrap(), None).await;
    assert!(matches!(page, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn strangers_are_denied() {
    let store = Store::new().await;
    let right = config(&store.server, &store.server.endpoint());
    let strangers = [
        StoreConfig { secret_access_key: Some("wrong".into()), ..right.clone() },
        StoreConfig { access_key_id: Some("nobody".into()), ..right.clone() },
        StoreConfig { access_key_id: None, secret_access_key: None, ..right },
    ];
    // An endpoint does not say that it knows nobody who says no name.
    let known = |error: &Error| match error {
        Error::Denied { .. } => true,
        Error::Unauthenticated { .. } => false,
        other => panic!("{other}"),
    };
    for stranger in strangers {
        let keyless = stranger.access_key_id.is_none();
        let objects = Objects::connect(stranger).await.unwrap();
        let begun = Instant::now();
        let error = objects.put(&uri("k"), "x".into(), &Put::default()).await.unwrap_err();
        assert!(
            (known(&error) == keyless) && error.to_string().contains("AWS_ACCESS_KEY_ID"),
            "{error}"
        );
        let error = objects.get(&uri("k"), 1, None).await.unwrap_err();
        assert_eq!(known(&error), keyless, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5), "no retry changes that");
    }
    assert_eq!(store.visible(), [""; 0]);
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_unavailable_within_the_budget() {
    let store = Store::new().await;
    let mut config = config(&store.server, &store.server.endpoint());
    config.retry_budget = Duration::from_secs(2);
    let objects = Objects::connect(config).await.unwrap();
    store.server.stop().await;
    let begun = Instant::now();
    let error = objects.get(&uri("k"), 1, None).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(error.is_transient(), "{error}");
    assert!(matches!(error, Error::Unavailable { attempts: 2.., .. }), "{error}");
    assert!(error.to_string().contains("refused"), "it says why: {error}");
    assert!(matches!(
        objects.put(&uri("k"), "x".into(), &once()).await,
        Err(Error::Unavailable { .. })
    ));

    let bad = StoreConfig { endpoint: Some("127.0.0.1:9000".into()), ..StoreConfig::default() };
    assert!(matches!(Objects::connect(bad).await, Err(Error::Invalid { .. })));
}

#[tokio::test]
async fn the_probe_trusts_the_embedded_server() {
    let store = Store::new().await;
    assert_eq!(store.objects.checksum_mode(), ChecksumMode::WhenRequired, "carefully at first");
    let found = store.objects.probe(&uri("scratch/")).await.unwrap();
    assert_eq!(found.notes, [""; 0]);
    assert_eq!(found.conditional_put, ConditionalPut::Honoured);
    assert!(found.if_match && found.streamed_ok && found.ranges && found.odd_keys);
    assert_eq!(found.checksum_mode, ChecksumMode::WhenSupported);
    assert_eq!(store.objects.clone().checksum_mode(), ChecksumMode::WhenSupported);
    assert_eq!(store.visible(), [""; 0], "it leaves nothing behind");
    let nowhere = store.objects.probe(&"s3://no-such/x".parse().unwrap()).await;
    assert!(matches!(nowhere, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn streams_an_object_of_any_size() {
    let store = Store::new().await;
    let body: Bytes = (0..3_000_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
    store.objects.put(&uri("big"), body.clone(), &Put::default()).await.unwrap();
    let mut stream = store.objects.get_stream(&uri("big"), None).await.unwrap();
    assert_eq!(stream.bytes, body.len() as u64);
    let mut read = Vec::new();
    while let Some(chunk) = stream.next().await.unwrap() {
        read.extend_from_slice(&chunk);
    }
    assert_eq!(read, body);
    store.objects.put(&uri("empty"), Bytes::new(), &Put::default()).await.unwrap();
    assert_eq!(
        store.objects.get_stream(&uri("empty"), None).await.unwrap().next().await.unwrap(),
        None
    );
    assert_eq!(store.body("empty").await, "");
}
