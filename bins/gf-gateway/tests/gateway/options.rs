//! The options of a push, and what they do.

use reqwest::Method;
use serde_json::json;

use crate::support::{Gateway, code};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn options_are_kept_and_shown() {
    let gateway = Gateway::idle().await;
    let id = gateway
        .push(
            r#"{"type":"t","delay":"1h","priority":3,"deadline":"2h","unique":{"key":"k","period":"1d"},
                "retention":"30d","heartbeat_timeout":60}"#,
        )
        .await;
    let (_, task) = gateway.get(&format!("/v1/tasks/{id}")).await;
    assert_eq!(
        (&task["priority"], &task["deadline"], &task["unique_key"]),
        (&json!(3), &json!("2h"), &json!("k")),
        "{task}"
    );
    assert_eq!(
        (&task["progress"], &task["retry_of"]),
        (&json!(null), &json!(null))
    );
    let plain = gateway.push(r#"{"type":"t"}"#).await;
    let (_, task) = gateway.get(&format!("/v1/tasks/{plain}")).await;
    assert_eq!(
        (&task["priority"], &task["deadline"], &task["unique_key"]),
        (&json!(1), &json!(null), &json!(null))
    );
    let at = gateway
        .push(r#"{"type":"t","deadline":"2099-01-01T00:00:00Z"}"#)
        .await;
    let (_, task) = gateway.get(&format!("/v1/tasks/{at}")).await;
    assert_eq!(task["deadline"], "2099-01-01T00:00:00Z");
    gateway.stop().await;
}

#[tokio::test]
async fn a_deadline_ends_a_task() {
    let gateway = Gateway::idle().await;
    let task = gateway.done(r#"{"type":"t","deadline":0.2}"#).await;
    assert_eq!(task["state"], "expired", "{task}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_taken_key_gives_the_task_that_has_it_or_a_problem() {
    let gateway = Gateway::idle().await;
    let first = gateway.push(r#"{"type":"t","unique":{"key":"k"}}"#).await;
    assert_eq!(
        gateway
            .push(r#"{"type":"t","payload":2,"unique":{"key":"k","on_conflict":"existing"}}"#)
            .await,
        first
    );
    let reject = r#"{"type":"t","unique":{"key":"k","on_conflict":"reject"}}"#;
    let (status, problem) = gateway.post("/v1/tasks", reject).await;
    assert_eq!(
        (status.as_u16(), code(&problem), &problem["existing"]),
        (409, "duplicate", &json!(first)),
        "{problem}"
    );
    let batch = format!(r#"{{"tasks":[{{"type":"other"}},{reject}]}}"#);
    let (status, problem) = gateway.post("/v1/tasks/batch", batch).await;
    assert_eq!((status.as_u16(), code(&problem)), (409, "duplicate"));
    assert_eq!(
        gateway.get("/v1/tasks?type=other").await.1["tasks"],
        json!([])
    );
    // The key is free again once its task has ended.
    gateway.post(&format!("/v1/tasks/{first}/cancel"), "").await;
    assert_ne!(gateway.push(reject).await, first);
    gateway.stop().await;
}

#[tokio::test]
async fn a_trace_goes_along() {
    let gateway = Gateway::idle().await;
    let headers = async |path: &str, trace: &str, body: &str, key: Option<&str>| {
        let mut request = gateway
            .request(Method::POST, path)
            .header("traceparent", trace)
            .body(body.to_owned());
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let (status, answer) = gateway.json(request).await;
        assert_eq!(status, 202, "{answer}");
        let id = answer["id"].as_str().or(answer["ids"][0].as_str());
        let path = format!("/v1/tasks/{}", id.unwrap());
        gateway.get(&path).await.1["headers"].clone()
    };
    let plain = r#"{"type":"t","headers":{"a":"b"}}"#;
    assert_eq!(
        headers("/v1/tasks", TRACE, plain, None).await,
        json!({"a": "b", "traceparent": TRACE})
    );
    let batch = r#"{"tasks":[{"type":"t"}]}"#;
    assert_eq!(
        headers("/v1/tasks/batch", TRACE, batch, None).await,
        json!({"traceparent": TRACE})
    );
    let own = r#"{"type":"t","headers":{"traceparent":"mine"}}"#;
    assert_eq!(
        headers("/v1/tasks", TRACE, own, None).await,
        json!({"traceparent": "mine"})
    );
    assert_eq!(
        headers("/v1/tasks", "nonsense", plain, None).await,
        json!({"a": "b"})
    );
    // A push that is sent again, in another span, is the same push.
    let again = TRACE.replace("00f067aa0ba902b7", "00f067aa0ba902b8");
    for trace in [TRACE, &again] {
        assert_eq!(
            headers("/v1/tasks", trace, plain, Some("k")).await,
            json!({"a": "b", "traceparent": TRACE})
        );
    }
    gateway.stop().await;
}
