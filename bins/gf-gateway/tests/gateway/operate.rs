//! What operators do.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Gateway, code};

const UNKNOWN: &str = "01890000-0000-7000-8000-000000000001";

/// A task that fails at once.
const FAILING: &str = r#"{"type":"sleep","payload":"soon"}"#;

#[tokio::test]
async fn a_finished_task_is_run_again_under_a_new_id() {
    let gateway = Gateway::start().await;
    let first = gateway
        .done(r#"{"type":"echo","payload":[1],"tags":{"a":"b"}}"#)
        .await;
    let id = first["id"].as_str().unwrap();
    let (status, answer) = gateway.post(&format!("/v1/tasks/{id}/run-again"), "").await;
    assert_eq!(status, 202, "{answer}");
    let again = answer["id"].as_str().unwrap();
    assert_ne!(again, id);
    let (_, task) = gateway.get(&format!("/v1/tasks/{again}?wait=20s")).await;
    assert_eq!(
        (
            &task["state"],
            &task["retry_of"],
            &task["result"],
            &task["tags"]
        ),
        (
            &json!("succeeded"),
            &json!(id),
            &json!([1]),
            &json!({"a": "b"})
        ),
        "{task}"
    );

    let waiting = gateway.push(r#"{"type":"echo","delay":"1h"}"#).await;
    let (status, problem) = gateway
        .post(&format!("/v1/tasks/{waiting}/run-again"), "")
        .await;
    assert_eq!(
        (status.as_u16(), code(&problem), &problem["task"]["id"]),
        (409, "wrong_state", &json!(waiting))
    );
    for (id, expected) in [(UNKNOWN, (404, "not_found")), ("x", (400, "invalid_id"))] {
        let (status, problem) = gateway.post(&format!("/v1/tasks/{id}/run-again"), "").await;
        assert_eq!((status.as_u16(), code(&problem)), expected);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn many_tasks_are_changed_at_once() {
    let gateway = Gateway::idle().await;
    for _ in 0..3 {
        gateway.push(r#"{"type":"a","queue":"q"}"#).await;
    }
    let other = gateway.push(r#"{"type":"b"}"#).await;
    let filter = r#"{"filter":{"type":"a","queue":"q"},"limit":2}"#;
    let (status, done) = gateway.post("/v1/tasks/cancel", filter).await;
    assert_eq!(
        (status.as_u16(), done),
        (200, json!({"changed": 2, "skipped": 0, "more": true}))
    );
    let (_, done) = gateway
        .post("/v1/tasks/cancel", r#"{"filter":{"type":"a"}}"#)
        .await;
    assert_eq!(done, json!({"changed": 1, "skipped": 0, "more": false}));
    let (_, task) = gateway.get(&format!("/v1/tasks/{other}")).await;
    assert_eq!(task["state"], "queued", "it did not pass the filter");

    let (_, done) = gateway
        .post(
            "/v1/tasks/retry",
            r#"{"filter":{"state":["cancelled"],"until":"2000-01-01T00:00:00Z"}}"#,
        )
        .await;
    assert_eq!(done["changed"], 0);
    let (_, done) = gateway
        .post(
            "/v1/tasks/retry",
            r#"{"filter":{"state":"cancelled,failed"}}"#,
        )
        .await;
    assert_eq!(done["changed"], 3);
    gateway.stop().await;
}

#[tokio::test]
async fn bad_bulk_changes_are_named() {
    let gateway = Gateway::idle().await;
    gateway.push(r#"{"type":"t"}"#).await;
    for path in ["/v1/tasks/cancel", "/v1/tasks/retry"] {
        for (body, expected, part) in [
            ("", "invalid_body", ""),
            ("{}", "invalid_body", "filter"),
            (r#"{"filter":{}}"#, "invalid", "at least one"),
            (r#"{"filter":{"state":[]}}"#, "invalid", "at least one"),
            (r#"{"filter":{"type":null}}"#, "invalid", "at least one"),
            (
                r#"{"filter":{"state":"done"}}"#,
                "invalid_body",
                "filter.state",
            ),
            (
                r#"{"filter":{"state":"succeeded"}}"#,
                "invalid",
                "succeeded",
            ),
            (r#"{"filter":{"state":"running"}}"#, "invalid", "running"),
            (r#"{"filter":{"type":"a.b"}}"#, "invalid_name", "a.b"),
            (r#"{"filter":{"queue":"*"}}"#, "invalid_name", "*"),
            (
                r#"{"filter":{"since":"1h"}}"#,
                "invalid_body",
                "filter.since",
            ),
            (r#"{"filter":{"id":"x"}}"#, "invalid_body", "id"),
            (r#"{"filter":{"type":"t"},"limit":0}"#, "invalid", "limit"),
            (
                r#"{"filter":{"type":"t"},"limit":10001}"#,
                "invalid",
                "limit",
            ),
            (
                r#"{"filter":{"type":"t"},"limit":"all"}"#,
                "invalid_body",
                "limit",
            ),
        ] {
            let (status, problem) = gateway.post(path, body).await;
            assert_eq!(
                (status.as_u16(), code(&problem)),
                (400, expected),
                "{path} {body}: {problem}"
            );
            assert!(
                problem["detail"].as_str().unwrap().contains(part),
                "{path} {body}: {problem}"
            );
        }
        let (status, problem) = gateway.post(&format!("{path}?type=t"), "{}").await;
        assert_eq!((status.as_u16(), code(&problem)), (400, "invalid_query"));
    }
    let (_, list) = gateway.get("/v1/tasks?state=queued").await;
    assert_eq!(list["tasks"].as_array().unwrap().len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn the_dead_are_grouped() {
    let gateway = Gateway::start().await;
    let first = gateway.done(FAILING).await;
    assert_eq!(first["state"], "failed", "{first}");
    let second = gateway.done(FAILING).await;
    gateway.done(r#"{"type":"echo"}"#).await;
    let (status, dead) = gateway.get("/v1/dead").await;
    assert_eq!(status, 200);
    let [group] = &dead["groups"].as_array().unwrap()[..] else {
        panic!("not one group: {dead}")
    };
    assert_eq!(
        (
            &group["type"],
            &group["state"],
            &group["count"],
            &group["newest"]
        ),
        (&json!("sleep"), &json!("failed"), &json!(2), &second["id"])
    );
    assert!(
        group["last_finished_at"].is_string()
            && first["error"]
                .as_str()
                .unwrap()
                .starts_with(group["error"].as_str().unwrap()),
        "{group}"
    );
    let (_, dead) = gateway.get("/v1/dead?since=2099-01-01T00:00:00Z").await;
    assert_eq!(dead, json!({"groups": []}));
    for query in ["since=7d", "type=sleep"] {
        let (status, problem) = gateway.get(&format!("/v1/dead?{query}")).await;
        assert_eq!((status.as_u16(), code(&problem)), (400, "invalid_query"));
    }
    gateway.stop().await;
}

fn queue<'a>(queues: &'a Value, name: &str) -> &'a Value {
    let queues = queues["queues"].as_array().unwrap();
    queues.iter().find(|queue| queue["name"] == name).unwrap()
}

#[tokio::test]
async fn a_paused_queue_starts_nothing_until_it_is_resumed() {
    let gateway = Gateway::start().await;
    let (status, answer) = gateway.post("/v1/queues/default/pause", "").await;
    assert_eq!(
        (status.as_u16(), answer),
        (200, json!({"name": "default", "paused": true}))
    );
    let id = gateway.push(r#"{"type":"echo"}"#).await;
    let (_, task) = gateway.get(&format!("/v1/tasks/{id}?wait=700ms")).await;
    assert_eq!(task["state"], "queued");
    let (_, queues) = gateway.get("/v1/queues").await;
    assert_eq!(queue(&queues, "default")["paused"], true, "{queues}");
    let (_, metrics) = gateway.text(gateway.request(Method::GET, "/metrics")).await;
    assert!(metrics.contains("goflow_queue_paused{queue=\"default\"} 1\n"));

    let (status, answer) = gateway.post("/v1/queues/default/resume", "").await;
    assert_eq!((status.as_u16(), &answer["paused"]), (200, &json!(false)));
    let (_, task) = gateway.get(&format!("/v1/tasks/{id}?wait=20s")).await;
    assert_eq!(task["state"], "succeeded");
    let (_, queues) = gateway.get("/v1/queues").await;
    assert_eq!(queue(&queues, "default")["paused"], false);
    for action in ["pause", "resume"] {
        for name in ["a.b", "%3E", "%00", "%ff"] {
            let (status, problem) = gateway
                .post(&format!("/v1/queues/{name}/{action}"), "")
                .await;
            assert_eq!(
                (status.as_u16(), code(&problem)),
                (400, "invalid_name"),
                "{name}"
            );
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_purge_has_to_be_confirmed() {
    let gateway = Gateway::idle().await;
    let tasks = vec![json!({"type": "t", "queue": "q"}); 900];
    for _ in 0..2 {
        let batch = json!({ "tasks": tasks }).to_string();
        assert_eq!(gateway.post("/v1/tasks/batch", batch).await.0, 202);
    }
    let later = gateway
        .push(r#"{"type":"t","queue":"q","delay":"1h"}"#)
        .await;
    let other = gateway.push(r#"{"type":"t"}"#).await;
    for (body, expected) in [
        ("", "invalid_body"),
        ("{}", "invalid_body"),
        (r#"{"confirm":"default"}"#, "invalid"),
        (r#"{"confirm":""}"#, "invalid"),
        (r#"{"confirm":"q","force":true}"#, "invalid_body"),
    ] {
        let (status, problem) = gateway.post("/v1/queues/q/purge", body).await;
        assert_eq!((status.as_u16(), code(&problem)), (400, expected), "{body}");
    }
    let (status, done) = gateway
        .post("/v1/queues/q/purge", r#"{"confirm":"q"}"#)
        .await;
    assert_eq!(
        (status.as_u16(), done),
        (200, json!({"changed": 1801, "skipped": 0, "more": false}))
    );
    let state = async |id| gateway.get(&format!("/v1/tasks/{id}")).await.1["state"].clone();
    assert_eq!(
        (state(later).await, state(other).await),
        (json!("cancelled"), json!("queued"))
    );
    gateway.stop().await;
}

/// The only worker, once it passes.
async fn worker(gateway: &Gateway, passes: impl Fn(&Value) -> bool) -> Value {
    let looking = async {
        loop {
            let (_, workers) = gateway.get("/v1/workers").await;
            if passes(&workers["workers"]) {
                return workers["workers"][0].clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(10), looking).await;
    found.expect("no worker like that")
}

#[tokio::test]
async fn a_worker_does_what_it_is_told() {
    let gateway = Gateway::start().await;
    let seen = worker(&gateway, |workers| workers[0]["quiet"] == false).await;
    let id = seen["id"].as_str().unwrap();
    let running = gateway
        .push(r#"{"type":"sleep","payload":{"ms":1500}}"#)
        .await;
    let seen = worker(&gateway, |workers| {
        workers[0]["tasks"][0]["started_at"].is_string()
    })
    .await;
    assert_eq!(seen["tasks"][0]["id"], running);

    let (status, told) = gateway.post(&format!("/v1/workers/{id}/quiet"), "").await;
    assert_eq!(
        (status.as_u16(), told),
        (202, json!({"id": id, "command": "quiet"}))
    );
    worker(&gateway, |workers| workers[0]["quiet"] == true).await;
    let waiting = gateway.push(r#"{"type":"echo"}"#).await;
    let (_, task) = gateway.get(&format!("/v1/tasks/{running}?wait=20s")).await;
    assert_eq!(task["state"], "succeeded", "what ran went on");
    let (_, task) = gateway
        .get(&format!("/v1/tasks/{waiting}?wait=500ms"))
        .await;
    assert_eq!(task["state"], "queued");
    let (status, _) = gateway.post(&format!("/v1/workers/{id}/resume"), "").await;
    assert_eq!(status, 202);
    let (_, task) = gateway.get(&format!("/v1/tasks/{waiting}?wait=20s")).await;
    assert_eq!(task["state"], "succeeded");

    let (status, _) = gateway.post(&format!("/v1/workers/{id}/stop"), "").await;
    assert_eq!(status, 202);
    worker(&gateway, |workers| *workers == json!([])).await;
    // The gateway goes on without it.
    gateway.push(r#"{"type":"echo"}"#).await;
    for command in ["quiet", "resume", "stop"] {
        for (id, expected) in [
            (id, (404, "no_worker")),
            (UNKNOWN, (404, "no_worker")),
            ("nonsense", (400, "invalid_id")),
            ("%ff", (400, "invalid_id")),
        ] {
            let (status, problem) = gateway
                .post(&format!("/v1/workers/{id}/{command}"), "")
                .await;
            assert_eq!(
                (status.as_u16(), code(&problem)),
                expected,
                "{id}/{command}"
            );
        }
    }
    gateway.stop().await;
}
