//! What must not get through.

use reqwest::Method;

use crate::support::{Gateway, code};

const LIMIT: usize = 900 * 1024;

fn string_of(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

#[tokio::test]
async fn payloads_end_at_their_limit() {
    let gateway = Gateway::idle().await;
    gateway
        .push(&format!(r#"{{"type":"t","payload":{}}}"#, string_of(LIMIT)))
        .await;
    let over = format!(r#"{{"type":"t","payload":{}}}"#, string_of(LIMIT + 1));
    let (status, problem) = gateway.post("/v1/tasks", over.clone()).await;
    assert_eq!((status.as_u16(), code(&problem)), (413, "too_large"));
    let (status, problem) = gateway
        .post("/v1/tasks/batch", format!(r#"{{"tasks":[{over}]}}"#))
        .await;
    assert_eq!((status.as_u16(), code(&problem)), (413, "too_large"));
    gateway.stop().await;
}

#[tokio::test]
async fn bodies_end_at_their_limit() {
    let gateway = Gateway::idle().await;
    let told = format!(
        "POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        1_u64 << 40
    );
    let answer = gateway.raw(told.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 413") && answer.contains("too_large"),
        "{answer}"
    );

    let mut endless =
        b"POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec();
    for _ in 0..24 {
        endless.extend_from_slice(b"10000\r\n");
        endless.extend_from_slice(&[b' '; 0x10000]);
        endless.extend_from_slice(b"\r\n");
    }
    let answer = gateway.raw(&endless).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    gateway.stop().await;
}

#[tokio::test]
async fn deep_json_is_refused() {
    let gateway = Gateway::idle().await;
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let unfinished = "[".repeat(1_000_000);
    for body in [
        format!(r#"{{"type":"t","payload":{deep}}}"#),
        deep.clone(),
        unfinished,
        format!(r#"{{"type":"t","tags":{deep}}}"#),
    ] {
        let (status, problem) = gateway.post("/v1/tasks", body).await;
        assert_eq!((status.as_u16(), code(&problem)), (400, "invalid_body"));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn foreign_pages_get_nowhere() {
    let gateway = Gateway::idle().await;
    let answer = gateway
        .raw(b"GET /v1/tasks HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n")
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 421") && answer.contains("wrong_host"),
        "{answer}"
    );
    let answer = gateway.raw(b"GET /v1/tasks HTTP/1.0\r\n\r\n").await;
    assert!(answer.contains(" 421 "), "{answer}");

    let post = |origin: &str| {
        gateway
            .request(Method::POST, "/v1/tasks")
            .header("origin", origin)
            .body(r#"{"type":"t"}"#)
    };
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1"] {
        let (status, problem) = gateway.json(post(origin)).await;
        assert_eq!(
            (status.as_u16(), code(&problem)),
            (403, "cross_origin"),
            "{origin}"
        );
    }
    let own = gateway.url("");
    assert_eq!(gateway.json(post(&own)).await.0, 202);
    gateway.stop().await;
}

#[tokio::test]
async fn told_to_be_open_it_answers_to_any_name() {
    let open = gf_gateway::Options {
        insecure_no_auth: true,
        ..crate::support::options(None)
    };
    let gateway = Gateway::with(open).await;
    let answer = gateway
        .raw(b"GET /livez HTTP/1.1\r\nhost: tasks.example\r\nconnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    gateway.stop().await;
}

#[tokio::test]
async fn scripts_stay_text() {
    let gateway = Gateway::start().await;
    let task = gateway
        .done(r#"{"type":"echo","payload":"</script><script>alert(1)</script>"}"#)
        .await;
    let id = task["id"].as_str().unwrap();
    let response = gateway
        .request(Method::GET, &format!("/v1/tasks/{id}"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    gateway.stop().await;
}
