//! The other steps: pull, run, send the outcome, commit it, acknowledge both.

use anyhow::Result;
use async_nats::jetstream::{self, Message, consumer::pull};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::tables::Tables;
use crate::payload::Payload;

/// Messages of one request to a consumer.
const PULL: usize = 1_000;

/// Outcomes of one message, at most.
const PACKED: usize = 100;

/// Bytes of one message, at most: less than the server takes, which is 1 MiB.
const PACKED_BYTES: usize = 900 * 1024;

/// Messages with outcomes under way at once.
const WINDOW: usize = 8;

/// Messages with outcomes in one commit.
const COMMITTED: usize = 5;

/// Where outcomes are published.
pub(super) const RESULTS_SUBJECT: &str = "bare.result";

type Consumer = jetstream::consumer::Consumer<pull::Config>;

/// Takes what the consumer has, and hands it on.
pub(super) async fn pull(consumer: Consumer, taken: mpsc::Sender<Message>) -> Result<()> {
    let mut messages = consumer
        .stream()
        .max_messages_per_batch(PULL)
        .messages()
        .await?;
    while let Some(message) = messages.next().await {
        if taken.send(message?).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Runs tasks, which is to say nothing; packs their outcomes and acknowledges them when those are confirmed.
pub(super) async fn work(
    context: jetstream::Context,
    payload: Payload,
    mut tasks: mpsc::Receiver<Message>,
) -> Result<()> {
    let packed_at_most = (PACKED_BYTES / (16 + payload.len())).clamp(1, PACKED);
    let mut under_way = FuturesUnordered::new();
    loop {
        let mut group = Vec::new();
        tokio::select! {
            biased;
            count = tasks.recv_many(&mut group, packed_at_most), if under_way.len() < WINDOW => {
                if count == 0 {
                    return Ok(());
                }
                let confirmed = context.publish(RESULTS_SUBJECT, packed(&group)).await?;
                under_way.push(async move {
                    confirmed.await?;
                    for task in &group {
                        task.ack().await.map_err(anyhow::Error::from_boxed)?;
                    }
                    anyhow::Ok(())
                });
            }
            Some(acknowledged) = under_way.next(), if !under_way.is_empty() => acknowledged?,
        }
    }
}

/// Messages one behind the other: all have the same size.
fn packed(group: &[Message]) -> Bytes {
    let size = group.iter().map(|message| message.payload.len()).sum();
    let mut bytes = BytesMut::with_capacity(size);
    for message in group {
        bytes.put_slice(&message.payload);
    }
    bytes.freeze()
}

/// Commits outcomes, and acknowledges them when they are.
pub(super) async fn record(
    mut tables: Tables,
    payload: Payload,
    full: bool,
    mut outcomes: mpsc::Receiver<Message>,
) -> Result<()> {
    let mut group = Vec::new();
    while outcomes.recv_many(&mut group, COMMITTED).await > 0 {
        let each = |message: &'_ Message| message.payload.len() / (16 + payload.len());
        let count = group.iter().map(each).sum();
        let (mut ids, mut results) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for outcome in group
            .iter()
            .flat_map(|message| message.payload.chunks_exact(16 + payload.len()))
        {
            let (id, result) = outcome.split_at(16);
            ids.push(Uuid::from_slice(id)?);
            results.push(result);
        }
        tables.finish(ids, results, full).await?;
        for message in group.drain(..) {
            message.ack().await.map_err(anyhow::Error::from_boxed)?;
        }
    }
    Ok(())
}
