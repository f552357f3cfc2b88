//! Checkpoints: where a task can go on, the last one of each kept in the broker.

use async_nats::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use goflow_core::TaskId;
use goflow_core::broker::{Error, MAX_CHECKPOINT_BYTES};
use tokio::time::Instant;

use crate::error::NoAnswer;
use crate::link::{DEADLINE, Link};
use crate::publish;
use crate::topology::{self, CHECKPOINTS};

/// Keeps a checkpoint in place of the one before.
pub(crate) async fn save(link: &Link, task: TaskId, checkpoint: Bytes) -> Result<(), Error> {
    if checkpoint.len() > MAX_CHECKPOINT_BYTES {
        return Err(Error::TooLarge {
            bytes: checkpoint.len(),
            limit: MAX_CHECKPOINT_BYTES,
        });
    }
    let subject = topology::checkpoint_subject(task);
    let deadline = Instant::now() + DEADLINE;
    publish::publish(
        link,
        CHECKPOINTS,
        &subject,
        HeaderMap::new,
        checkpoint,
        deadline,
    )
    .await
}

/// Reads the last one from the stream itself: no consumer, one round trip.
pub(crate) async fn last(link: &Link, task: TaskId) -> Result<Option<Bytes>, Error> {
    const OPERATION: &str = "read a checkpoint";
    let subject = topology::checkpoint_subject(task);
    let question = format!("{}.DIRECT.GET.{CHECKPOINTS}.{subject}", link.api_prefix());
    let answer = link
        .request(question, Request::new(), Instant::now() + DEADLINE)
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        // Not the same as having none: a server that has just come back may not have its streams yet.
        Err(NoAnswer::NoResponders) => {
            return Err(Error::unavailable(
                OPERATION,
                format!("no stream {CHECKPOINTS}"),
            ));
        }
        Err(none) => return Err(none.translate(OPERATION, CHECKPOINTS)),
    };
    match answer.status {
        None | Some(StatusCode::OK) => Ok(Some(answer.payload)),
        Some(StatusCode::NOT_FOUND) => Ok(None),
        Some(status) => {
            let description = answer.description.as_deref().unwrap_or_default();
            Err(Error::unavailable(
                OPERATION,
                format!("{description} (status {status})"),
            ))
        }
    }
}
