//! One run: everything is started, loaded and hurt; then it is let heal, and checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use goflow_core::TaskId;
use goflow_core::engine::Record;
use goflow_core::faults::Bug;
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::checker::{Facts, Roll, Verdict};
use crate::client::Client;
use crate::clock;
use crate::generator::{Followers, Generator, Load};
use crate::history::History;
use crate::ledger;
use crate::nemesis::{Nemesis, Storm};
use crate::records;
use crate::system::{Setup, System};
use crate::usage::Sampler;
use crate::work::Mix;

/// What has not ended this long after healing is late (I1).
pub const DRAIN_WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked whether the harness itself is late.
const LAG_EVERY: Duration = Duration::from_millis(20);

/// How long clients may still look at what has ended.
const FOLLOW_FOR: Duration = Duration::from_secs(8);

/// How long processes get to close what their clients left.
const SETTLE: Duration = Duration::from_secs(2);

const LOOK_EVERY: Duration = Duration::from_millis(200);
const TELL_EVERY: Duration = Duration::from_secs(5);

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The seed of everything.
    pub seed: u64,
    /// How many tasks.
    pub tasks: u32,
    /// Over what time they are spread, and what is done to the system with them.
    pub over: Duration,
    /// What is done to it.
    pub storm: Storm,
    /// What kinds of tasks.
    pub mix: Mix,
    /// The share of pushes that are batches, and the largest of them.
    pub batches: (f64, u32),
    /// What runs.
    pub setup: Setup,
    /// How long after healing it is waited for what has not ended, which is then found to be late.
    pub patience: Duration,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// All that is known of it.
    pub facts: Facts,
    /// What the checker says.
    pub verdict: Verdict,
    /// What the nemesis could not do.
    pub errors: Vec<String>,
    /// The versions of what ran.
    pub versions: Vec<String>,
    /// Where its files are.
    pub dir: PathBuf,
}

impl Scenario {
    /// The planted bug, if there is one.
    pub fn plant(&self) -> Option<Bug> {
        self.setup.plant
    }

    /// Runs it in `dir`, which is there and empty, and says on stderr how far it is. `stop` ends it early.
    ///
    /// # Errors
    /// When something does not start, is told to stop, or cannot be read in the end.
    pub async fn run(&self, dir: &Path, stop: &CancellationToken) -> Result<Outcome> {
        let running = self.load_and_hurt(dir);
        match stop.run_until_cancelled(running).await {
            Some(outcome) => outcome,
            None => bail!("told to stop"),
        }
    }

