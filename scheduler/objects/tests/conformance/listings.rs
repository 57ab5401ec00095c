//! Listings: pages, groups, order, odd keys.

use aws_sdk_s3::types::EncodingType;
use bytes::Bytes;
use nightshift_objects::Put;

use crate::support::{BUCKET, Store, refusal, uri};

const ODD: [&str; 14] = [
    "a b",
    "a+b",
    "100%",
    "%2e%2e/x",
    "é",
    "e\u{301}",
    "日本/語",
    "..a",
    "a..",
    "q?x=1&y#z",
    "back\\slash",
    "<&>\"'",
    "\u{202e}rtl",
    "C:\\x",
];

#[tokio::test]
async fn odd_keys_come_back_as_written() {
    let store = Store::new().await;
    for key in ODD {
        store
            .objects
            .put(&uri(key), Bytes::copy_from_slice(key.as_bytes()), &Put::default())
            .await
            .unwrap();
    }
    for key in ODD {
        assert_eq!(store.body(key).await, key);
        assert_eq!(std::fs::read(store.file(key)).unwrap(), key.as_bytes());
    }
    let page = store.objects.list_page(&uri(""), None).await.unwrap();
    let mut sorted = ODD.to_vec();
    sorted.sort_unstable();
    assert_eq!(page.objects.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), sorted);
    let raw = store
        .sdk
        .list_objects_v2()
        .bucket(BUCKET)
        .encoding_type(EncodingType::Url)
        .prefix("日")
        .send()
        .await
        .unwrap();
    assert_eq!(raw.contents()[0].key(), Some("%E6%97%A5%E6%9C%AC/%E8%AA%9E"));
    assert_eq!(raw.prefix(), Some("%E6%97%A5"));
    for key in ODD {
        store.objects.delete(&uri(key)).await.unwrap();
    }
    assert_eq!(store.visible(), [""; 0]);
}

#[tokio::test]
async fn pages_and_groups_in_order() {
    let store = Store::new().await;
    // By hand, which is quicker; and so they are objects too.
    for i in 0..1_050 {
        let path = store.file(&format!("n/{i:04}"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }
    std::fs::write(store.file("m"), "x").unwrap();
    std::fs::write(store.file("n.txt"), "x").unwrap();
    let first = store.objects.list_page(&uri("n/"), None).await.unwrap();
    assert_eq!((first.objects.len(), first.objects[999].key.as_str()), (1_000, "n/0999"));
    let second = store.objects.list_page(&uri("n/"), first.next).await.unwrap();
    assert_eq!(
        (second.objects.len(), second.objects[0].key.as_str(), second.next),
        (50, "n/1000", None)
    );

    let list = || store.sdk.list_objects_v2().bucket(BUCKET);
    let groups = list().delimiter("/").send().await.unwrap();
    let keys: Vec<_> = groups.contents().iter().filter_map(|object| object.key()).collect();
    assert_eq!(
        (keys, groups.common_prefixes()[0].prefix(), groups.key_count()),
        (vec!["m", "n.txt"], Some("n/"), Some(3))
    );
    let after = list().start_after("n/1047").send().await.unwrap();
    assert_eq!(
        after.contents().iter().filter_map(|object| object.key()).collect::<Vec<_>>(),
        ["n/1048", "n/1049"]
    );
    let one = list().max_keys(1).delimiter("/").send().await.unwrap();
    assert_eq!((one.contents()[0].key(), one.is_truncated()), (Some("m"), Some(true)));
    let none = list().prefix("zz").send().await.unwrap();
    assert_eq!((none.contents().len(), none.is_truncated()), (0, Some(false)));
    assert_eq!(refusal(list().continuation_token("forged!").send().await).0, 400);
    let old = store
        .sdk
        .list_objects()
        .bucket(BUCKET)
        .prefix("n/10")
        .marker("n/1048")
        .send()
        .await
        .unwrap();
    assert_eq!(
        old.contents().iter().filter_map(|object| object.key()).collect::<Vec<_>>(),
        ["n/1049"]
    );
}
