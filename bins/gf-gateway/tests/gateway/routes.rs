//! Every route, and those that are none.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::time::timeout;

use crate::support::{Gateway, code};

#[tokio::test]
async fn every_described_route_answers() {
    let gateway = Gateway::start().await;
    let (status, description) = gateway.get("/openapi.json").await;
    assert_eq!(status, 200);
    let mut routes = 0;
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let path = path
                .replace("{id}", "01890000-0000-7000-8000-000000000001")
                .replace("{queue}", "some");
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let response = gateway.request(method.clone(), &path).send().await.unwrap();
            let status = response.status();
            assert_ne!(status, 405, "{method} {path}");
            // A stream has no end to wait for.
            if status == 404 {
                let problem = response.json().await.unwrap();
                assert!(
                    ["not_found", "no_worker"].contains(&code(&problem)),
                    "{method} {path}: {problem}"
                );
            }
            routes += 1;
        }
    }
    assert_eq!(routes, 24);
    gateway.stop().await;
}

#[tokio::test]
async fn other_routes_and_methods_are_problems() {
    let gateway = Gateway::start().await;
    for path in [
        "/v2/tasks",
        "/v1",
        "/v1/tasks/",
        "/v1/tasks/a/b",
        "/favicon.ico",
        "/V1/TASKS",
    ] {
        let (status, problem) = gateway.get(path).await;
        assert_eq!(
            (status.as_u16(), code(&problem)),
            (404, "unknown_route"),
            "{path}"
        );
        assert_eq!(
            (&problem["status"], &problem["title"]),
            (&json!(404), &json!("Not Found"))
        );
    }
    for (method, path, allow) in [
        (Method::DELETE, "/v1/tasks", "GET"),
        (Method::PUT, "/v1/tasks/batch", "POST"),
        (Method::POST, "/livez", "GET"),
    ] {
        let response = gateway.request(method, path).send().await.unwrap();
        assert_eq!(response.status(), 405, "{path}");
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        assert!(
            response.headers()["allow"]
                .to_str()
                .unwrap()
                .contains(allow),
            "{path}"
        );
        assert_eq!(code(&response.json().await.unwrap()), "method_not_allowed");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn health_and_metrics_tell_the_state() {
    let gateway = Gateway::start().await;
    gateway.done(r#"{"type":"echo"}"#).await;
    let (status, ready) = gateway.get("/readyz").await;
    assert_eq!(status, 200);
    assert_eq!(
        ready,
        json!({"ready": true, "record": "full", "store": {"ok": true}, "broker": {"ok": true}})
    );
    let (status, live) = gateway.text(gateway.request(Method::GET, "/livez")).await;
    assert_eq!((status.as_u16(), live.as_str()), (200, "ok\n"));
    let (_, metrics) = gateway.text(gateway.request(Method::GET, "/metrics")).await;
    for line in [
        "goflow_up{part=\"store\"} 1",
        "goflow_pushed_tasks_total 1",
        "goflow_tasks{queue=\"default\",state=\"queued\"} 0",
        "goflow_build_info{version=",
    ] {
        assert!(
            metrics.lines().any(|found| found.starts_with(line)),
            "{line}\n{metrics}"
        );
    }
    gateway.stop().await;
}

#[tokio::test]
async fn queues_and_workers_are_seen() {
    let gateway = Gateway::start().await;
    gateway.done(r#"{"type":"echo"}"#).await;
    gateway.push(r#"{"type":"echo","queue":"lonely"}"#).await;
    let (_, queues) = gateway.get("/v1/queues").await;
    let lonely = queues["queues"]
        .as_array()
        .unwrap()
        .iter()
        .find(|queue| queue["name"] == "lonely")
        .unwrap();
    assert_eq!(
        (&lonely["queued"], &lonely["workers"]),
        (&json!(1), &json!(0)),
        "{lonely}"
    );
    let (_, workers) = gateway.get("/v1/workers").await;
    let worker = &workers["workers"][0];
    assert_eq!(
        (&worker["slots"], &worker["queues"]),
        (&json!(5), &json!(["default"])),
        "{worker}"
    );
    assert!(worker["types"].as_array().unwrap().contains(&json!("echo")));
    gateway.stop().await;
}

#[tokio::test]
async fn finished_tasks_are_events() {
    let gateway = Gateway::start().await;
    let mut events = gateway
        .request(Method::GET, "/v1/events?type=echo&state=succeeded")
        .send()
        .await
        .unwrap();
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    gateway.done(r#"{"type":"sleep","payload":{"ms":1}}"#).await;
    let id = gateway
        .push("{\"type\":\"echo\",\"payload\":{\n\"a\": 1\n}}")
        .await;
    let mut text = String::new();
    while !text.contains("\n\n") {
        let chunk = timeout(Duration::from_secs(10), events.chunk())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    assert!(
        text.contains("event: finished\n") && text.contains(&format!("id: {id}\n")),
        "{text}"
    );
    let data = text
        .lines()
        .find_map(|line| line.strip_prefix("data: "))
        .unwrap();
    let task: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(
        (&task["id"], &task["result"]),
        (&json!(id), &json!({"a": 1}))
    );
    gateway.stop().await;
}

#[tokio::test]
async fn pages_trust_nothing() {
    let gateway = Gateway::start().await;
    let response = gateway.request(Method::GET, "/").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(
        response.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .starts_with("default-src 'none'")
    );
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    assert!(response.text().await.unwrap().contains("goflow"));
    gateway.stop().await;
}
