//! Publishing into a stream, confirmed.

use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::{HeaderMap, Message, Request};
use bytes::Bytes;
use goflow_core::broker::Error;
use serde::Deserialize;
use tokio::time::Instant;

use crate::error::{ApiError, NoAnswer};
use crate::link::Link;

/// After this long without an answer it was lost with a connection, or the server is in trouble.
const ATTEMPT: Duration = Duration::from_secs(2);

const PAUSE: Duration = Duration::from_millis(100);

const OPERATION: &str = "submit";

/// The server's answer: a confirmation says where the message is.
#[derive(Deserialize)]
struct Reply {
    error: Option<ApiError>,
    stream: Option<serde::de::IgnoredAny>,
}

fn read(answer: &Message, channel: &str) -> Result<(), Error> {
    match serde_json::from_slice(&answer.payload) {
        Ok(Reply {
            error: Some(error), ..
        }) => Err(error.translate(OPERATION, channel)),
        Ok(Reply {
            stream: Some(_), ..
        }) => Ok(()),
        Ok(_) => Err(Error::unavailable(
            OPERATION,
            "an answer that is no confirmation",
        )),
        Err(error) => Err(Error::unavailable(OPERATION, error)),
    }
}

/// The header by which the stream knows a repeated publish.
pub(crate) fn message_id(id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, id);
    headers
}

/// Publishes until the server has confirmed or `deadline`. Every attempt has the same headers, so that a message id
/// makes the repetitions harmless. `channel` is for errors.
pub(crate) async fn publish(
    link: &Link,
    channel: &str,
    subject: &str,
    headers: impl Fn() -> HeaderMap,
    payload: Bytes,
    deadline: Instant,
) -> Result<(), Error> {
    // Closing comes first: once it has begun, it waits for those who have a permit and for nobody else.
    let permit = tokio::select! {
        biased;
        () = link.closing().cancelled() => return Err(Error::Closed),
        permit = tokio::time::timeout_at(deadline, link.window().acquire()) => permit,
    };
    let Ok(Ok(_permit)) = permit else {
        return Err(NoAnswer::timed_out().translate(OPERATION, channel));
    };
    loop {
        let request = Request::new().headers(headers()).payload(payload.clone());
        let attempt = deadline.min(Instant::now() + ATTEMPT);
        let answer = link.request(subject, request, attempt).await;
        let answer = answer.map_err(|error| error.translate(OPERATION, channel));
        let Err(failure) = answer.and_then(|answer| read(&answer, channel)) else {
            return Ok(());
        };
        // Full and NoChannel are for the caller to decide: waiting here would hide them.
        if !matches!(failure, Error::Unavailable { .. }) || Instant::now() + PAUSE >= deadline {
            return Err(failure);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
