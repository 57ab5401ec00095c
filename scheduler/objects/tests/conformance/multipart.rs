//! Uploads in parts.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use nightshift_objects::Put;

use crate::support::{BUCKET, Store, refusal, uri};

const PART_BYTES: usize = 5 << 20;

async fn begin(store: &Store, key: &str) -> String {
    let begun = store
        .sdk
        .create_multipart_upload()
        .bucket(BUCKET)
        .key(key)
        .content_type("image/png")
        .metadata("item_id", "7")
        .send()
        .await;
    begun.unwrap().upload_id.unwrap()
}

async fn part(store: &Store, key: &str, id: &str, number: i32, body: Vec<u8>) -> CompletedPart {
    let sent = store
        .sdk
        .upload_part()
        .bucket(BUCKET)
        .key(key)
        .upload_id(id)
        .part_number(number)
        .body(ByteStream::from(body))
        .send()
        .await
        .unwrap();
    CompletedPart::builder().part_number(number).e_tag(sent.e_tag.unwrap()).build()
}

fn all(parts: Vec<CompletedPart>) -> CompletedMultipartUpload {
    CompletedMultipartUpload::builder().set_parts(Some(parts)).build()
}

#[tokio::test]
async fn an_upload_in_parts() {
    let store = Store::new().await;
    let id = begin(&store, "big").await;
    let second = part(&store, "big", &id, 2, vec![b'b'; 1_000]).await;
    let first = part(&store, "big", &id, 1, vec![b'a'; PART_BYTES]).await;
    assert_eq!(store.visible(), [""; 0], "nothing is visible yet");
    let listed =
        store.sdk.list_parts().bucket(BUCKET).key("big").upload_id(&id).send().await.unwrap();
    assert_eq!(
        listed.parts().iter().filter_map(|part| part.size()).collect::<Vec<_>>(),
        [PART_BYTES as i64, 1_000]
    );
    let uploads = store.sdk.list_multipart_uploads().bucket(BUCKET).send().await.unwrap();
    assert_eq!(uploads.uploads()[0].upload_id(), Some(id.as_str()));

    let complete =
        || store.sdk.complete_multipart_upload().bucket(BUCKET).key("big").upload_id(&id);
    let wrong = CompletedPart::builder().part_number(1).e_tag("\"00\"").build();
    assert_eq!(
        refusal(complete().multipart_upload(all(vec![wrong])).send().await),
        (400, "InvalidPart".to_owned())
    );
    let reversed = all(vec![second.clone(), first.clone()]);
    assert_eq!(
        refusal(complete().multipart_upload(reversed).send().await),
        (400, "InvalidPartOrder".to_owned())
    );
    let done =
        complete().multipart_upload(all(vec![first.clone(), second.clone()])).send().await.unwrap();
    assert!(done.e_tag().unwrap().ends_with("-2\""), "{done:?}");
    let info = store.objects.head(&uri("big")).await.unwrap().unwrap();
    assert_eq!(
        (info.bytes, info.content_type.as_str(), info.metadata["item_id"].as_str()),
        (PART_BYTES as u64 + 1_000, "image/png", "7")
    );
    assert_eq!(&store.body("big").await[PART_BYTES - 1..PART_BYTES + 1], b"ab");
    let again = complete().multipart_upload(all(vec![first, second])).send().await;
    assert_eq!(refusal(again), (404, "NoSuchUpload".to_owned()));
}

#[tokio::test]
async fn small_parts_rivals_and_aborted_uploads() {
    let store = Store::new().await;
    let id = begin(&store, "k").await;
    let parts = vec![
        part(&store, "k", &id, 1, vec![1; 1_000]).await,
        part(&store, "k", &id, 2, vec![2; 1_000]).await,
    ];
    let complete = |id: &str, parts| {
        store
            .sdk
            .complete_multipart_upload()
            .bucket(BUCKET)
            .key("k")
            .upload_id(id)
            .multipart_upload(all(parts))
    };
    assert_eq!(refusal(complete(&id, parts).send().await), (400, "EntityTooSmall".to_owned()));

    store.objects.put(&uri("k"), Bytes::from_static(b"first"), &Put::default()).await.unwrap();
    let only = part(&store, "k", &id, 1, vec![3; 1_000]).await;
    let late = complete(&id, vec![only.clone()]).if_none_match("*").send().await;
    assert_eq!(refusal(late), (412, "PreconditionFailed".to_owned()));
    assert_eq!(store.body("k").await, "first");

    store.sdk.abort_multipart_upload().bucket(BUCKET).key("k").upload_id(&id).send().await.unwrap();
    assert_eq!(refusal(complete(&id, vec![only]).send().await), (404, "NoSuchUpload".to_owned()));
    assert!(
        store
            .sdk
            .list_multipart_uploads()
            .bucket(BUCKET)
            .send()
            .await
            .unwrap()
            .uploads()
            .is_empty()
    );
    let forged = store
        .sdk
        .abort_multipart_upload()
        .bucket(BUCKET)
        .key("k")
        .upload_id("../../pictures")
        .send()
        .await;
    assert_eq!(refusal(forged), (404, "NoSuchUpload".to_owned()));
    assert_eq!(store.visible(), ["pictures/k"]);
}
