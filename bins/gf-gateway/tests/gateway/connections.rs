//! Connections: patient with nobody for too long, bounded, closed in good order.

use std::time::{Duration, Instant};

use reqwest::Method;
use tokio::net::TcpStream;

use crate::support::{Gateway, options};

#[tokio::test]
async fn who_says_too_little_is_sent_away() {
    let gateway = Gateway::idle().await;
    let begun = Instant::now();
    let (silent, preface, headers, body) = tokio::join!(
        gateway.raw(b""),
        gateway.raw(b"PRI * HTT"),
        gateway.raw(b"GET /livez HTTP/1.1\r\nhost: local"),
        gateway.raw(b"POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{"),
    );
    let took = begun.elapsed();
    assert!(
        took > Duration::from_secs(8) && took < Duration::from_secs(13),
        "{took:?}"
    );
    assert_eq!((silent.as_str(), preface.as_str()), ("", ""));
    assert!(!headers.starts_with("HTTP/1.1 200"), "{headers}");
    assert!(
        body.starts_with("HTTP/1.1 408") && body.contains("slow_body"),
        "{body}"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn others_go_on_beside_the_silent() {
    let gateway = Gateway::idle().await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(gateway.address).await.unwrap());
    }
    assert_eq!(gateway.get("/readyz").await.0, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn connections_are_bounded() {
    let gateway = Gateway::with(gf_gateway::Options {
        max_connections: 1,
        ..options(None)
    })
    .await;
    let _one = TcpStream::connect(gateway.address).await.unwrap();
    let answer = gateway
        .raw(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1"),
        "{answer}"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn streams_are_bounded() {
    let gateway = Gateway::idle().await;
    let mut streams = Vec::new();
    for _ in 0..100 {
        let stream = gateway
            .request(Method::GET, "/v1/events")
            .send()
            .await
            .unwrap();
        assert_eq!(stream.status(), 200);
        streams.push(stream);
    }
    let refused = gateway
        .request(Method::GET, "/v1/events")
        .send()
        .await
        .unwrap();
    assert_eq!(
        (
            refused.status().as_u16(),
            refused.headers()["retry-after"].to_str().unwrap()
        ),
        (503, "1")
    );
    streams.clear();
    let begun = Instant::now();
    while gateway
        .request(Method::GET, "/v1/events")
        .send()
        .await
        .unwrap()
        .status()
        != 200
    {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "places were not given back"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn waits_and_streams_end_with_the_gateway() {
    let gateway = Gateway::idle().await;
    let id = gateway.push(r#"{"type":"echo"}"#).await;
    let mut events = gateway
        .request(Method::GET, "/v1/events")
        .send()
        .await
        .unwrap();
    let begun = Instant::now();
    let path = format!("/v1/tasks/{id}?wait=60s");
    let waiting = gateway.get(&path);
    let ending = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        gateway.begin_shutdown();
    };
    let ((status, task), ()) = tokio::join!(waiting, ending);
    assert_eq!(
        (status.as_u16(), task["state"].as_str()),
        (200, Some("queued"))
    );
    while events.chunk().await.unwrap().is_some() {}
    gateway.stop().await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_taken_or_open_address_is_refused() {
    let gateway = Gateway::idle().await;
    let taken = gf_gateway::Options {
        listen: gateway.address.to_string(),
        ..options(None)
    };
    let error = gf_gateway::run(taken, |_| {}, Default::default())
        .await
        .unwrap_err();
    assert!(format!("{error:#}").starts_with("listen on "), "{error:#}");
    let open = gf_gateway::Options {
        listen: "0.0.0.0:0".to_owned(),
        ..options(None)
    };
    let error = gf_gateway::run(open, |_| {}, Default::default())
        .await
        .unwrap_err();
    assert!(
        error.downcast_ref::<gf_process::Usage>().is_some(),
        "{error:#}"
    );
    gateway.stop().await;
}
