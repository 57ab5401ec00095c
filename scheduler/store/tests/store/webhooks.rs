//! The outbox: what is written into it, and how it is emptied.

use nightshift_store::{Error, ItemReport, Policy, TenantSettings, Webhook};
use serde_json::json;

use crate::lab::{Lab, ok, report};

/// A ready job of alice that tells of these events.
pub(crate) async fn telling(lab: &Lab, events: &[&str]) -> i64 {
    let settings = TenantSettings {
        webhook_prefixes: Some(vec!["https://hooks.test/".to_owned()]),
        secret_names: Some(vec!["HOOK".to_owned()]),
        ..TenantSettings::default()
    };
    lab.admin.set_tenant("default", &settings).await.unwrap();
    lab.ready_with(|mut plan| {
        plan.resolved["notify"] = json!([
            {"webhook": "https://hooks.test/a", "events": events, "secret_env": "HOOK"},
            {"webhook": "https://hooks.test/b", "events": ["failed"]}
        ]);
        plan.policy = Policy { max_gpu_ms: Some(1_000), ..plan.policy };
        plan
    })
    .await
}

async fn due(lab: &Lab) -> Vec<Webhook> {
    lab.scheduler.webhooks_due(&lab.term, 64).await.unwrap()
}

fn event(webhook: &Webhook) -> String {
    let body: serde_json::Value = webhook.body.parse().unwrap();
    assert_eq!(body["id"], webhook.event_id);
    body["event"].as_str().unwrap().to_owned()
}

async fn state(lab: &Lab) -> String {
    lab.text("select string_agg(state || ' ' || attempts, ', ' order by created_at) from nightshift.webhooks")
        .await
}

#[tokio::test]
async fn each_event_is_told_once_to_those_who_asked() {
    let lab = Lab::new().await;
    let worker = lab.register("w").await;
    let job = telling(&lab, &["started", "budget_80", "finished", "cancelled"]).await;
    assert!(due(&lab).await.is_empty());
    let mut lease = lab.claim(worker).await;
    let events: Vec<String> = due(&lab).await.iter().map(event).collect();
    assert_eq!(events, ["started"]);
    // Four fifths of a second of engine time, in two reports.
    for (index, gpu_ms) in [(0, 700), (1, 200)] {
        let item = ItemReport { gpu_ms: Some(gpu_ms), ..ok(index) };
        lab.worker.progress(&mut lease, &report(vec![item])).await.unwrap();
        let events: Vec<String> = due(&lab).await.iter().map(event).collect();
        assert_eq!(events, if index == 0 { vec![] } else { vec!["budget_80"] });
    }
    assert!(due(&lab).await.is_empty(), "budget_80 is told once in a round");
    lab.alice.cancel(job).await.unwrap();
    lab.worker.release(&lease, &report(Vec::new())).await.unwrap();
    let told = due(&lab).await;
    assert_eq!(told.iter().map(event).collect::<Vec<_>>(), ["cancelled"]);
    assert_eq!(
        (told[0].url.as_str(), told[0].secret_name.as_deref()),
        ("https://hooks.test/a", Some("HOOK"))
    );
}

#[tokio::test]
async fn a_delivery_is_due_again_until_it_is_accepted_or_given_up() {
    let lab = Lab::new().await;
    let worker = lab.register("w").await;
    telling(&lab, &["started"]).await;
    lab.claim(worker).await;
    let first = due(&lab).await.remove(0);
    assert!(due(&lab).await.is_empty(), "it is being delivered");
    // Whoever took it died: after its time another takes it, and the first has nothing to say any more.
    lab.advance(21).await;
    let second = due(&lab).await.remove(0);
    assert_eq!((second.attempt, &second.event_id, &second.body), (2, &first.event_id, &first.body));
    let told = async |webhook: &Webhook, error: Option<&str>| {
        lab.scheduler.webhook_told(&lab.term, webhook, Some(503), error).await.unwrap()
    };
    assert!(!told(&first, None).await);
    assert!(told(&second, Some("answered 503")).await);
    // The pause is drawn below its length, which doubles: four seconds after the second attempt.
    let pause = "select (due_at - nightshift.clock() between '0' and '4 seconds')::text from nightshift.webhook";
    assert_eq!(lab.text(pause).await, "true");
    lab.sql("update nightshift.webhook set attempts = 19, due_at = nightshift.clock()").await;
    let last = due(&lab).await.remove(0);
    assert!(told(&last, Some("answered 503")).await);
    assert_eq!(state(&lab).await, "failed 20");
    assert_eq!(
        lab.text("select count(*)::text from nightshift.events where what = 'webhook_failed'")
            .await,
        "1"
    );
    assert!(due(&lab).await.is_empty());
}

#[tokio::test]
async fn a_place_that_is_not_allowed_any_more_is_not_called() {
    let lab = Lab::new().await;
    let worker = lab.register("w").await;
    telling(&lab, &["started"]).await;
    lab.claim(worker).await;
    let entries = |url: &str| json!([{"webhook": url, "events": ["started"]}]);
    let refusal = async |url: &str| {
        let job = lab.submitted().await;
        lab.scheduler.notify_refusal(&lab.term, job, &entries(url)).await.unwrap()
    };
    assert_eq!(refusal("https://hooks.test/x").await, None);
    assert!(refusal("https://hooks.test.evil/x").await.is_some());
    let nothing =
        TenantSettings { webhook_prefixes: Some(Vec::new()), ..TenantSettings::default() };
    lab.admin.set_tenant("default", &nothing).await.unwrap();
    assert!(due(&lab).await.is_empty());
    assert_eq!(state(&lab).await, "failed 0");
    let bad = TenantSettings {
        secret_names: Some(vec!["not a name".to_owned()]),
        ..TenantSettings::default()
    };
    let refused = lab.admin.set_tenant("default", &bad).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
}
