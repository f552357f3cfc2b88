//! The pool: one loop a queue takes tasks, one loop a slot runs them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::buffer::Buffer;
use super::held::{Held, Hold, QueueLease};
use super::lanes::{LaneOrder, Lanes, Taker};
use super::pace::Pace;
use super::report::Reporter;
use super::tombs::Tombs;
use crate::broker::{Connection, Delivery, Error, MIN_LEASE, Tombstone};
use crate::handler::{Handler, Handlers};
use crate::id::WorkerId;
use crate::name::QueueName;
use crate::outcome::Verdict;
use crate::stop::Stop;
use crate::task::TaskMessage;

/// How long one request for tasks waits at the broker: it bounds how long a drain takes to begin.
const DEQUEUE_WAIT: Duration = Duration::from_secs(1);

/// The pause after a request for tasks that failed.
const DEQUEUE_PAUSE: Duration = Duration::from_millis(500);

/// A task taken ahead that found no slot for this long is given back: another worker may be free.
const PREFETCH_PATIENCE: Duration = Duration::from_secs(1);

/// What all loops of a worker share.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) worker: WorkerId,
    pub(super) connection: Connection,
    pub(super) handlers: RwLock<Handlers>,
    queues: BTreeMap<QueueName, Queue>,
    /// The lease this worker asks for: it may have it before it reads so.
    lease: Option<Duration>,
    pub(super) slots: usize,
    pub(super) held: Arc<Held>,
    tombstones: Mutex<Tombs>,
    pub(super) buffer: Buffer<Job>,
    /// Slots that wait for a job.
    idle: AtomicUsize,
    /// Told when more tasks are wanted.
    room: Notify,
    pub(super) pace: Pace,
    /// No more tasks are taken until further notice.
    pub(super) quiet: watch::Sender<bool>,
    /// No more tasks are taken.
    pub(super) draining: Stop,
    /// What still runs is given back.
    pub(super) leaving: CancellationToken,
}

/// A queue this pool takes from.
#[derive(Debug)]
struct Queue {
    lanes: Lanes,
    lease: QueueLease,
}

/// A task to run.
pub(super) struct Job {
    pub(super) hold: Hold,
    pub(super) handler: Arc<dyn Handler>,
}

impl Pool {
    pub(super) fn new(
        worker: WorkerId,
        connection: Connection,
        handlers: Handlers,
        queues: &[QueueName],
        lease: Option<Duration>,
        slots: usize,
        order: LaneOrder,
    ) -> Self {
        let queue = |name: &QueueName| {
            let queue = Queue {
                lanes: Lanes::new(name, order),
                // The shortest there is, until it has been read: to renew too often does no harm.
                lease: QueueLease::new(MIN_LEASE),
            };
            (name.clone(), queue)
        };
        Self {
            worker,
            connection,
            handlers: RwLock::new(handlers),
            queues: queues.iter().map(queue).collect(),
            lease,
            quiet: watch::Sender::new(false),
            slots,
            held: Arc::default(),
            tombstones: Mutex::default(),
            buffer: Buffer::default(),
            idle: AtomicUsize::new(0),
            room: Notify::new(),
            pace: Pace::default(),
            draining: Stop::default(),
            leaving: CancellationToken::new(),
        }
    }

    /// Notes that these messages are not to be run, and tells whoever is at one.
    pub(super) fn entomb(&self, tombstone: Tombstone) {
        self.tombs().note(tombstone);
        self.held.cancel(tombstone);
    }

    pub(super) fn is_entombed(&self, message: &TaskMessage) -> bool {
        self.tombs().covers(message)
    }

    fn tombs(&self) -> MutexGuard<'_, Tombs> {
        self.tombstones
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The queues it takes from, sorted.
    pub(super) fn queues(&self) -> Vec<QueueName> {
        self.queues.keys().cloned().collect()
    }

    /// Reads the leases of the queues anew: the shortest of the lanes, or what this worker asks for if that is
    /// shorter, since an engine may grant it at any time.
    pub(super) async fn refresh_leases(&self) {
        for queue in self.queues.values() {
            let mut shortest = None;
            for lane in queue.lanes.names() {
                match self.connection.tasks.lease(lane).await {
                    Ok(lease) => {
                        shortest = Some(shortest.map_or(lease, |other: Duration| other.min(lease)))
                    }
                    Err(error) => debug!(%error, lane, "cannot read the lease"),
                }
            }
            if let Some(lease) = shortest {
                queue
                    .lease
                    .set(self.lease.map_or(lease, |own| own.min(lease)));
            }
        }
    }

    /// Whether the messages of the broker are at hand.
    fn is_at_hand(&self) -> bool {
        self.connection.tasks.at_once().is_some()
    }

    /// How many more deliveries this worker can use now.
    fn wanted(&self) -> usize {
        let most = self.idle.load(Ordering::Relaxed) + self.pace.prefetch(self.slots);
        let have = self.buffer.len();
        // In lumps: a request for one at a time would cost a round trip a task. What is at hand is taken once all that was taken
        // before has begun: meanwhile more of it gathers, and whoever pushes has nobody to wake.
        let enough = if self.is_at_hand() { 0 } else { most / 2 };
        if have > enough { 0 } else { most - have }
    }

    /// The next job for a slot; none when the pool drains.
    pub(super) async fn next_job(&self) -> Option<Job> {
        if self.draining.is_cancelled() {
            return None;
        }
        let job = match self.buffer.take() {
            Some(job) => job,
            None => self.wait_for_job().await?,
        };
        // Where nothing is gained by taking ahead, nobody is woken for it: he would wait for this thread while the job runs in place.
        if !self.is_at_hand() {
            self.ask_for_more();
        }
        Some(job)
    }

