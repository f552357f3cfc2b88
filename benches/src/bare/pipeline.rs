//! The pipeline put together.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, Consumer, pull},
    stream,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::tables::Tables;
use super::{consume, produce, tables};
use crate::args::Plan;
use crate::figure::Run;
use crate::rig::{Database, Rig};
use crate::streams::Watched;
use crate::usage::Usage;

const TASKS: &str = "BARE_TASKS";
const RESULTS: &str = "BARE_RESULTS";

/// Batches of rows between the commit and the publish, where the two go on at once.
const AHEAD: usize = 4;

/// Messages between a pull and what is done with them.
const PULLED: usize = 4_096;

/// What has a row when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// Each task before it is published.
    Full,
    /// Each task when it is done.
    Outcome,
}

/// The servers' side of a run, and the loops of its own.
pub(super) struct Pipeline<'a> {
    rig: &'a Rig,
    pub(super) database: Database<'a>,
    context: jetstream::Context,
    course: Course,
    plan: &'a Plan,
    pub(super) loops: JoinSet<Result<()>>,
}

impl<'a> Pipeline<'a> {
    pub(super) async fn new(rig: &'a Rig, plan: &'a Plan, course: Course) -> Result<Self> {
        let database = rig.database()?;
        tables::create(&database)?;
        let context = rig.jetstream().await?;
        for (name, subject) in [
            (TASKS, produce::TASKS_SUBJECT),
            (RESULTS, consume::RESULTS_SUBJECT),
        ] {
            if context.get_stream(name).await.is_ok() {
                context.delete_stream(name).await?;
            }
            let config = stream::Config {
                name: name.to_owned(),
                subjects: vec![subject.to_owned()],
                retention: stream::RetentionPolicy::WorkQueue,
                storage: stream::StorageType::File,
                ..Default::default()
            };
            context.create_stream(config).await?;
        }
        Ok(Self {
            rig,
            database,
            context,
            course,
            plan,
            loops: JoinSet::new(),
        })
    }

    async fn consumer(&self, stream: &str) -> Result<Consumer<pull::Config>> {
        let config = pull::Config {
            durable_name: Some("bare".to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: Duration::from_secs(60),
            max_ack_pending: 50_000,
            ..Default::default()
        };
        Ok(self
            .context
            .get_stream(stream)
            .await?
            .create_consumer(config)
            .await?)
    }

    pub(super) async fn tables(&self) -> Result<Tables> {
        Tables::connect(self.database.url()).await
    }

    /// Starts the loop that publishes, and gives what commits. `ahead` batches may be committed and not published.
    async fn produce(
        &mut self,
        ahead: usize,
    ) -> Result<impl Future<Output = Result<()>> + Send + use<>> {
        let tables = match self.course {
            Course::Full => Some(self.tables().await?),
            Course::Outcome => None,
        };
        let (committed, to_publish) = mpsc::channel(ahead);
        self.loops
            .spawn(produce::publish(self.rig.jetstream().await?, to_publish));
        let (payload, tasks) = (self.plan.payload(), self.plan.tasks);
        Ok(produce::commit(tables, payload, tasks, committed))
    }

    /// Starts the loops of the worker and the writer.
    async fn consume(&mut self) -> Result<()> {
        let (taken, tasks) = mpsc::channel(PULLED);
        self.loops
            .spawn(consume::pull(self.consumer(TASKS).await?, taken));
        self.loops.spawn(consume::work(
            self.rig.jetstream().await?,
            self.plan.payload(),
            tasks,
        ));
        let (taken, outcomes) = mpsc::channel(PULLED);
        self.loops
            .spawn(consume::pull(self.consumer(RESULTS).await?, taken));
        let (tables, full) = (self.tables().await?, self.course == Course::Full);
        self.loops
            .spawn(consume::record(tables, self.plan.payload(), full, outcomes));
        Ok(())
    }

    /// Waits for `done`, or the first loop that fails.
    pub(super) async fn wait(&mut self, done: impl Future<Output = Result<()>>) -> Result<()> {
        let failed = async {
            while let Some(ended) = self.loops.join_next().await {
                ended??;
            }
            std::future::pending().await
        };
        tokio::select! { done = done => done, failed = failed => failed }
    }

    pub(super) async fn watched(&self) -> Result<Watched> {
        Watched::new(self.context.clone(), &[TASKS, RESULTS]).await
    }

    fn check(&self) -> Result<()> {
        self.database
            .check("done", self.plan.payload(), self.plan.tasks)?;
        let live = self.database.execute("select count(*) from live")?;
        if live != "0" {
            bail!("{live} rows are still live");
        }
        Ok(())
    }
}

/// All steps at once, until the server has taken every ack.
///
/// # Errors
/// What a server says; a wrong or missing result.
pub async fn steady(rig: &Rig, plan: &Plan, course: Course) -> Result<Run> {
    let mut pipeline = Pipeline::new(rig, plan, course).await?;
    let watched = pipeline.watched().await?;
    pipeline.consume().await?;
    let commit = pipeline.produce(AHEAD).await?;
    let (usage, begun) = (Usage::since_now(rig.servers()), Instant::now());
    pipeline.loops.spawn(commit);
    pipeline.wait(watched.drained(plan.tasks)).await?;
    let run = Run::new(plan.tasks, begun.elapsed(), &usage);
    pipeline.check()?;
    Ok(run)
}

/// The first two steps, then the others.
///
/// # Errors
/// As [`steady`].
pub async fn drain(rig: &Rig, plan: &Plan) -> Result<Run> {
    let mut pipeline = Pipeline::new(rig, plan, Course::Full).await?;
    let watched = pipeline.watched().await?;
    let commit = pipeline.produce(AHEAD).await?;
    pipeline.loops.spawn(commit);
    pipeline.wait(watched.filled(plan.tasks)).await?;
    let (usage, begun) = (Usage::since_now(rig.servers()), Instant::now());
    pipeline.consume().await?;
    pipeline.wait(watched.drained(plan.tasks)).await?;
    let run = Run::new(plan.tasks, begun.elapsed(), &usage);
    pipeline.check()?;
    Ok(run)
}

/// The first two steps, until the last row is committed. The commits do not wait for the publishes, which go on beside
/// them.
///
/// # Errors
/// As [`steady`].
pub async fn fill(rig: &Rig, plan: &Plan) -> Result<Run> {
    let mut pipeline = Pipeline::new(rig, plan, Course::Full).await?;
    let watched = pipeline.watched().await?;
    let commit = pipeline.produce(plan.tasks).await?;
    let (usage, begun) = (Usage::since_now(rig.servers()), Instant::now());
    pipeline.wait(commit).await?;
    let run = Run::new(plan.tasks, begun.elapsed(), &usage);
    pipeline.wait(watched.filled(plan.tasks)).await?;
    let rows = pipeline.database.execute("select count(*) from live")?;
    if rows != plan.tasks.to_string() {
        bail!("{rows} rows instead of {}", plan.tasks);
    }
    Ok(run)
}
