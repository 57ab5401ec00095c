//! The embedded server itself: keys stay inside, files put there by hand are objects, and a kill leaves whole objects only.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use nightshift_local::{Error, S3Server};
use nightshift_objects::{Objects, Put};

use crate::support::{BUCKET, Store, config, refusal, sdk, uri, visible, wait_until};
use crate::verified::{presigned_put, truncated_put};

#[tokio::test]
async fn no_key_leaves_its_bucket() {
    let store = Store::new().await;
    store.objects.create_bucket("other").await.unwrap();
    let put = |key: &str| {
        store.sdk.put_object().bucket(BUCKET).key(key).body(ByteStream::from_static(b"x")).send()
    };
    let long = "a".repeat(256);
    for key in [
        "../other/stolen",
        "a/../../other/stolen",
        "..",
        "a/..",
        "/abs",
        "a//b",
        "a/",
        "./a",
        "a\nb",
        long.as_str(),
    ] {
        assert_eq!(refusal(put(key).await).0, 400, "{key:?}");
        let read = store.sdk.get_object().bucket(BUCKET).key(key).send().await;
        assert_eq!(refusal(read).0, 400, "{key:?}");
        let copy = store
            .sdk
            .copy_object()
            .bucket(BUCKET)
            .key(key)
            .copy_source(format!("{BUCKET}/k"))
            .send()
            .await;
        assert!(refusal(copy).0 >= 400, "{key:?}");
    }
    for bucket in ["..", ".nightshift", "a/b"] {
        let refused = store
            .sdk
            .put_object()
            .bucket(bucket)
            .key("credentials")
            .body(ByteStream::from_static(b"x"))
            .send()
            .await;
        assert!(refused.is_err(), "{bucket}");
    }
    assert_eq!(store.visible(), [""; 0]);

    std::os::unix::fs::symlink("/etc", store.file("link")).unwrap();
    let read = store.sdk.get_object().bucket(BUCKET).key("link/hostname").send().await;
    assert_eq!(refusal(read), (403, "AccessDenied".to_owned()));
    assert_eq!(refusal(put("link/passwd").await).0, 403);
    assert!(store.objects.list_page(&uri(""), None).await.unwrap().objects.is_empty());
}

#[tokio::test]
async fn a_key_cannot_be_a_folder_too_and_says_so() {
    let store = Store::new().await;
    for (first, second) in [("a", "a/b"), ("c/d", "c")] {
        store.objects.put(&uri(first), "1".into(), &Put::default()).await.unwrap();
        for create_only in [false, true] {
            let error = store
                .objects
                .put(&uri(second), "2".into(), &Put { create_only, ..Put::default() })
                .await
                .unwrap_err();
            assert!(
                error.to_string().contains("cannot be an object while another object"),
                "{error}"
            );
        }
        assert_eq!(store.body(first).await, "1");
    }
    assert_eq!(store.objects.head(&uri("c")).await.unwrap(), None);
}

#[tokio::test]
async fn a_file_copied_there_by_hand_is_an_object() {
    let store = Store::new().await;
    std::fs::create_dir_all(store.file("photos")).unwrap();
    std::fs::write(store.file("photos/cat.jpg"), "1").unwrap();
    let info = store.objects.head(&uri("photos/cat.jpg")).await.unwrap().unwrap();
    assert_eq!(
        (info.bytes, info.etag.as_str(), info.content_type.as_str()),
        (1, "c4ca4238a0b923820dcc509a6f75849b", "image/jpeg")
    );
    assert_eq!(
        store.objects.list_page(&uri("photos/"), None).await.unwrap().objects[0].etag,
        info.etag
    );
    assert_eq!(store.body("photos/cat.jpg").await, "1");
    // Edited by hand, also an object that came over the wire.
    store.objects.put(&uri("k"), "old bytes".into(), &Put::default()).await.unwrap();
    std::fs::write(store.file("k"), "1").unwrap();
    let edited = store.objects.head(&uri("k")).await.unwrap().unwrap();
    assert_eq!((edited.bytes, &edited.etag, edited.sha256), (1, &info.etag, None));
    std::fs::create_dir(store.folder.path().join("made-by-hand")).unwrap();
    std::fs::write(store.folder.path().join("made-by-hand/x"), "x").unwrap();
    let page = store.objects.list_page(&"s3://made-by-hand/".parse().unwrap(), None).await.unwrap();
    assert_eq!(page.objects[0].key, "x");
}