    async fn wait_for_job(&self) -> Option<Job> {
        self.idle.fetch_add(1, Ordering::Relaxed);
        self.ask_for_more();
        let job = tokio::select! {
            biased;
            () = self.draining.cancelled() => return None,
            job = self.buffer.wait() => job,
        };
        self.idle.fetch_sub(1, Ordering::Relaxed);
        Some(job)
    }

    /// Has the others go on, for a job that was taken may take its time.
    pub(super) fn go_on_without(&self) {
        self.buffer.wake_next();
        if self.is_at_hand() {
            self.ask_for_more();
        }
    }

    fn ask_for_more(&self) {
        if self.wanted() > 0 {
            self.room.notify_waiters();
        }
    }

    /// Takes tasks from a queue until the pool drains.
    pub(super) async fn fetch(&self, name: &QueueName, reporter: &Reporter) {
        let Some(queue) = self.queues.get(name) else {
            return;
        };
        let mut quiet = self.quiet.subscribe();
        let hold = |delivery| self.held.hold(delivery, &queue.lease);
        let mut taker = Taker::new(&queue.lanes, self.connection.tasks.as_ref(), hold);
        let mut failing = false;
        while !self.draining.is_cancelled() {
            match self.take(&mut taker, &mut quiet).await {
                Ok(taken) => {
                    failing = false;
                    self.receive(taken, reporter).await;
                }
                Err(Error::Closed) => return,
                Err(error) => {
                    if !failing {
                        warn!(%error, queue = %name, "cannot take tasks, trying again");
                    }
                    failing = true;
                    self.draining
                        .run_until_cancelled(tokio::time::sleep(DEQUEUE_PAUSE))
                        .await;
                }
            }
        }
    }

    /// Waits until the pool wants tasks, and takes and holds what there is; nothing when it drains meanwhile, or none
    /// came for a while.
    async fn take(
        &self,
        taker: &mut Taker<'_, impl Fn(Delivery<TaskMessage>) -> Hold>,
        quiet: &mut watch::Receiver<bool>,
    ) -> Result<Vec<Hold>, Error> {
        loop {
            let room = self.room.notified();
            if *quiet.borrow() {
                taker.withdraw();
            }
            tokio::select! {
                biased;
                loud = quiet.wait_for(|quiet| !quiet) => drop(loud.map_err(|_| Error::Closed)?),
                () = self.draining.cancelled() => return Ok(Vec::new()),
            }
            let wanted = self.wanted();
            if wanted == 0 {
                taker.withdraw();
                tokio::select! { biased; () = room => continue, () = self.draining.cancelled() => return Ok(Vec::new()) }
            }
            let mut taken = taker.take(wanted).await?;
            if taken.is_empty() {
                taken = tokio::select! {
                    biased;
                    taken = taker.wait(wanted, DEQUEUE_WAIT) => taken?,
                    _ = quiet.wait_for(|quiet| *quiet) => continue,
                    () = self.draining.cancelled() => return Ok(Vec::new()),
                };
            }
            return Ok(taken);
        }
    }

    /// Hands to slots what can be run, and does with the rest what is to be done with it.
    async fn receive(&self, taken: Vec<Hold>, reporter: &Reporter) {
        let mut jobs = Vec::with_capacity(taken.len());
        let (mut cancelled, mut unserved) = (Vec::new(), Vec::new());
        {
            let handlers = self.handlers.read();
            let handlers = handlers.unwrap_or_else(PoisonError::into_inner);
            for hold in taken {
                if self.is_entombed(hold.message()) {
                    cancelled.push(hold);
                } else if let Some(handler) = handlers.get(&hold.message().spec.task_type) {
                    jobs.push(Job { hold, handler });
                } else {
                    unserved.push(hold);
                }
            }
        }
        // The buffer has no bound of its own: no more is fetched than was wanted.
        self.buffer.put(jobs);
        for hold in cancelled {
            self.acknowledge(&hold).await;
        }
        for hold in unserved {
            let spec = &hold.message().spec;
            debug!(task.id = %spec.id, task.r#type = %spec.task_type, queue = %spec.queue, "no handler, given back");
            let outcome = self.outcome(hold.message(), Verdict::Unserved, None);
            reporter.finish(hold, outcome).await;
        }
    }

    /// Gives back, now and then, what was taken ahead and found no slot, and has those look that wait: the one that was to
    /// take the next job may be at one that was expected to end at once, and does not.
    pub(super) async fn give_back(&self) {
        let mut ticks = tokio::time::interval(PREFETCH_PATIENCE / 2);
        while self
            .draining
            .run_until_cancelled(ticks.tick())
            .await
            .is_some()
        {
            while let Some(job) = self.buffer.take() {
                if job.hold.received().elapsed() < PREFETCH_PATIENCE {
                    self.buffer.put_back(job);
                    break;
                }
                Self::return_to_queue(job.hold).await;
            }
            self.buffer.wake_all();
            self.ask_for_more();
        }
    }

    /// Gives back everything that has not started.
    pub(super) async fn give_back_rest(&self) {
        while let Some(job) = self.buffer.take() {
            Self::return_to_queue(job.hold).await;
        }
    }

    pub(super) async fn return_to_queue(hold: Hold) {
        if hold.is_ours(Instant::now())
            && let Err(error) = hold.lease().nack(Duration::ZERO).await
        {
            debug!(%error, "cannot give a task back: it returns when its lease expires");
        }
    }
}
