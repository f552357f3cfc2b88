//! The accept loop: HTTP/1 and HTTP/2 on one port, bounded in number and patience, closed in good order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::problem::{Code, Problem};

/// The longest time until the headers of a request are there.
const HEADERS: Duration = Duration::from_secs(10);

/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 128;

/// Silence after which an HTTP/2 client is asked whether it is there, and how long it may take to answer.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(10);

/// What an HTTP/2 client may send before it is told to go on, in bytes: a batch of some hundred tasks comes in one go.
/// It bounds what a connection whose requests nobody reads yet keeps in memory.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 512 * 1024;

/// The most memory for the headers of a request, in bytes.
const HEADER_BYTES: u32 = 32 * 1024;

/// Refused connections that are told so at once; more are just closed.
const REFUSALS: usize = 64;

/// How the server behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections at once.
    pub(crate) connections: usize,
    /// How long requests under way may go on after the end was called.
    pub(crate) grace: Duration,
}

/// Serves until `ending`, then lets requests under way finish. Nothing of it is left when it returns.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Router,
    limits: Limits,
    ending: CancellationToken,
) {
    let connections = Arc::new(Semaphore::new(limits.connections));
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let tracker = TaskTracker::new();
    let kill = CancellationToken::new();
    loop {
        let stream = tokio::select! {
            () = ending.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: they come back, and until then this must not spin.
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        // A small answer must not wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        match Arc::clone(&connections).try_acquire_owned() {
            Ok(permit) => {
                let connection = connection(stream, routes.clone(), ending.clone(), permit);
                tracker.spawn(kill.clone().run_until_cancelled_owned(connection));
            }
            Err(_) => {
                if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                    tracker.spawn(
                        kill.clone()
                            .run_until_cancelled_owned(refuse(stream, permit)),
                    );
                }
            }
        }
    }
    drop(listener);
    tracker.close();
    if tokio::time::timeout(limits.grace, tracker.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = tracker.len(),
            "closed connections whose requests did not end in time"
        );
        kill.cancel();
        tracker.wait().await;
    }
}

async fn connection(
    stream: TcpStream,
    routes: Router,
    ending: CancellationToken,
    _permit: OwnedSemaphorePermit,
) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADER_BYTES);

    let asked = AtomicBool::new(false);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        routes.clone().oneshot(request)
    });
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    // hyper's own deadline starts once it knows the protocol; this one covers who never says enough for that.
    let mut patience = std::pin::pin!(tokio::time::sleep(HEADERS));
    let (mut patient, mut closing) = (false, false);
    loop {
        tokio::select! {
            result = serving.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            () = patience.as_mut(), if !patient => {
                if !asked.load(Ordering::Relaxed) {
                    return;
                }
                patient = true;
            }
            () = ending.cancelled(), if !closing => {
                serving.as_mut().graceful_shutdown();
                closing = true;
            }
        }
    }
}

/// Tells a client that there is no room, whatever it meant to ask.
async fn refuse(mut stream: TcpStream, _permit: OwnedSemaphorePermit) {
    let body = Problem::new(Code::Overloaded, "too many connections: try again later").body();
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-type: application/problem+json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let answer = async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&body).await?;
        stream.shutdown().await?;
        // Closing with something unread would reset the connection before the answer is read.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), answer).await;
}