#[tokio::test]
async fn reads_with_ranges_and_conditions() {
    let store = Store::new().await;
    store.objects.put(&uri("k"), "0123456789".into(), &Put::default()).await.unwrap();
    let get = || store.sdk.get_object().bucket(BUCKET).key("k");
    for (range, wanted, of) in [
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=8-", "89", "bytes 8-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
        ("bytes=5-99", "56789", "bytes 5-9/10"),
    ] {
        let got = get().range(range).send().await.unwrap();
        assert_eq!(got.content_range(), Some(of));
        assert_eq!(got.body.collect().await.unwrap().into_bytes(), wanted);
    }
    assert_eq!(refusal(get().range("bytes=10-").send().await), (416, "InvalidRange".to_owned()));
    let etag = get().send().await.unwrap().e_tag.unwrap();
    assert_eq!(refusal(get().if_none_match(&etag).send().await).0, 304);
    assert_eq!(refusal(get().if_match("\"0\"").send().await).0, 412);
    assert_eq!(
        refusal(store.sdk.head_object().bucket(BUCKET).key("k").if_none_match(&etag).send().await)
            .0,
        304
    );
    get().if_match(&etag).send().await.unwrap();
}

#[tokio::test]
async fn copies_many_deletions_and_buckets() {
    let store = Store::new().await;
    let how = Put {
        content_type: "text/plain".into(),
        metadata: [("a".to_owned(), "1".to_owned())].into(),
        ..Put::default()
    };
    store.objects.put(&uri("from"), "bytes".into(), &how).await.unwrap();
    store
        .sdk
        .copy_object()
        .bucket(BUCKET)
        .key("d/to")
        .copy_source(format!("{BUCKET}/from"))
        .send()
        .await
        .unwrap();
    let copied = store.objects.head(&uri("d/to")).await.unwrap().unwrap();
    assert_eq!(
        (copied.bytes, copied.content_type.as_str(), copied.metadata["a"].as_str()),
        (5, "text/plain", "1")
    );
    let missing = store
        .sdk
        .copy_object()
        .bucket(BUCKET)
        .key("x")
        .copy_source(format!("{BUCKET}/none"))
        .send()
        .await;
    assert_eq!(refusal(missing), (404, "NoSuchKey".to_owned()));

    assert_eq!(
        refusal(store.sdk.create_bucket().bucket(BUCKET).send().await),
        (409, "BucketAlreadyOwnedByYou".to_owned())
    );
    assert_eq!(
        refusal(store.sdk.delete_bucket().bucket(BUCKET).send().await),
        (409, "BucketNotEmpty".to_owned())
    );
    let names = ["from", "d/to", "never-there"]
        .map(|key| ObjectIdentifier::builder().key(key).build().unwrap());
    let delete = Delete::builder().set_objects(Some(names.to_vec())).build().unwrap();
    let deleted = store.sdk.delete_objects().bucket(BUCKET).delete(delete).send().await.unwrap();
    assert_eq!((deleted.deleted().len(), deleted.errors().len()), (3, 0));
    let buckets = store.sdk.list_buckets().send().await.unwrap();
    assert_eq!(
        buckets.buckets().iter().filter_map(|bucket| bucket.name()).collect::<Vec<_>>(),
        [BUCKET]
    );
    store.sdk.head_bucket().bucket(BUCKET).send().await.unwrap();
    store.sdk.delete_bucket().bucket(BUCKET).send().await.unwrap();
    assert_eq!(refusal(store.sdk.head_bucket().bucket(BUCKET).send().await).0, 404);
    assert_eq!(
        refusal(store.sdk.list_objects_v2().bucket(BUCKET).send().await),
        (404, "NoSuchBucket".to_owned())
    );
}