    async fn load_and_hurt(&self, dir: &Path) -> Result<Outcome> {
        let system = Arc::new(System::start(&self.setup, dir).await?);
        let versions = system.versions()?;
        let mut nemesis = Nemesis::start(system.clone());
        let client = Client::new(system.gateways());
        let load = Load {
            seed: self.seed,
            tasks: self.tasks,
            over: self.over,
            mix: self.mix,
            batches: self.batches,
            lease: self.setup.lease,
            epoch: OffsetDateTime::now_utc(),
        };
        let history = Arc::new(History::create(&dir.join("history.jsonl"))?);
        let over = CancellationToken::new();
        let _over = over.clone().drop_guard();
        let generator = Generator::new(load.clone(), client.clone(), history.clone(), over.clone());
        let sampler = Sampler::start(system.clone());
        let lag: Arc<AtomicU64> = Arc::default();
        let mut watching = JoinSet::new();
        watching.spawn(watch_lag(lag.clone()));
        nemesis.rage(self.storm.plan(self.seed, self.over, &self.setup));
        let followers = self.push(&generator, &nemesis).await;
        while !nemesis.is_done() {
            sleep(LOOK_EVERY).await;
        }
        nemesis.disarm();
        let healed_at = clock::now();
        let healed = Instant::now();
        let ready_in = ready(&client, healed, self.patience).await;
        // With a row each, those that have not ended are in the store.
        let accepted: Vec<_> = match self.setup.record {
            Record::Full => Vec::new(),
            Record::Outcome => history.accepted().iter().map(TaskId::as_uuid).collect(),
        };
        let drained_in = drained(&system, &accepted, healed, self.patience).await;
        finish(followers, &over).await;
        // Without clients: what the gateways still have open is theirs.
        drop((generator, client));
        sleep(SETTLE).await;
        // Nothing is left that could change it.
        let deeds = nemesis.deeds();
        let errors = nemesis.errors();
        drop(nemesis);
        drop(watching);
        let usage = sampler.finish();
        let told: Vec<_> = usage
            .iter()
            .map(serde_json::to_string)
            .collect::<Result<_, _>>()?;
        std::fs::write(dir.join("usage.jsonl"), told.join("\n") + "\n")?;
        let store = records::read(&system.store)
            .await
            .context("read the store")?;
        let mut facts = Facts {
            load,
            members: system.each().map(|member| Roll::from(&*member)).collect(),
            deeds,
            events: history.take(),
            ledger: ledger::read(&system.ledger)?,
            records: store,
            usage,
            lag: Duration::from_micros(lag.load(Ordering::Relaxed)),
            healed_at,
            drained_in,
            ready_in,
        };
        if self.setup.record == Record::Outcome {
            facts.name_those_without_payload();
        }
        facts.sort();
        let verdict = facts.check();
        for member in system.each() {
            std::fs::write(dir.join(format!("{}.log", member.name)), member.stderr())?;
        }
        Ok(Outcome {
            facts,
            verdict,
            errors,
            versions,
            dir: dir.to_owned(),
        })
    }

    async fn push(&self, generator: &Arc<Generator>, nemesis: &Nemesis) -> Followers {
        let began = Instant::now();
        let pushing = generator.push_all();
        tokio::pin!(pushing);
        let mut ticks = tokio::time::interval(TELL_EVERY);
        loop {
            tokio::select! {
                followers = &mut pushing => return followers,
                _ = ticks.tick() => {
                    let (accepted, unknown) = generator.pushed();
                    eprintln!(
                        "{:6.1} s  {accepted} of {} tasks accepted, {unknown} unknown, {} things done to them",
                        began.elapsed().as_secs_f64(), self.tasks, nemesis.deeds().len()
                    );
                }
            }
        }
    }
}

/// Waits until all gateways say that they are ready.
async fn ready(client: &Client, healed: Instant, patience: Duration) -> Option<Duration> {
    while healed.elapsed() < patience {
        let mut all = true;
        for gateway in 0..client.gateways() {
            all &= client.is_ready(gateway).await;
        }
        if all {
            return Some(healed.elapsed());
        }
        sleep(LOOK_EVERY).await;
    }
    None
}

/// Waits until nothing is unfinished.
async fn drained(
    system: &System,
    accepted: &[Uuid],
    healed: Instant,
    patience: Duration,
) -> Option<Duration> {
    while healed.elapsed() < patience {
        match records::unfinished(&system.store, accepted).await {
            Ok(0) => return Some(healed.elapsed()),
            Ok(_) | Err(_) => sleep(LOOK_EVERY).await,
        }
    }
    None
}

/// Measures how late the harness's own tasks come to run: its proxies are the network.
async fn watch_lag(longest: Arc<AtomicU64>) {
    loop {
        let began = Instant::now();
        sleep(LAG_EVERY).await;
        let late = began.elapsed().saturating_sub(LAG_EVERY);
        longest.fetch_max(clock::micros(late), Ordering::Relaxed);
    }
}

/// Lets clients look at what has ended, for a while.
async fn finish(mut followers: Followers, over: &CancellationToken) {
    let all = async { while followers.join_next().await.is_some() {} };
    if tokio::time::timeout(FOLLOW_FOR, all).await.is_err() {
        over.cancel();
        while followers.join_next().await.is_some() {}
    }
}
