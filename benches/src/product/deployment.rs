//! goflow on the servers of a rig, for one run.

use std::time::Instant;

use anyhow::{Result, bail};
use goflow::engine::Record;
use goflow::record::{Filter, PageRequest};
use goflow::{GoFlow, nats};
use goflow_test_servers::Process;

use crate::args::Plan;
use crate::payload::TASK_TYPE;
use crate::rig::{Database, Rig, broker_options};
use crate::streams::Watched;
use crate::worker;

/// The stream of the queue, and the one of the outcomes.
const STREAMS: [&str; 2] = ["GF_Q_default", "GF_RES"];

/// Tasks that are run before the clock starts: streams are made, connections opened, statements prepared.
const WARM_UP: usize = 50;

/// Calls that are timed.
const CALLS: usize = 1_000;

/// An engine in this process, and worker processes.
#[derive(Debug)]
pub(crate) struct Deployment<'a> {
    pub(crate) rig: &'a Rig,
    pub(crate) plan: &'a Plan,
    pub(crate) database: Database<'a>,
    pub(crate) flow: GoFlow,
    pub(crate) watched: Watched,
    workers: Vec<worker::Process>,
}

impl<'a> Deployment<'a> {
    /// An engine on an empty database that has pushed a little already, and no worker yet.
    pub(crate) async fn start(rig: &'a Rig, plan: &'a Plan, record: Record) -> Result<Self> {
        rig.reset_broker().await?;
        let database = rig.database()?;
        let mut watched = Watched::new(rig.jetstream().await?, &STREAMS).await?;
        let flow = engine(rig, &database, record).await?;
        for _ in 0..WARM_UP {
            flow.push(plan.payload().warm_up()?).await?;
        }
        watched.filled(WARM_UP).await?;
        watched.restart().await?;
        Ok(Self {
            rig,
            plan,
            database,
            flow,
            watched,
            workers: Vec::new(),
        })
    }

    /// Starts the worker processes and has them work off what there is.
    pub(crate) async fn work(&mut self) -> Result<()> {
        self.start_workers().await?;
        self.go().await?;
        self.watched.drained(0).await
    }

    /// Starts the worker processes. They take nothing before [`go`](Self::go).
    pub(crate) async fn start_workers(&mut self) -> Result<()> {
        for _ in 0..self.plan.workers {
            let worker = worker::Process::start(self.rig.nats_url(), self.plan.slots).await?;
            self.workers.push(worker);
        }
        Ok(())
    }

    /// Has the workers take tasks.
    pub(crate) async fn go(&mut self) -> Result<()> {
        for worker in &mut self.workers {
            worker.go().await?;
        }
        Ok(())
    }

    /// All processes but this one, by name.
    pub(crate) fn processes(&self) -> Vec<(&'static str, u32)> {
        let workers = self.workers.iter().filter_map(worker::Process::pid);
        let workers = workers.map(|pid| ("worker", pid));
        self.rig.servers().into_iter().chain(workers).collect()
    }

    /// Checks that every task has its result and no other row is there, and ends everything.
    pub(crate) async fn check_and_close(self) -> Result<()> {
        check_results(&self.database, self.plan)?;
        self.close().await
    }

    /// Ends everything.
    pub(crate) async fn close(self) -> Result<()> {
        for worker in self.workers {
            worker.stop().await?;
        }
        self.flow.close().await?;
        Ok(())
    }

    /// How long a filtered page and a single task take, in milliseconds: half of the calls, and all but one in a hundred.
    pub(crate) async fn page_times(&self) -> Result<serde_json::Value> {
        let filter = Filter {
            task_type: Some(TASK_TYPE.parse()?),
            ..Filter::default()
        };
        let (mut pages, mut tasks) = (Vec::new(), Vec::new());
        for _ in 0..CALLS {
            let begun = Instant::now();
            let page = self.flow.list(&filter, PageRequest::default()).await?;
            pages.push(begun.elapsed().as_secs_f64() * 1e3);
            let Some(task) = page.tasks.first() else {
                bail!("an empty page");
            };
            let begun = Instant::now();
            self.flow.get(task.spec.id).await?;
            tasks.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        let shares = |mut times: Vec<f64>| {
            times.sort_by(f64::total_cmp);
            (times[CALLS / 2], times[CALLS * 99 / 100])
        };
        let ((page_p50, page_p99), (task_p50, task_p99)) = (shares(pages), shares(tasks));
        Ok(serde_json::json!({
            "page_p50_ms": page_p50, "page_p99_ms": page_p99, "task_p50_ms": task_p50, "task_p99_ms": task_p99,
        }))
    }

    /// Checks that every task is there and waits, and ends everything.
    pub(crate) async fn check_waiting_and_close(self) -> Result<()> {
        self.watched.filled(self.plan.tasks).await?;
        check_rows(&self.database, self.plan)?;
        self.flow.close().await?;
        Ok(())
    }
}

/// An engine in this process.
pub(crate) async fn engine(rig: &Rig, database: &Database<'_>, record: Record) -> Result<GoFlow> {
    let flow = GoFlow::builder()
        .broker(nats::connect(broker_options(rig.nats_url())).await?)
        .store(database.store().await?)
        .record(record)
        .build();
    flow.start().await?;
    Ok(flow)
}

/// Checks that the record holds every task with its result, and nothing else.
pub(crate) fn check_results(database: &Database<'_>, plan: &Plan) -> Result<()> {
    let table = "(select result_bytes as result from goflow_tasks where type = 'echo' and state = 'succeeded') t";
    database.check(table, plan.payload(), plan.tasks)?;
    let rows = database.execute("select count(*) from goflow_tasks where type = 'echo'")?;
    if rows != plan.tasks.to_string() {
        bail!("{rows} rows instead of {}", plan.tasks);
    }
    Ok(())
}

/// Checks that the record holds every task, unfinished, and nothing else.
pub(crate) fn check_rows(database: &Database<'_>, plan: &Plan) -> Result<()> {
    let table = "(select payload_bytes as result from goflow_tasks where type = 'echo' and state = 'queued') t";
    database.check(table, plan.payload(), plan.tasks)
}

/// Gateway processes on one store, and what is needed to look behind them.
#[derive(Debug)]
pub(crate) struct Gateways<'a> {
    pub(crate) processes: Vec<Process>,
    pub(crate) database: Database<'a>,
    pub(crate) watched: Watched,
}

impl<'a> Gateways<'a> {
    /// So many gateways on an empty database.
    pub(crate) async fn start(rig: &'a Rig, count: usize) -> Result<Self> {
        rig.reset_broker().await?;
        let database = rig.database()?;
        let watched = Watched::new(rig.jetstream().await?, &STREAMS).await?;
        let args = [
            "--broker",
            rig.nats_url(),
            "--store",
            database.url(),
            "--migrate",
        ];
        let processes = (0..count)
            .map(|_| Process::gateway(args))
            .collect::<Result<_>>()?;
        Ok(Self {
            processes,
            database,
            watched,
        })
    }
}
