//! The load: clients that push the tasks of a run, and do with them what is planned.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use goflow_core::TaskId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::clock;
use crate::history::{Answer, Asked, Event, History};
use crate::work::{Mix, Work};

/// Clients that push at once.
const SESSIONS: u64 = 12;

/// The longest pause before something refused is tried again.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// How often an unclear cancel is sent again.
const CANCELS: usize = 3;

/// What to push.
#[derive(Debug, Clone)]
pub struct Load {
    /// The seed.
    pub seed: u64,
    /// How many tasks.
    pub tasks: u32,
    /// The time over which they are spread.
    pub over: Duration,
    /// What kinds of tasks.
    pub mix: Mix,
    /// The share of pushes that are batches, and the largest of them.
    pub batches: (f64, u32),
    /// The lease of the queues.
    pub lease: Duration,
    /// When the load begins.
    pub epoch: OffsetDateTime,
}

impl Load {
    /// The task with this number.
    pub fn work(&self, n: u32) -> Work {
        Work::of(self.seed, n, &self.mix, self.lease)
    }

    /// When the push of a task is due, and written: the same however often it is pushed.
    pub fn written_at(&self, n: u32) -> OffsetDateTime {
        self.epoch + self.due(n)
    }

    fn due(&self, n: u32) -> Duration {
        self.over
            .mul_f64(f64::from(n) / f64::from(self.tasks.max(1)))
    }
}

/// The clients of a run.
#[derive(Debug)]
pub struct Generator {
    load: Load,
    client: Client,
    history: Arc<History>,
    next: AtomicU32,
    accepted: AtomicU32,
    unknown: AtomicU32,
    /// The load is over, whatever has not ended yet.
    stop: CancellationToken,
}

/// What clients do with tasks that were accepted.
pub type Followers = JoinSet<()>;

