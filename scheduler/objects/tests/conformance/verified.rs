//! Bytes are verified before they are visible, and one of many creators wins.

use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use nightshift_objects::{Put, PutOutcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{BUCKET, Fault, Proxy, Store, once, refusal, sdk, uri};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_sixteen_creators_exactly_one_wins() {
    let store = Store::new().await;
    for round in 0..20 {
        let key = format!("race/{round}");
        let writers: Vec<_> = (0..16_u8)
            .map(|writer| {
                let (objects, key) = (store.objects.clone(), key.clone());
                tokio::spawn(async move {
                    let body = Bytes::from(vec![writer; 5_000 * (1 + usize::from(writer) % 4)]);
                    (writer, objects.put(&uri(&key), body, &once()).await.unwrap())
                })
            })
            .collect();
        let mut winners = Vec::new();
        for writer in writers {
            let (writer, outcome) = writer.await.unwrap();
            if outcome == PutOutcome::Created {
                winners.push(writer);
            }
        }
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        assert!(
            store.body(&key).await.iter().all(|byte| *byte == winners[0]),
            "the winner's bytes"
        );
    }
}

#[tokio::test]
async fn a_wrong_checksum_is_refused_and_the_old_object_stays() {
    let store = Store::new().await;
    store.objects.put(&uri("k"), "OLD".into(), &Put::default()).await.unwrap();
    let zeros = |n: usize| STANDARD.encode(vec![0_u8; n]);
    let put =
        || store.sdk.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(b"NEW"));
    let requests = [
        put().checksum_sha256(zeros(32)),
        put().checksum_sha1(zeros(20)),
        put().checksum_crc32(zeros(4)),
        put().checksum_crc32_c(zeros(4)),
        put().checksum_crc64_nvme(zeros(8)),
        put().content_md5(zeros(16)),
    ];
    for (i, request) in requests.into_iter().enumerate() {
        let (status, code) = refusal(request.send().await);
        assert_eq!((status, code.as_str()), (400, "BadDigest"), "request {i}");
        assert_eq!(store.body("k").await, "OLD", "request {i}");
    }
    assert_eq!(
        refusal(put().content_md5("no md5").send().await),
        (400, "InvalidDigest".to_owned())
    );
    assert_eq!(
        refusal(
            store
                .sdk
                .put_object()
                .bucket(BUCKET)
                .key("new")
                .checksum_sha1(zeros(20))
                .body(ByteStream::from_static(b"x"))
                .send()
                .await
        )
        .0,
        400
    );
    assert_eq!(store.visible(), ["pictures/k"]);
    put().send().await.unwrap();
    assert_eq!(store.body("k").await, "NEW");
}

#[tokio::test]
async fn bytes_that_change_on_the_way_are_refused() {
    let store = Store::new().await;
    store.objects.put(&uri("k"), "OLD".into(), &Put::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("body");
    let mut body = vec![b'.'; 300_000];
    body[150_000..150_006].copy_from_slice(b"marker");
    std::fs::write(&path, &body).unwrap();
    for streamed in [true, false] {
        let proxy = Proxy::new(store.server.addr(), [Fault::Flip(b"marker", b"mArker")]).await;
        let stream = if streamed {
            ByteStream::from_path(&path).await.unwrap()
        } else {
            ByteStream::from(body.clone())
        };
        let request =
            sdk(&store.server, &proxy.endpoint()).put_object().bucket(BUCKET).key("k").body(stream);
        assert_eq!(refusal(request.send().await).0, 400, "streamed: {streamed}");
        assert_eq!(store.body("k").await, "OLD", "streamed: {streamed}");
    }
    let stream = ByteStream::from_path(&path).await.unwrap();
    store.sdk.put_object().bucket(BUCKET).key("k").body(stream).send().await.unwrap();
    assert_eq!(store.body("k").await, body, "no framing inside the object");
    let head = store.sdk.head_object().bucket(BUCKET).key("k").send().await.unwrap();
    assert_eq!(head.content_encoding(), None, "aws-chunked is of the request, not of the object");
}

/// Sends a presigned PUT whose body ends early, and returns what the server answers, if anything.
pub(crate) async fn truncated_put(
    addr: std::net::SocketAddr,
    path_and_query: &str,
    announced: usize,
    body: &[u8],
    close: bool,
) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "PUT {path_and_query} HTTP/1.1\r\nhost: {addr}\r\ncontent-length: {announced}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = String::new();
    if close {
        if body.len() < announced {
            stream.shutdown().await.unwrap();
        }
        let _ =
            tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut answer)).await;
    }
    (stream, answer)
}

pub(crate) async fn presigned_put(sdk: &aws_sdk_s3::Client, key: &str) -> String {
    let presigning = PresigningConfig::expires_in(Duration::from_secs(600)).unwrap();
    let request = sdk.put_object().bucket(BUCKET).key(key).presigned(presigning).await.unwrap();
    let url = request.uri().to_owned();
    let path = url.splitn(4, '/').nth(3).unwrap();
    format!("/{path}")
}

#[tokio::test]
async fn a_truncated_body_never_becomes_an_object() {
    let store = Store::new().await;
    store.objects.put(&uri("old"), "OLD".into(), &Put::default()).await.unwrap();
    for key in ["old", "new"] {
        let path = presigned_put(&store.sdk, key).await;
        let (_, answer) =
            truncated_put(store.server.addr(), &path, 1_000, &[b'x'; 400], true).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(store.visible(), ["pictures/old"]);
    assert_eq!(store.body("old").await, "OLD");
    let path = presigned_put(&store.sdk, "new").await;
    let (_, answer) = truncated_put(store.server.addr(), &path, 5, b"whole", true).await;
    assert!(
        answer.starts_with("HTTP/1.1 200"),
        "the same request with its whole body passes: {answer}"
    );
    assert_eq!(store.body("new").await, "whole");
}

#[tokio::test]
async fn a_replacement_may_ask_for_the_object_it_knows() {
    let store = Store::new().await;
    let put = |body: &'static [u8]| {
        store.sdk.put_object().bucket(BUCKET).key("k").body(ByteStream::from_static(body))
    };
    let first = put(b"1").send().await.unwrap().e_tag.unwrap();
    assert_eq!(first, "\"c4ca4238a0b923820dcc509a6f75849b\"", "the ETag is the md5");
    put(b"2").if_match(&first).send().await.unwrap();
    assert_eq!(
        refusal(put(b"3").if_match(&first).send().await),
        (412, "PreconditionFailed".to_owned())
    );
    assert_eq!(
        refusal(store.sdk.put_object().bucket(BUCKET).key("none").if_match(&first).send().await),
        (404, "NoSuchKey".to_owned())
    );
    assert_eq!(store.body("k").await, "2");
}
