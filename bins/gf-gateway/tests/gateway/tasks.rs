//! What becomes of tasks.

use gf_process::StoreOptions;
use reqwest::Method;
use serde_json::json;

use crate::support::{Gateway, code};

#[tokio::test]
async fn an_echo_returns_its_bytes() {
    let gateway = Gateway::start().await;
    let payload = r#"{ "N":10,  "big":12345678901234567890.0 }"#;
    let id = gateway
        .push(&format!(r#"{{"type":"echo","payload":{payload}}}"#))
        .await;
    let (status, text) = gateway
        .text(gateway.request(Method::GET, &format!("/v1/tasks/{id}?wait=20s")))
        .await;
    assert_eq!(status, 200);
    assert!(
        text.contains(&format!(r#""payload":{payload},"#))
            && text.contains(&format!(r#""result":{payload},"#)),
        "{text}"
    );
    let task: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&task["id"], &task["state"], &task["attempt"]),
        (&json!(id), &json!("succeeded"), &json!(1))
    );
    assert_eq!(task["content_type"], "application/json");
    for name in ["started_at", "finished_at", "created_at", "worker"] {
        assert!(task[name].is_string(), "{name}: {task}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn other_contents_come_back_as_they_went() {
    let gateway = Gateway::start().await;
    let task = gateway
        .done(r#"{"type":"echo","content_type":"text/plain","payload":"<b>\"hi\"</b>"}"#)
        .await;
    assert_eq!(
        (&task["result"], &task["result_content_type"]),
        (&json!("<b>\"hi\"</b>"), &json!("text/plain"))
    );
    let task = gateway
        .done(r#"{"type":"echo","content_type":"image/png","payload":"/wA="}"#)
        .await;
    assert_eq!(
        (&task["result"], &task["result_content_type"]),
        (&json!("/wA="), &json!("image/png"))
    );
    let task = gateway.done(r#"{"type":"echo"}"#).await;
    assert_eq!(
        (&task["state"], &task["result"]),
        (&json!("succeeded"), &json!(null))
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_wait_that_runs_out_shows_the_present() {
    let gateway = Gateway::idle().await;
    let id = gateway
        .push(r#"{"type":"echo","queue":"q","tags":{"a":"b"},"headers":{"c":"d"}}"#)
        .await;
    let (status, task) = gateway.get(&format!("/v1/tasks/{id}?wait=100ms")).await;
    assert_eq!(
        (status.as_u16(), &task["state"], &task["queue"]),
        (200, &json!("queued"), &json!("q"))
    );
    assert_eq!(
        (&task["tags"], &task["headers"]),
        (&json!({"a": "b"}), &json!({"c": "d"}))
    );
    gateway.stop().await;
}

#[tokio::test]
async fn cancel_and_retry_obey_the_states() {
    let gateway = Gateway::idle().await;
    let id = gateway.push(r#"{"type":"echo","delay":"1h"}"#).await;
    let (_, task) = gateway.get(&format!("/v1/tasks/{id}")).await;
    assert_eq!(task["state"], "scheduled");
    assert!(task["due_at"].is_string(), "{task}");
    let (status, problem) = gateway.post(&format!("/v1/tasks/{id}/retry"), "").await;
    assert_eq!((status.as_u16(), code(&problem)), (409, "wrong_state"));

    let (status, task) = gateway.post(&format!("/v1/tasks/{id}/cancel"), "").await;
    assert_eq!(
        (status.as_u16(), &task["state"]),
        (200, &json!("cancelled"))
    );
    let (status, problem) = gateway.post(&format!("/v1/tasks/{id}/cancel"), "").await;
    assert_eq!((status.as_u16(), code(&problem)), (409, "wrong_state"));
    assert_eq!(
        (&problem["task"]["id"], &problem["task"]["state"]),
        (&json!(id), &json!("cancelled"))
    );

    let (status, task) = gateway.post(&format!("/v1/tasks/{id}/retry"), "").await;
    assert_eq!(
        (status.as_u16(), &task["attempt"]),
        (200, &json!(2)),
        "{task}"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn batches_are_all_or_none() {
    let gateway = Gateway::idle().await;
    let batch = r#"{"tasks":[{"type":"a"},{"type":"b","queue":"q"}]}"#;
    let (status, answer) = gateway.post("/v1/tasks/batch", batch).await;
    assert_eq!(status, 202);
    let ids: Vec<_> = answer["ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        gateway.get(&format!("/v1/tasks/{}", ids[0])).await.1["type"],
        "a"
    );
    assert_eq!(
        gateway.get(&format!("/v1/tasks/{}", ids[1])).await.1["type"],
        "b"
    );

    let (status, problem) = gateway
        .post(
            "/v1/tasks/batch",
            r#"{"tasks":[{"type":"c"},{"type":"c c"}]}"#,
        )
        .await;
    assert_eq!((status.as_u16(), code(&problem)), (400, "invalid_name"));
    assert_eq!(gateway.get("/v1/tasks?type=c").await.1["tasks"], json!([]));
    gateway.stop().await;
}

#[tokio::test]
async fn an_idempotency_key_gives_one_id() {
    let gateway = Gateway::idle().await;
    let push = async |body: &str| {
        let request = gateway
            .request(Method::POST, "/v1/tasks")
            .header("Idempotency-Key", "k1")
            .body(body.to_owned());
        gateway.json(request).await
    };
    let (status, first) = push(r#"{"type":"echo","payload":1}"#).await;
    assert_eq!(status, 202);
    assert_eq!(
        push(r#"{"type":"echo","payload":1}"#).await,
        (status, first)
    );
    let (status, problem) = push(r#"{"type":"echo","payload":2}"#).await;
    assert_eq!((status.as_u16(), code(&problem)), (422, "key_reused"));
    gateway.stop().await;
}

#[tokio::test]
async fn lists_are_paged_newest_first() {
    let gateway = Gateway::idle().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(gateway.push(r#"{"type":"paged"}"#).await);
    }
    gateway.push(r#"{"type":"other"}"#).await;
    ids.sort();
    ids.reverse();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = gateway
            .get(&format!("/v1/tasks?type=paged&limit=2&cursor={cursor}"))
            .await;
        assert_eq!(status, 200);
        seen.extend(
            page["tasks"]
                .as_array()
                .unwrap()
                .iter()
                .map(|task| task["id"].as_str().unwrap().to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    assert_eq!(
        gateway.get("/v1/tasks?state=succeeded,failed").await.1["tasks"],
        json!([])
    );
    assert_eq!(
        gateway
            .get("/v1/tasks?state=queued&state=failed&limit=500")
            .await
            .1["tasks"]
            .as_array()
            .unwrap()
            .len(),
        6
    );
    assert_eq!(
        gateway.get("/v1/tasks?until=2020-01-01T00:00:00Z").await.1["tasks"],
        json!([])
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let gateway = Gateway::with(gf_gateway::Options {
        store: StoreOptions {
            max_undispatched: 1,
            ..StoreOptions::default()
        },
        ..crate::support::options(Some(0))
    })
    .await;
    gateway.push(r#"{"type":"echo"}"#).await;
    let response = gateway
        .request(Method::POST, "/v1/tasks")
        .body(r#"{"type":"echo"}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 429);
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(code(&response.json().await.unwrap()), "queue_full");
    gateway.stop().await;
}

#[tokio::test]
async fn without_a_full_record_there_is_nothing_to_see_before_the_end() {
    let options = gf_gateway::Options {
        record: gf_gateway::Record::Outcome,
        ..crate::support::options(Some(0))
    };
    let gateway = Gateway::with(options).await;
    let id = gateway.push(r#"{"type":"echo"}"#).await;
    let (status, problem) = gateway.get(&format!("/v1/tasks/{id}")).await;
    assert_eq!((status.as_u16(), code(&problem)), (404, "not_recorded_yet"));
    let (status, problem) = gateway.post(&format!("/v1/tasks/{id}/cancel"), "").await;
    assert_eq!(
        (status.as_u16(), code(&problem)),
        (409, "needs_full_record")
    );
    gateway.stop().await;
}