impl Generator {
    /// The clients, which have not begun yet. `stop` ends everything they do.
    pub fn new(
        load: Load,
        client: Client,
        history: Arc<History>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            load,
            client,
            history,
            next: AtomicU32::new(0),
            accepted: AtomicU32::new(0),
            unknown: AtomicU32::new(0),
            stop,
        })
    }

    /// Tasks accepted so far, and those of which it is not known whether they were.
    pub fn pushed(&self) -> (u32, u32) {
        let count = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
        (count(&self.accepted), count(&self.unknown))
    }

    /// Pushes everything. Gives what the clients are still about with what they pushed.
    pub async fn push_all(self: &Arc<Self>) -> Followers {
        let mut sessions = JoinSet::new();
        let began = Instant::now();
        for session in 0..SESSIONS {
            let generator = self.clone();
            sessions.spawn(async move { generator.session(session, began).await });
        }
        let mut all = Followers::new();
        while let Some(followers) = sessions.join_next().await {
            let mut followers = followers.unwrap_or_default();
            all.spawn(async move { while followers.join_next().await.is_some() {} });
        }
        all
    }

    async fn session(self: &Arc<Self>, session: u64, began: Instant) -> Followers {
        let mut rng = StdRng::seed_from_u64(self.load.seed.wrapping_mul(31) ^ session);
        let mut followers = Followers::new();
        while !self.stop.is_cancelled() {
            let (share, largest) = self.load.batches;
            let is_batch = largest > 1 && rng.random_bool(share);
            let wanted = if is_batch {
                rng.random_range(2..=largest)
            } else {
                1
            };
            let first = self.next.fetch_add(wanted, Ordering::Relaxed);
            let last = self.load.tasks.min(first.saturating_add(wanted));
            if first >= last {
                break;
            }
            let waiting = tokio::time::sleep_until(began + self.load.due(first));
            if self.stop.run_until_cancelled(waiting).await.is_none() {
                break;
            }
            let works: Vec<_> = (first..last).map(|n| self.load.work(n)).collect();
            let accepted = match &works[..] {
                [work] => self.push(work, &mut rng).await.map(|id| vec![Some(id)]),
                works => self.push_batch(works, &mut rng).await,
            };
            for (work, id) in works.into_iter().zip(accepted.unwrap_or_default()) {
                let (Some(id), true) = (id, follows(&work)) else {
                    continue;
                };
                let (generator, seed) = (self.clone(), rng.random());
                let keyed = last - first == 1;
                followers.spawn(async move { generator.follow(&work, keyed, id, seed).await });
            }
            while followers.try_join_next().is_some() {}
        }
        followers
    }

    /// Pushes a task until it is clear what became of it, or it cannot be pushed again.
    async fn push(&self, work: &Work, rng: &mut StdRng) -> Option<TaskId> {
        let key = work.key();
        let body = self.body(work);
        let mut pause = Duration::from_millis(20);
        loop {
            let gateway = rng.random_range(0..self.client.gateways());
            let answer = if work.client.twice {
                let other = (gateway + 1) % self.client.gateways();
                let (one, two) = tokio::join!(
                    self.push_once(work, gateway, &body, key.as_deref()),
                    self.push_once(work, other, &body, key.as_deref())
                );
                if matches!(one, Answer::Accepted(_)) {
                    one
                } else {
                    two
                }
            } else {
                self.push_once(work, gateway, &body, key.as_deref()).await
            };
            match answer {
                Answer::Accepted(id) => {
                    self.accepted.fetch_add(1, Ordering::Relaxed);
                    return Some(id);
                }
                Answer::Unknown(_) if key.is_none() => {
                    self.unknown.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
                _ => {}
            }
            pause = self.pause(pause).await?;
        }
    }

    async fn push_once(
        &self,
        work: &Work,
        gateway: usize,
        body: &Value,
        key: Option<&str>,
    ) -> Answer {
        let asked = if key.is_some() {
            Asked::PushKeyed
        } else {
            Asked::Push
        };
        let pushing = self.client.push(gateway, body, key);
        self.told(work.job.n, gateway, asked, pushing).await
    }

    /// Pushes a batch until it is clear what became of it. Tasks of a batch have no keys.
    async fn push_batch(&self, works: &[Work], rng: &mut StdRng) -> Option<Vec<Option<TaskId>>> {
        let bodies: Vec<_> = works.iter().map(|work| self.body(work)).collect();
        let mut pause = Duration::from_millis(20);
        loop {
            let gateway = rng.random_range(0..self.client.gateways());
            let asked_at = clock::now();
            let answers = self.client.push_batch(gateway, &bodies).await;
            let answered_at = clock::now();
            let refused = answers
                .iter()
                .all(|answer| matches!(answer, Answer::No(..)));
            let mut ids = Vec::with_capacity(works.len());
            for (work, answer) in works.iter().zip(answers) {
                let counter = match answer {
                    Answer::Accepted(id) => {
                        ids.push(Some(id));
                        &self.accepted
                    }
                    _ => {
                        ids.push(None);
                        &self.unknown
                    }
                };
                if !refused {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                self.history.add(Event {
                    n: work.job.n,
                    asked_at,
                    answered_at,
                    gateway,
                    asked: Asked::PushBatch,
                    answer,
                });
            }
            if !refused {
                return Some(ids);
            }
            pause = self.pause(pause).await?;
        }
    }

    /// Does with an accepted task what is planned, one thing after the other.
    async fn follow(&self, work: &Work, keyed: bool, id: TaskId, seed: u64) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let n = work.job.n;
        let plan = work.client;
        let mut steps = Vec::new();
        steps.extend(
            plan.again_after
                .filter(|_| keyed)
                .map(|after| (after, Asked::PushKeyed)),
        );
        steps.extend(plan.read_after.map(|after| (after, Asked::Read)));
        steps.extend(plan.cancel_after.map(|after| (after, Asked::Cancel)));
        steps.sort_by_key(|(after, _)| *after);
        let began = Instant::now();
        for (after, step) in steps {
            let waiting = tokio::time::sleep_until(began + after);
            if self.stop.run_until_cancelled(waiting).await.is_none() {
                return;
            }
            match step {
                Asked::PushKeyed => _ = self.push_again(work, rng).await,
                Asked::Cancel => self.cancel(n, id, rng).await,
                _ => _ = self.read(n, id, false, rng).await,
            }
        }
        if !plan.waits && !plan.retries && plan.read_after.is_none() {
            return;
        }
        let Some(failed) = self.wait(n, id, rng).await else {
            return;
        };
        if plan.retries && failed {
            let gateway = self.any(rng);
            self.told(n, gateway, Asked::Retry, self.client.retry(gateway, id))
                .await;
            if self.wait(n, id, rng).await.is_none() {
                return;
            }
        }
        // What has ended stays as it was.
        let later = Duration::from_millis(rng.random_range(0..4_000));
        if self
            .stop
            .run_until_cancelled(tokio::time::sleep(later))
            .await
            .is_some()
        {
            self.read(n, id, false, rng).await;
        }
    }

    async fn push_again(&self, work: &Work, rng: &mut StdRng) -> Answer {
        let body = self.body(work);
        let key = work.key();
        self.push_once(work, self.any(rng), &body, key.as_deref())
            .await
    }

    async fn cancel(&self, n: u32, id: TaskId, rng: &mut StdRng) {
        for _ in 0..CANCELS {
            let gateway = self.any(rng);
            let cancelling = self.client.cancel(gateway, id);
            let answer = self.told(n, gateway, Asked::Cancel, cancelling).await;
            if !matches!(answer, Answer::Unknown(_) | Answer::No(0 | 429, _)) {
                return;
            }
            if self.pause(LONGEST_PAUSE).await.is_none() {
                return;
            }
        }
    }

    async fn read(&self, n: u32, id: TaskId, wait: bool, rng: &mut StdRng) -> Answer {
        let gateway = self.any(rng);
        let asked = if wait { Asked::Wait } else { Asked::Read };
        self.told(n, gateway, asked, self.client.read(gateway, id, wait))
            .await
    }

    /// Waits for the end of a task; says whether it is one that may be tried once more.
    async fn wait(&self, n: u32, id: TaskId, rng: &mut StdRng) -> Option<bool> {
        loop {
            let waiting = self.read(n, id, true, rng);
            match self.stop.run_until_cancelled(waiting).await? {
                Answer::Task(seen) if seen.state.is_terminal() => {
                    return Some(seen.state == goflow_core::State::Failed);
                }
                Answer::Task(_) => {}
                _ => _ = self.pause(LONGEST_PAUSE).await?,
            }
        }
    }

    /// Has the answer written into the history.
    async fn told(
        &self,
        n: u32,
        gateway: usize,
        asked: Asked,
        asking: impl Future<Output = Answer>,
    ) -> Answer {
        let asked_at = clock::now();
        let answer = asking.await;
        self.history.add(Event {
            n,
            asked_at,
            answered_at: clock::now(),
            gateway,
            asked,
            answer: answer.clone(),
        });
        answer
    }

    fn body(&self, work: &Work) -> Value {
        work.body(self.load.written_at(work.job.n))
    }

    fn any(&self, rng: &mut StdRng) -> usize {
        rng.random_range(0..self.client.gateways())
    }

    /// Pauses and gives the next pause; `None` when all is over.
    async fn pause(&self, pause: Duration) -> Option<Duration> {
        self.stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await?;
        Some((pause * 2).min(LONGEST_PAUSE))
    }
}

fn follows(work: &Work) -> bool {
    let plan = work.client;
    plan.waits
        || plan.retries
        || plan.read_after.is_some()
        || plan.cancel_after.is_some()
        || plan.again_after.is_some()
}
