//! Publishes what the store decided to dispatch, and tells the store what the broker has.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, warn};
use uuid::Uuid;

use super::Core;
use crate::broker::Error;
use crate::id::TaskId;
use crate::store::Dispatch;
use crate::task::TaskMessage;

/// Dispatches that may wait to be published. Beyond it they are left to the sweep, which finds every row whose
/// dispatch nobody confirmed: a push never waits for the broker.
const BACKLOG: usize = 20_000;

/// Most messages handed to the broker together.
const MAX_MESSAGES: usize = 1_000;

/// A row still live this long after its dispatch is told so; most have finished by then and need no update.
pub(super) const CONFIRM_AFTER: Duration = Duration::from_secs(2);

/// Most rows confirmed in one statement.
const MAX_CONFIRMED: usize = 500;

/// Hands dispatches to the loop that publishes them, and remembers which of them the broker has.
#[derive(Debug)]
pub(super) struct Dispatcher {
    sender: mpsc::Sender<Dispatch>,
    /// Handed over, not published yet.
    pending: AtomicUsize,
    published: Mutex<HashMap<TaskId, Published>>,
}

/// A dispatch that a broker has.
#[derive(Debug, Clone, Copy)]
struct Published {
    dispatch: u32,
    at: Instant,
    /// Which broker: one that lost its state is another one afterwards.
    broker: Uuid,
}

impl Dispatcher {
    pub(super) fn new() -> (Self, mpsc::Receiver<Dispatch>) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        (
            Self {
                sender,
                pending: AtomicUsize::new(0),
                published: Mutex::default(),
            },
            receiver,
        )
    }

    fn published(&self) -> MutexGuard<'_, HashMap<TaskId, Published>> {
        self.published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes these soon.
    pub(super) fn hand_over(&self, dispatches: Vec<Dispatch>) {
        self.pending.fetch_add(dispatches.len(), Ordering::Release);
        let late = dispatches
            .into_iter()
            .filter_map(|d| self.sender.try_send(d).err())
            .count();
        if late > 0 {
            self.pending.fetch_sub(late, Ordering::Release);
            debug!(late, "the broker is behind: left to the sweep");
        }
    }

    fn is_behind(&self) -> bool {
        self.pending.load(Ordering::Acquire) > 0
    }

    /// Forgets tasks that have finished: their rows are gone.
    pub(super) fn forget(&self, ids: &[TaskId]) {
        let mut published = self.published();
        for id in ids {
            published.remove(id);
        }
    }
}

/// Publishes what is handed over, until it is dropped.
pub(super) async fn run(core: Arc<Core>, mut dispatches: mpsc::Receiver<Dispatch>) {
    let mut group = Vec::new();
    while dispatches.recv_many(&mut group, MAX_MESSAGES).await > 0 {
        let count = group.len();
        publish(&core, group.drain(..)).await;
        core.dispatcher.pending.fetch_sub(count, Ordering::Release);
    }
}

/// Publishes these now; whether all of them reached the broker. What did not is swept up later.
pub(super) async fn publish(core: &Core, dispatches: impl Iterator<Item = Dispatch>) -> bool {
    let messages: Vec<_> = dispatches
        .map(
            |Dispatch {
                 spec,
                 attempt,
                 dispatch,
             }| TaskMessage {
                spec,
                attempt,
                dispatch,
                route: core.route.clone(),
                recorded: true,
            },
        )
        .collect();
    let sent: Vec<_> = messages
        .iter()
        .map(|message| (message.spec.id, message.dispatch))
        .collect();
    if messages.is_empty() {
        return true;
    }
    let broker = core.broker();
    let results = core.submit(messages).await;
    let at = Instant::now();
    let mut failed = None;
    let mut published = core.dispatcher.published();
    for ((id, dispatch), result) in sent.into_iter().zip(results) {
        match result {
            Ok(()) => {
                _ = published.insert(
                    id,
                    Published {
                        dispatch,
                        at,
                        broker,
                    },
                )
            }
            Err(error) => failed = Some(error),
        }
    }
    drop(published);
    if let Some(error) = &failed {
        warn!(%error, "cannot dispatch now, trying again");
    }
    failed.is_none()
}

/// Waits until everything handed over is published, and confirms it.
pub(super) async fn flush(core: &Core) {
    while core.dispatcher.is_behind() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if let Err(error) = confirm(core, Duration::ZERO).await {
        debug!(%error, "cannot confirm dispatches");
    }
}

/// Tells the store of dispatches that the broker has and that are still live this long after.
pub(super) async fn confirm(core: &Core, after: Duration) -> Result<(), crate::store::Error> {
    loop {
        let broker = core.broker();
        let mut group: Vec<(TaskId, u32)> = {
            let mut published = core.dispatcher.published();
            published.retain(|_, one| one.broker == broker);
            let old = published
                .iter()
                .filter(|(_, one)| one.at.elapsed() >= after);
            old.map(|(id, one)| (*id, one.dispatch))
                .take(MAX_CONFIRMED)
                .collect()
        };
        if group.is_empty() {
            return Ok(());
        }
        group.sort_unstable();
        if !core.store.confirm_dispatched(broker, &group).await? {
            // The broker lost its state, which another engine saw first: it is to be looked at anew.
            core.dispatcher.published().clear();
            core.prepare_again().await;
            return Ok(());
        }
        let mut published = core.dispatcher.published();
        for (id, dispatch) in group {
            // It may have been dispatched once more meanwhile.
            if published
                .get(&id)
                .is_some_and(|latest| latest.dispatch == dispatch)
            {
                published.remove(&id);
            }
        }
    }
}

impl Core {
    /// Hands messages to the broker, after making sure their queues exist.
    pub(super) async fn submit(&self, messages: Vec<TaskMessage>) -> Vec<Result<(), Error>> {
        let queues: BTreeSet<_> = messages.iter().map(|message| &message.spec.queue).collect();
        for queue in queues {
            // Should it fail, the submit says so.
            if self.prepare_queue(queue, None).await.is_err() {
                break;
            }
        }
        let results = self.connection.tasks.submit(messages).await;
        if results
            .iter()
            .any(|result| matches!(result, Err(Error::NoChannel { .. })))
        {
            self.prepared.doubt();
        }
        results
    }
}