#[tokio::test]
async fn a_restart_keeps_objects_keys_and_address() {
    let store = Store::new().await;
    let how = Put {
        content_type: "image/png".into(),
        metadata: [("item_id".to_owned(), "7".to_owned())].into(),
        ..Put::default()
    };
    store.objects.put(&uri("k"), "kept".into(), &how).await.unwrap();
    let before = store.objects.head(&uri("k")).await.unwrap();
    let second = S3Server::start(store.folder.path(), None).await.unwrap_err();
    assert!(matches!(second, Error::AlreadyRunning { .. }), "{second}");
    let endpoint = store.server.endpoint();
    store.server.stop().await;
    let server = S3Server::start(store.folder.path(), None).await.unwrap();
    assert_eq!(server.endpoint(), endpoint);
    assert_eq!(store.objects.head(&uri("k")).await.unwrap(), before, "the same client goes on");
    drop(server);
    wait_until("a dropped server lets its folder go", || {
        std::fs::File::open(store.folder.path().join(".nightshift/lock"))
            .unwrap()
            .try_lock()
            .is_ok()
    })
    .await;
    let public =
        S3Server::start(store.folder.path(), Some("0.0.0.0:0".parse().unwrap())).await.unwrap_err();
    assert!(matches!(public, Error::NotLoopback { .. }));
}

const CHILD: &str = "NIGHTSHIFT_TEST_S3_FOLDER";

/// Not a test of its own: the server process that the next one kills.
#[tokio::test]
async fn child_process() {
    let Some(folder) = std::env::var_os(CHILD) else {
        return;
    };
    let server = S3Server::start(folder.as_ref(), None).await.unwrap();
    println!("\nCHILD {}", server.endpoint());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_put_leaves_whole_objects_only() {
    let folder = tempfile::tempdir().unwrap();
    // Once in this process, to learn the credentials.
    let server = S3Server::start(folder.path(), None).await.unwrap();
    let objects = Objects::connect(config(&server, &server.endpoint())).await.unwrap();
    objects.create_bucket(BUCKET).await.unwrap();
    objects.put(&uri("old"), "OLD".into(), &Put::default()).await.unwrap();
    let (addr, client) = (server.addr(), sdk(&server, &server.endpoint()));
    server.stop().await;

    let arguments = ["--exact", "server::child_process", "--nocapture"];
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(arguments)
        .env(CHILD, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| line.starts_with("CHILD ")).unwrap();
    assert_eq!(line, format!("CHILD http://{addr}"), "on the port of last time");
    let staging = folder.path().join(".nightshift/staging");
    let mut open = Vec::new();
    for key in ["old", "new"] {
        let path = presigned_put(&client, key).await;
        open.push(truncated_put(addr, &path, 10_000_000, &vec![b'x'; 3_000_000], false).await);
    }
    wait_until("both bodies are on disk in part", || {
        let large = |entry: std::fs::DirEntry| {
            entry.metadata().is_ok_and(|metadata| metadata.len() > 1_000_000)
        };
        std::fs::read_dir(&staging).unwrap().flatten().map(large).filter(|large| *large).count()
            == 2
    })
    .await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(visible(folder.path()), ["pictures/old"]);

    let server = S3Server::start(folder.path(), None).await.unwrap();
    assert_eq!(objects.get(&uri("old"), 100, None).await.unwrap().body, "OLD");
    assert_eq!(objects.head(&uri("new")).await.unwrap(), None);
    assert_eq!(std::fs::read_dir(&staging).unwrap().count(), 0, "the rest is cleared away");
    server.stop().await;
}
