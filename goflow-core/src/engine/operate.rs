//! What operators do: many tasks at once, queues, workers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{Core, Engine};
use crate::broker::{Depth, Tombstone};
use crate::error::Error;
use crate::id::{TaskId, WorkerId};
use crate::name::QueueName;
use crate::priority::Priority;
use crate::record::{DeadGroup, Filter, PageRequest};
use crate::signal::{Command, Signal};
use crate::state::State;
use crate::task::{Start, Task};

/// Most tasks one bulk call changes.
pub const MAX_BULK: usize = 10_000;

/// Tasks of a purge cancelled between two looks at the clock.
const PURGE_ROUND: usize = 1_000;

/// Tasks of a bulk call changed at once.
const AT_ONCE: usize = 16;

/// Most groups of dead tasks.
const MAX_GROUPS: usize = 200;

/// What a bulk call did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bulk {
    /// Tasks that were changed.
    pub changed: u64,
    /// Tasks that were left alone: their state had changed meanwhile, or another task has their unique key by now.
    pub skipped: u64,
    /// Whether the limit was reached before the filter's end: call again.
    pub more: bool,
}

/// What a bulk call does to each task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Cancel,
    Retry,
}

impl Action {
    /// The states it can do something to.
    fn states(self) -> &'static [State] {
        match self {
            Self::Cancel => &[State::Scheduled, State::Queued, State::Retrying],
            Self::Retry => &[
                State::Failed,
                State::Crashed,
                State::Expired,
                State::Cancelled,
            ],
        }
    }
}

impl Engine {
    /// Cancels or reopens the tasks that pass a filter, newest first, `limit` of them at most.
    pub(crate) async fn bulk(
        &self,
        action: Action,
        filter: &Filter,
        limit: usize,
    ) -> Result<Bulk, Error> {
        if limit == 0 || limit > MAX_BULK {
            return Err(Error::invalid(format!(
                "limit is {limit}, use 1 to {MAX_BULK}"
            )));
        }
        let mut filter = filter.clone();
        if filter.states.is_empty() {
            filter.states = action.states().to_vec();
        }
        if let Some(state) = filter
            .states
            .iter()
            .find(|state| !action.states().contains(state))
        {
            return Err(Error::invalid(format!(
                "tasks that are {state} cannot be changed so"
            )));
        }
        let mut bulk = Bulk::default();
        let mut before = None;
        let mut left = limit;
        loop {
            let page = PageRequest {
                before,
                limit: left.min(200),
            };
            let page = self.core.store.list(&filter, page).await?;
            left -= page.tasks.len();
            let changes =
                stream::iter(page.tasks).map(|task| self.core.change(action, task.spec.id));
            let mut changes = changes.buffer_unordered(AT_ONCE);
            while let Some(change) = changes.next().await {
                match change {
                    Ok(()) => bulk.changed += 1,
                    Err(Error::Forbidden { .. } | Error::NotFound(_) | Error::Duplicate(_)) => {
                        bulk.skipped += 1
                    }
                    Err(error) => return Err(error),
                }
            }
            before = page.next;
            if before.is_none() || left == 0 {
                bulk.more = before.is_some();
                return Ok(bulk);
            }
        }
    }

    /// Cancels all unfinished tasks of a queue, round by round, until none is left or the time is up.
    pub(crate) async fn purge(&self, queue: &QueueName, limit: Duration) -> Result<Bulk, Error> {
        let filter = Filter {
            queue: Some(queue.clone()),
            ..Filter::default()
        };
        let begun = Instant::now();
        let mut purged = Bulk::default();
        loop {
            let round = self.bulk(Action::Cancel, &filter, PURGE_ROUND).await?;
            purged.changed += round.changed;
            purged.skipped += round.skipped;
            purged.more = round.more;
            if !round.more || begun.elapsed() >= limit {
                return Ok(purged);
            }
        }
    }

    /// Pushes a finished task anew, with another id.
    pub(crate) async fn run_again(&self, id: TaskId) -> Result<TaskId, Error> {
        let record = self.core.get(id).await?;
        if !record.state.is_terminal() {
            return Err(Error::Forbidden {
                id,
                state: record.state,
            });
        }
        let mut spec = Arc::unwrap_or_clone(record.spec);
        spec.id = TaskId::new();
        spec.retry_of = Some(id);
        spec.start = Start::Now;
        // What was said of the first run's time does not hold for this one.
        spec.deadline = None;
        self.push(
            Task {
                spec: spec.into(),
                idempotency_key: None,
            },
            Duration::ZERO,
        )
        .await
    }

    /// Dead tasks, grouped.
    pub(crate) async fn dead(&self, since: OffsetDateTime) -> Result<Vec<DeadGroup>, Error> {
        Ok(self.core.store.dead(since, MAX_GROUPS).await?)
    }

    /// Pauses or resumes a queue.
    pub(crate) async fn set_paused(&self, queue: &QueueName, paused: bool) -> Result<(), Error> {
        self.core.set_paused(queue, paused).await
    }

    /// Tells a worker something.
    pub(crate) async fn command(&self, worker: WorkerId, command: Command) -> Result<(), Error> {
        if !self.workers().iter().any(|seen| seen.status.id == worker) {
            return Err(Error::NoWorker(worker));
        }
        Ok(self
            .core
            .connection
            .control
            .signal(Signal::Command { worker, command })
            .await?)
    }
}

impl Core {
    async fn change(&self, action: Action, id: TaskId) -> Result<(), Error> {
        match action {
            Action::Cancel => self.cancel(id).await.map(drop),
            Action::Retry => self.retry(id).await.map(drop),
        }
    }

    /// Does what follows when tasks ended without an outcome: whoever runs one stops, whoever waits is woken.
    pub(super) async fn ended(&self, tombstones: &[Tombstone]) {
        if tombstones.is_empty() {
            return;
        }
        let ids = tombstones.iter().map(|tombstone| tombstone.task).collect();
        tokio::join!(self.finished(ids), self.tombs.entomb(tombstones));
    }

    /// The messages of all lanes of a queue; none when the broker does not answer.
    pub(super) async fn depth(&self, queue: &QueueName) -> Option<Depth> {
        let mut sum = Depth::default();
        for priority in Priority::ALL {
            let depth = self
                .connection
                .tasks
                .depth(&priority.lane(queue))
                .await
                .ok()?;
            sum.waiting += depth.waiting;
            sum.leased += depth.leased;
        }
        Some(sum)
    }
}
