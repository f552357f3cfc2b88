//! The first two steps: commit rows, publish them.

use std::collections::VecDeque;

use anyhow::Result;
use async_nats::jetstream::{self, context::PublishAckFuture};
use bytes::{BufMut, BytesMut};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::tables::{Row, Tables};
use crate::payload::Payload;

/// Rows of one commit.
pub(super) const ROWS: usize = 500;

/// Publishes under way at once.
const WINDOW: usize = 1_024;

/// Where tasks are published.
pub(super) const TASKS_SUBJECT: &str = "bare.task";

/// Commits `tasks` new rows and hands them on; without a database it only hands them on.
pub(super) async fn commit(
    mut tables: Option<Tables>,
    payload: Payload,
    tasks: usize,
    committed: mpsc::Sender<Vec<Row>>,
) -> Result<()> {
    for first in (0..tasks).step_by(ROWS) {
        let numbers = first..tasks.min(first + ROWS);
        let rows: Vec<Row> = numbers
            .map(|number| (Uuid::now_v7(), payload.numbered(number)))
            .collect();
        if let Some(tables) = &mut tables {
            tables.push(&rows).await?;
        }
        if committed.send(rows).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Publishes what is committed, and waits for the server to confirm it.
pub(super) async fn publish(
    context: jetstream::Context,
    mut committed: mpsc::Receiver<Vec<Row>>,
) -> Result<()> {
    let mut under_way: VecDeque<PublishAckFuture> = VecDeque::with_capacity(WINDOW);
    while let Some(rows) = committed.recv().await {
        for (id, payload) in rows {
            if under_way.len() == WINDOW
                && let Some(oldest) = under_way.pop_front()
            {
                oldest.await?;
            }
            let mut message = BytesMut::with_capacity(16 + payload.len());
            message.put_slice(id.as_bytes());
            message.put_slice(&payload);
            under_way.push_back(context.publish(TASKS_SUBJECT, message.freeze()).await?);
        }
    }
    for last in under_way {
        last.await?;
    }
    Ok(())
}
