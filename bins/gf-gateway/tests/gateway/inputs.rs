//! Bad input on every route.

use reqwest::Method;

use crate::support::{Gateway, code};

#[tokio::test]
async fn bad_pushes_are_named() {
    let gateway = Gateway::idle().await;
    let long = "x".repeat(65);
    for (body, expected, part) in [
        ("", "invalid_body", ""),
        ("{", "invalid_body", ""),
        ("\u{0}\u{1}", "invalid_body", ""),
        ("null", "invalid_body", ""),
        ("[1]", "invalid_body", ""),
        (r#"{"payload":1}"#, "invalid_body", "type"),
        (r#"{"type":1}"#, "invalid_body", "type"),
        (r#"{"type":"a.b"}"#, "invalid_name", "a.b"),
        (r#"{"type":"a>"}"#, "invalid_name", ">"),
        (r#"{"type":"*"}"#, "invalid_name", "*"),
        (r#"{"type":"a\u0000"}"#, "invalid_name", "type"),
        (
            r#"{"type":"a'; drop table gf_task;--"}"#,
            "invalid_name",
            "type",
        ),
        (&format!(r#"{{"type":"{long}"}}"#), "invalid_name", "type"),
        (r#"{"type":"t","queue":""}"#, "invalid_name", "queue"),
        (r#"{"type":"t","colour":1}"#, "invalid_body", "colour"),
        (r#"{"type":"t","priority":4}"#, "invalid", "priority"),
        (r#"{"type":"t","priority":1.5}"#, "invalid_body", "priority"),
        (
            r#"{"type":"t","deadline":"soon"}"#,
            "invalid_body",
            "deadline",
        ),
        (r#"{"type":"t","deadline":0}"#, "invalid", "deadline"),
        (r#"{"type":"t","deadline":"400d"}"#, "invalid", "deadline"),
        (r#"{"type":"t","unique":{}}"#, "invalid_body", "key"),
        (r#"{"type":"t","unique":{"key":""}}"#, "invalid", "key"),
        (
            r#"{"type":"t","unique":{"key":"k","period":0}}"#,
            "invalid",
            "period",
        ),
        (
            r#"{"type":"t","unique":{"key":"k","on_conflict":"x"}}"#,
            "invalid_body",
            "on_conflict",
        ),
        (r#"{"type":"t","retention":0}"#, "invalid", "retention"),
        (
            r#"{"type":"t","heartbeat_timeout":"400d"}"#,
            "invalid",
            "heartbeat_timeout",
        ),
        (r#"{"type":"t","delay":-1}"#, "invalid_body", "delay"),
        (
            r#"{"type":"t","delay":"9999999999999999999y"}"#,
            "invalid_body",
            "delay",
        ),
        (r#"{"type":"t","delay":"400d"}"#, "invalid", "delay"),
        (
            r#"{"type":"t","run_at":"9999-01-01T00:00:00Z"}"#,
            "invalid",
            "run_at",
        ),
        (r#"{"type":"t","timeout":0}"#, "invalid", "timeout"),
        (
            r#"{"type":"t","max_attempts":1001}"#,
            "invalid",
            "max_attempts",
        ),
        (
            r#"{"type":"t","max_attempts":1e99}"#,
            "invalid_body",
            "max_attempts",
        ),
        (
            r#"{"type":"t","headers":{"a":"b\u0000"}}"#,
            "invalid",
            "NUL",
        ),
        (
            r#"{"type":"t","content_type":"image/png","payload":"no base64!"}"#,
            "invalid",
            "payload",
        ),
        (
            r#"{"type":"t","backoff":{"quadratic":"1s"}}"#,
            "invalid_body",
            "backoff",
        ),
    ] {
        let (status, problem) = gateway.post("/v1/tasks", body.to_owned()).await;
        assert_eq!(
            (status.as_u16(), code(&problem)),
            (400, expected),
            "{body}: {problem}"
        );
        assert!(
            problem["detail"].as_str().unwrap().contains(part),
            "{body}: {problem}"
        );
    }
    let (_, list) = gateway.get("/v1/tasks").await;
    assert_eq!(
        list["tasks"].as_array().unwrap().len(),
        0,
        "something was accepted"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn bad_headers_and_utf8_are_refused() {
    let gateway = Gateway::idle().await;
    for key in ["", &"k".repeat(256)] {
        let request = gateway
            .request(Method::POST, "/v1/tasks")
            .header("Idempotency-Key", key)
            .body(r#"{"type":"t"}"#);
        let (status, problem) = gateway.json(request).await;
        assert_eq!((status.as_u16(), code(&problem)), (400, "invalid"), "{key}");
    }
    let request = gateway
        .request(Method::POST, "/v1/tasks/batch")
        .header("Idempotency-Key", "k")
        .body(r#"{"tasks":[{"type":"t"}]}"#);
    assert_eq!(code(&gateway.json(request).await.1), "not_supported");
    let (status, problem) = gateway
        .post(
            "/v1/tasks",
            b"{\"type\":\"t\",\"payload\":\"\xff\"}".to_vec(),
        )
        .await;
    assert_eq!((status.as_u16(), code(&problem)), (400, "invalid_body"));
    gateway.stop().await;
}

#[tokio::test]
async fn bad_ids_and_queries_are_named() {
    let gateway = Gateway::idle().await;
    let unknown = "01890000-0000-7000-8000-000000000001";
    for id in [
        "a",
        "*",
        "%00",
        "%ff",
        "..%2f..",
        "01890000-0000-7000-8000-00000000000",
    ] {
        for (method, path) in [
            (Method::GET, ""),
            (Method::POST, "/cancel"),
            (Method::POST, "/retry"),
        ] {
            let (status, problem) = gateway
                .json(gateway.request(method, &format!("/v1/tasks/{id}{path}")))
                .await;
            assert_eq!(
                (status.as_u16(), code(&problem)),
                (400, "invalid_id"),
                "{id}{path}"
            );
        }
    }
    for (method, path) in [
        (Method::GET, ""),
        (Method::POST, "/cancel"),
        (Method::POST, "/retry"),
    ] {
        let (status, problem) = gateway
            .json(gateway.request(method, &format!("/v1/tasks/{unknown}{path}")))
            .await;
        assert_eq!(
            (status.as_u16(), code(&problem)),
            (404, "not_found"),
            "{path}"
        );
    }
    for (path, part) in [
        ("/v1/tasks?limit=0", "limit"),
        ("/v1/tasks?limit=501", "limit"),
        ("/v1/tasks?limit=-1", "limit"),
        ("/v1/tasks?state=done", "state"),
        ("/v1/tasks?type=a.b", "type"),
        ("/v1/tasks?queue=%3E", "queue"),
        ("/v1/tasks?since=yesterday", "since"),
        ("/v1/tasks?until=1", "until"),
        ("/v1/tasks?cursor=x", "cursor"),
        ("/v1/tasks?colour=red", "colour"),
        ("/v1/queues?x=1", "x"),
        ("/v1/workers?x=1", "x"),
        ("/v1/events?limit=1", "limit"),
        (
            "/v1/tasks/01890000-0000-7000-8000-000000000001?wait=soon",
            "wait",
        ),
        ("/v1/tasks/01890000-0000-7000-8000-000000000001?w=1s", "w"),
    ] {
        let (status, problem) = gateway.get(path).await;
        assert_eq!(
            (status.as_u16(), code(&problem)),
            (400, "invalid_query"),
            "{path}"
        );
        assert!(
            problem["detail"].as_str().unwrap().starts_with(part),
            "{path}: {problem}"
        );
    }
    gateway.stop().await;
}
