//! Publishes what the store decided to dispatch, and tells the store what the broker has.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::HashMap;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, warn};
use uuid::Uuid;

use super::Core;
use crate::broker::Error;
use crate::id::TaskId;
use crate::store::Dispatch;
use crate::task::TaskMessage;

/// Dispatches that may wait to be published before pushes wait for them.
const BACKLOG: usize = 20_000;

/// How long pushes wait for a broker that is slower than the store. Beyond it, and while the broker is away,
/// dispatches are left to the sweep, which finds every row whose dispatch nobody confirmed.
const PATIENCE: Duration = Duration::from_secs(1);

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
    /// Whether the broker took what was last published.
    takes: AtomicBool,
    published: Mutex<Published>,
}

/// What a broker has, and the store has not been told of.
#[derive(Debug, Default)]
struct Published {
    /// Which broker: one that lost its state is another one afterwards.
    broker: Uuid,
    /// The latest dispatch of each task.
    latest: HashMap<TaskId, u32>,
    /// In the order of their time; those that are not the latest count no more.
    in_order: VecDeque<(Instant, TaskId, u32)>,
}

impl Published {
    /// Forgets what another broker had.
    fn of(&mut self, broker: Uuid) -> &mut Self {
        if self.broker != broker {
            self.broker = broker;
            self.latest.clear();
            self.in_order.clear();
        }
        self
    }

    fn add(&mut self, at: Instant, id: TaskId, dispatch: u32) {
        self.latest.insert(id, dispatch);
        self.in_order.push_back((at, id, dispatch));
    }

    /// The oldest that are no younger than `until`.
    fn oldest(&mut self, until: Instant) -> Vec<(TaskId, u32)> {
        self.trim();
        let old = self.in_order.iter().take_while(|(at, ..)| *at <= until);
        old.map(|(_, id, dispatch)| (*id, *dispatch))
            .filter(|(id, dispatch)| self.latest.get(id) == Some(dispatch))
            .take(MAX_CONFIRMED)
            .collect()
    }

    /// Forgets those; not a later dispatch that there may be by now.
    fn forget(&mut self, group: &[(TaskId, u32)]) {
        for (id, dispatch) in group {
            if self.latest.get(id) == Some(dispatch) {
                self.latest.remove(id);
            }
        }
        self.trim();
    }

    /// Gives back the room that a burst took.
    fn shrink(&mut self) {
        self.latest.shrink_to(2 * self.latest.len());
        self.in_order.shrink_to(2 * self.in_order.len());
    }

    fn trim(&mut self) {
        while let Some((_, id, dispatch)) = self.in_order.front()
            && self.latest.get(id) != Some(dispatch)
        {
            self.in_order.pop_front();
        }
    }
}

impl Dispatcher {
    pub(super) fn new() -> (Self, mpsc::Receiver<Dispatch>) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        (
            Self {
                sender,
                pending: AtomicUsize::new(0),
                takes: AtomicBool::new(true),
                published: Mutex::default(),
            },
            receiver,
        )
    }

    fn published(&self) -> MutexGuard<'_, Published> {
        self.published
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes these soon. Waits while too many are on their way, for a moment, if the broker takes them at all.
    async fn hand_over(&self, dispatches: Vec<Dispatch>) {
        self.pending.fetch_add(dispatches.len(), Ordering::Release);
        let mut left = dispatches.into_iter();
        let give_up = Instant::now() + PATIENCE;
        while left.len() > 0 {
            let some = left.len().min(MAX_MESSAGES);
            let room = match self.sender.try_reserve_many(some) {
                Ok(room) => room,
                Err(_) if !self.takes.load(Ordering::Relaxed) => break,
                Err(_) => {
                    match tokio::time::timeout_at(give_up, self.sender.reserve_many(some)).await {
                        Ok(Ok(room)) => room,
                        Ok(Err(_)) | Err(_) => break,
                    }
                }
            };
            room.zip(&mut left)
                .for_each(|(place, dispatch)| place.send(dispatch));
        }
        let late = left.len();
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
            published.latest.remove(id);
        }
        published.trim();
    }
}

/// Has these published: now by a broker of this process, which answers at once, and soon by any other.
pub(super) async fn hand_over(core: &Core, dispatches: Vec<Dispatch>) {
    if core.in_process {
        publish(core, dispatches.into_iter()).await;
    } else {
        core.dispatcher.hand_over(dispatches).await;
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
             }| {
                Arc::new(TaskMessage {
                    spec,
                    attempt,
                    dispatch,
                    route: core.route.clone(),
                    recorded: true,
                })
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
    // Should the broker have lost its state meanwhile, it may not have them.
    let has_them = core.broker() == broker;
    let mut published = core.dispatcher.published();
    for ((id, dispatch), result) in sent.into_iter().zip(results) {
        match result {
            Ok(()) if has_them => published.of(broker).add(at, id, dispatch),
            Ok(()) => {}
            Err(error) => failed = Some(error),
        }
    }
    drop(published);
    core.dispatcher
        .takes
        .store(failed.is_none(), Ordering::Relaxed);
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
    let Some(until) = Instant::now().checked_sub(after) else {
        return Ok(());
    };
    loop {
        let broker = core.broker();
        let mut group = core.dispatcher.published().of(broker).oldest(until);
        if group.is_empty() {
            core.dispatcher.published().shrink();
            return Ok(());
        }
        group.sort_unstable();
        if !core.store.confirm_dispatched(broker, &group).await? {
            // The broker lost its state, which another engine saw first: it is to be looked at anew.
            core.dispatcher.published().of(Uuid::nil());
            core.prepare_again().await;
            return Ok(());
        }
        core.dispatcher.published().of(broker).forget(&group);
    }
}

impl Core {
    /// Hands messages to the broker, after making sure their queues exist.
    pub(super) async fn submit(&self, messages: Vec<Arc<TaskMessage>>) -> Vec<Result<(), Error>> {
        let mut known = None;
        for message in &messages {
            let queue = &message.spec.queue;
            // Should it fail, the submit says so.
            if known.replace(queue) != Some(queue) && self.prepare_queue(queue, None).await.is_err()
            {
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
