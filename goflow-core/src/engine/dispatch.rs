//! Publishes what the store decided to dispatch, and tells the store what the broker has.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tracing::{debug, warn};
use uuid::Uuid;

use super::Core;
use crate::broker::Error;
use crate::id::TaskId;
use crate::store::Dispatch;
use crate::task::TaskMessage;

mod published;

use published::Published;

/// What dispatches that wait to be published may hold, in KiB, before pushes wait for them: a batch of the largest.
const BACKLOG_KIB: u32 = 32 * 1_024;

/// What each of them counts for beside its content, in KiB: more than it takes, so that there are 8,000 at most.
const OVERHEAD_KIB: u32 = 4;

/// How long pushes wait for a broker that is slower than the store. Beyond it, and while the broker is away,
/// dispatches are left to the sweep, which finds every row whose dispatch nobody confirmed.
const PATIENCE: Duration = Duration::from_secs(1);

/// Most messages handed to the broker together.
const MAX_MESSAGES: usize = 1_000;

/// A row still live this long after its dispatch is told so; most have finished by then and need no update.
const CONFIRM_AFTER: Duration = Duration::from_secs(2);

/// Most dispatches that are remembered that long. So many do not finish in time: their rows are told at once.
const MAX_REMEMBERED: usize = 100_000;

/// Most rows confirmed in one statement.
const MAX_CONFIRMED: usize = 500;

/// Hands dispatches to the loop that publishes them, and remembers which of them the broker has.
#[derive(Debug)]
pub(super) struct Dispatcher {
    sender: mpsc::UnboundedSender<HandedOver>,
    /// What may still be handed over, in KiB.
    room: Arc<Semaphore>,
    /// Whether the broker took what was last published.
    takes: AtomicBool,
    published: Mutex<Published>,
}

/// A dispatch to publish, with the room that it takes until it is.
pub(super) type HandedOver = (Dispatch, OwnedSemaphorePermit);

/// What a dispatch takes of the room, in KiB.
fn size(dispatch: &Dispatch) -> u32 {
    let content = u32::try_from(dispatch.spec.size() / 1_024).unwrap_or(BACKLOG_KIB);
    (OVERHEAD_KIB + content).min(BACKLOG_KIB)
}

