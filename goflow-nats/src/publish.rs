//! Publishing into a stream, confirmed.

use std::sync::Arc;
use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::{HeaderMap, Message, Request, Subject};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use goflow_core::broker::Error;
use serde::Deserialize;
use tokio::time::Instant;
use tracing::debug;

use crate::batch::Batches;
use crate::error::{ApiError, NoAnswer};
use crate::link::{Link, WINDOW};
use crate::topology::Address;

/// After this long without an answer it was lost with a connection, or the server is in trouble.
const ATTEMPT: Duration = Duration::from_secs(2);

const PAUSE: Duration = Duration::from_millis(100);

pub(crate) const OPERATION: &str = "submit";

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
    let Ok(permit) = tokio::time::timeout_at(deadline, link.permits(1)).await else {
        return Err(NoAnswer::timed_out().translate(OPERATION, channel));
    };
    let _permit = permit?;
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

/// A message on its way into a stream.
pub(crate) struct Outgoing {
    pub(crate) address: Arc<Address>,
    pub(crate) subject: Subject,
    /// The id by which the stream knows a repeated publish.
    pub(crate) id: String,
    pub(crate) payload: Bytes,
}

/// Publishes `count` messages as [`publish`] does each; the results are in their order. What makes it cheap is that
/// the first tries are confirmed together.
pub(crate) async fn publish_all(
    link: &Link,
    count: usize,
    mut outgoing: impl FnMut(usize) -> Result<Outgoing, Error> + Send,
    deadline: Instant,
) -> Vec<Result<(), Error>> {
    let mut results: Vec<Option<Result<(), Error>>> = Vec::new();
    results.resize_with(count, || None);
    let attempt = deadline.min(Instant::now() + ATTEMPT);
    let first = async {
        link.connected(OPERATION, attempt).await?;
        for start in (0..count).step_by(WINDOW) {
            let end = count.min(start + WINDOW);
            let _permits = link.permits(end - start).await?;
            let mut batches = Batches::new(link);
            for (place, result) in (start..end).zip(&mut results[start..end]) {
                match outgoing(place) {
                    Ok(message) => batches.add(place, message).await?,
                    Err(error) => *result = Some(Err(error)),
                }
            }
            let tell = |place: usize, result| results[place] = Some(result);
            batches.end(tell).await?;
        }
        Ok::<_, Error>(())
    };
    if let Ok(Err(error)) = tokio::time::timeout_at(attempt, first).await {
        debug!(%error, "messages are published one by one");
    }
    let again = results.iter_mut().enumerate();
    let again = again.filter(|(_, result)| {
        let unknown = |result: &Result<_, _>| matches!(result, Err(Error::Unavailable { .. }));
        result.as_ref().is_none_or(unknown)
    });
    stream::iter(again)
        .map(|(index, result)| (outgoing(index), result))
        .for_each_concurrent(WINDOW, |(outgoing, result)| async move {
            let published = match outgoing {
                Ok(Outgoing {
                    address,
                    subject,
                    id,
                    payload,
                }) => {
                    let headers = || message_id(&id);
                    publish(link, &address.channel, &subject, headers, payload, deadline).await
                }
                Err(error) => Err(error),
            };
            *result = Some(published);
        })
        .await;
    let late = || Err(Error::unavailable(OPERATION, "timed out"));
    let results = results.into_iter();
    results.map(|result| result.unwrap_or_else(late)).collect()
}

/// Publishes a message, once. For those who have a place among the publishes under way.
pub(crate) async fn try_once(link: &Link, outgoing: Outgoing) -> Result<(), Error> {
    let channel = &outgoing.address.channel;
    let request = Request::new()
        .headers(message_id(&outgoing.id))
        .payload(outgoing.payload);
    let answer = link.ask(outgoing.subject, request).await;
    read(
        &answer.map_err(|error| error.translate(OPERATION, channel))?,
        channel,
    )
}