impl Dispatcher {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<HandedOver>) {
        // Bounded by the room.
        let (sender, receiver) = mpsc::unbounded_channel();
        (
            Self {
                sender,
                room: Arc::new(Semaphore::new(BACKLOG_KIB as usize)),
                takes: AtomicBool::new(true),
                published: Mutex::new(Published::new()),
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
        let give_up = Instant::now() + PATIENCE;
        let mut left = dispatches.into_iter();
        while let Some(dispatch) = left.next() {
            let size = size(&dispatch);
            let room = match self.room.clone().try_acquire_many_owned(size) {
                Ok(room) => Some(room),
                Err(_) if !self.takes.load(Ordering::Relaxed) => None,
                Err(_) => {
                    let room = self.room.clone().acquire_many_owned(size);
                    let room = tokio::time::timeout_at(give_up, room).await;
                    room.ok().and_then(Result::ok)
                }
            };
            let Some(room) = room else {
                let late = 1 + left.len();
                debug!(late, "the broker is behind: left to the sweep");
                return;
            };
            // Without a loop that publishes there is nobody to wait for it.
            drop(self.sender.send((dispatch, room)));
        }
    }

    fn is_behind(&self) -> bool {
        self.room.available_permits() < BACKLOG_KIB as usize
    }

    /// Forgets tasks that have finished: their rows are gone.
    pub(super) fn forget(&self, ids: &[TaskId]) {
        let mut published = self.published();
        if !published.latest.is_empty() {
            for id in ids {
                published.latest.remove(id);
            }
        }
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

/// What asks a worker for a dispatch.
pub(super) fn message(core: &Core, dispatch: Dispatch) -> TaskMessage {
    let Dispatch {
        spec,
        attempt,
        dispatch,
    } = dispatch;
    TaskMessage {
        spec,
        attempt,
        dispatch,
        route: core.route.clone(),
        recorded: true,
    }
}

/// Publishes what is handed over, until it is dropped.
pub(super) async fn run(core: Arc<Core>, mut dispatches: mpsc::UnboundedReceiver<HandedOver>) {
    let mut group = Vec::new();
    while dispatches.recv_many(&mut group, MAX_MESSAGES).await > 0 {
        let (dispatches, room): (Vec<_>, Vec<_>) = group.drain(..).unzip();
        publish(&core, dispatches.into_iter()).await;
        drop(room);
    }
}

/// Publishes these now; whether all of them reached the broker. What did not is swept up later.
pub(super) async fn publish(core: &Core, dispatches: impl Iterator<Item = Dispatch>) -> bool {
    let messages: Vec<_> = dispatches.map(|it| Arc::new(message(core, it))).collect();
    let mut sent: Vec<_> = messages
        .iter()
        .map(|message| (message.spec.id, message.dispatch))
        .collect();
    if messages.is_empty() {
        return true;
    }
    let broker = core.broker();
    let mut results = core.submit(messages).await.into_iter();
    let mut failed = None;
    sent.retain(|_| match results.next() {
        Some(Ok(())) => true,
        Some(Err(error)) => {
            failed = Some(error);
            false
        }
        None => false,
    });
    note(core, broker, &sent).await;
    core.dispatcher
        .takes
        .store(failed.is_none(), Ordering::Relaxed);
    if let Some(error) = &failed {
        warn!(%error, "cannot dispatch now, trying again");
    }
    failed.is_none()
}

/// Remembers what a broker has until the store is told.
async fn note(core: &Core, broker: Uuid, sent: &[(TaskId, u32)]) {
    if core.broker() != broker {
        // It has lost its state meanwhile, and may not have them.
        return;
    }
    if core.in_process && core.store.at_once().is_some() {
        // To remember them would cost more.
        match core.store.confirm_dispatched(broker, sent).await {
            Ok(true) => {}
            // Another broker has the store now.
            Ok(false) => core.prepared.doubt(),
            Err(error) => debug!(%error, "cannot confirm dispatches: left to the sweep"),
        }
        return;
    }
    let at = Instant::now();
    let mut published = core.dispatcher.published();
    for (id, dispatch) in sent {
        published.of(broker).add(at, *id, *dispatch);
    }
    if published.latest.len() > MAX_REMEMBERED {
        core.schedule.wake_in(Duration::ZERO);
    }
}

/// Waits until everything handed over is published, and confirms it.
pub(super) async fn flush(core: &Core) {
    while core.dispatcher.is_behind() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if let Err(error) = confirm_older_than(core, Instant::now()).await {
        debug!(%error, "cannot confirm dispatches");
    }
}

/// Tells the store of dispatches that the broker has and that are still live after a while; of all, if there are many.
pub(super) async fn confirm(core: &Core) -> Result<(), crate::store::Error> {
    let many = core.dispatcher.published().latest.len() > MAX_REMEMBERED;
    let now = Instant::now();
    let until = if many {
        Some(now)
    } else {
        now.checked_sub(CONFIRM_AFTER)
    };
    match until {
        Some(until) => confirm_older_than(core, until).await,
        None => Ok(()),
    }
}

async fn confirm_older_than(core: &Core, until: Instant) -> Result<(), crate::store::Error> {
    let broker = core.broker();
    let old = core.dispatcher.published().of(broker).older_than(until);
    for group in old.chunks(MAX_CONFIRMED) {
        if core.broker() != broker {
            // It has lost its state, and with that what it had.
            return Ok(());
        }
        // Some have finished since.
        let group = core.dispatcher.published().still(group);
        if !group.is_empty() && !core.store.confirm_dispatched(broker, &group).await? {
            // The broker lost its state, which another engine saw first: it is to be looked at anew.
            core.dispatcher.published().of(Uuid::nil());
            core.prepare_again().await;
            return Ok(());
        }
        core.dispatcher.published().forget(&group);
    }
    core.dispatcher.published().shrink();
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::broker::memory;
    use crate::content::Content;
    use crate::engine::{Engine, Record};
    use crate::store::memory::MemoryStore;
    use crate::store::{Claim, DISPATCH_DEADLINE, TaskStore};
    use crate::task::Task;

    const SECOND: Duration = Duration::from_secs(1);

    fn dispatch(bytes: usize) -> Dispatch {
        let payload = crate::Content::binary(vec![0; bytes]);
        let task = crate::Task::new("t", payload).unwrap();
        Dispatch {
            spec: task.spec,
            attempt: 1,
            dispatch: 1,
        }
    }

    /// What waits is bounded by what it holds; what there is no room for is left to the sweep.
    #[tokio::test(start_paused = true)]
    async fn large_ones_take_more_room() {
        let (dispatcher, mut handed_over) = Dispatcher::new();
        let large = 1 << 20;
        dispatcher
            .hand_over((0..40).map(|_| dispatch(large)).collect())
            .await;
        let mut group = Vec::new();
        handed_over.recv_many(&mut group, 100).await;
        assert_eq!(group.len(), 31, "of 32 MiB");
        assert!(dispatcher.is_behind());
        let rest = (BACKLOG_KIB - 31 * size(&group[0].0)) / size(&dispatch(1));
        let small = (0..=rest).map(|_| dispatch(1)).collect();
        dispatcher.hand_over(small).await;
        assert_eq!(handed_over.len(), rest as usize);
    }

    /// What waits for long in a queue of this process is not dispatched twice, nobody doubts that it is there; and what the
    /// broker has no room for is dispatched later.
    #[tokio::test(start_paused = true)]
    async fn a_store_of_this_process_knows_what_its_broker_has() {
        let store = Arc::new(MemoryStore::default());
        let room = memory::Options {
            queue_capacity: 5,
            ..memory::Options::default()
        };
        let started = Engine::start(memory::connect(room), store.clone(), Record::Full).await;
        let (engine, loops) = started.unwrap();
        // Without its loops: nobody else claims what is due.
        drop(loops);
        let task = || Task::new("t", Content::binary("x")).unwrap();
        engine.push(task(), SECOND).await.unwrap();
        engine.push(task().tag("a", "b"), SECOND).await.unwrap();
        let keyed = task().idempotency_key("k");
        engine.push(keyed, SECOND).await.unwrap();
        let batch = vec![task(), task()];
        engine.push_many(batch, SECOND).await.unwrap();
        let sixth = engine.push(task(), SECOND).await.unwrap();
        tokio::time::advance(2 * DISPATCH_DEADLINE).await;
        let due = store
            .claim_due(1_000, Claim::All(&HashSet::new()))
            .await
            .unwrap();
        let due: Vec<_> = due.dispatches.iter().map(|it| it.spec.id).collect();
        assert_eq!(due, [sixth]);
        assert!(engine.core.dispatcher.published().latest.is_empty());
    }
}
