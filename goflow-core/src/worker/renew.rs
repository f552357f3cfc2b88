//! Renews the leases of all held deliveries, from a thread and runtime of its own, so that handlers which
//! keep every thread of the application busy cannot starve it.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::held::Held;
use crate::ambient;
use crate::error::Error;
use crate::faults::{self, Bug};

/// How often leases are looked at: often enough for the shortest one, 1 s, to be renewed at a third of it.
const TICK: Duration = Duration::from_millis(100);

/// How long the renewals of one tick may take before the next tick tries again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whatever renews: a thread, but for simulations, where nothing happens beside the one that runs them.
#[derive(Debug)]
pub(super) enum Renewer {
    Thread(RenewingThread),
    Task(JoinSet<()>),
}

#[derive(Debug)]
pub(super) struct RenewingThread {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Renewer {
    pub(super) fn start(held: Arc<Held>) -> Result<Self, Error> {
        if ambient::is_simulated() {
            let mut task = JoinSet::new();
            task.spawn(async move { renew(&held).await });
            return Ok(Self::Task(task));
        }
        RenewingThread::start(held).map(Self::Thread)
    }

    /// Ends it.
    pub(super) async fn stop(self) {
        match self {
            Self::Thread(thread) => drop(tokio::task::spawn_blocking(move || drop(thread)).await),
            Self::Task(mut task) => task.shutdown().await,
        }
    }
}

impl RenewingThread {
    fn start(held: Arc<Held>) -> Result<Self, Error> {
        let failed = |e: std::io::Error| {
            Error::invalid(format!("cannot start the thread that renews leases: {e}"))
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(failed)?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let run = move || {
            runtime.block_on(stopped.run_until_cancelled(renew(&held)));
        };
        let thread = std::thread::Builder::new()
            .name("goflow-leases".into())
            .spawn(run);
        Ok(Self {
            stop,
            thread: Some(thread.map_err(failed)?),
        })
    }
}

impl Drop for RenewingThread {
    /// Ends the thread, which takes no longer than the step it is at.
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the thread that renews leases had panicked");
        }
    }
}

async fn renew(held: &Held) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let due = held.to_renew(now);
        if due.is_empty() || faults::planted(Bug::LeaseNotExtended) {
            continue;
        }
        let extend = |(key, lease): (u64, Arc<dyn crate::broker::Lease>)| async move {
            lease.extend().await.map(|stands| (key, stands))
        };
        let mut extensions: FuturesUnordered<_> = due.into_iter().map(extend).collect();
        let (mut renewed, mut lost) = (Vec::new(), Vec::new());
        let all = async {
            while let Some(extension) = extensions.next().await {
                match extension {
                    Ok((key, true)) => renewed.push(key),
                    Ok((key, false)) => lost.push(key),
                    Err(error) => warn!(%error, "cannot renew a lease"),
                }
            }
        };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            warn!("renewing leases takes too long");
        }
        held.renewed(&renewed, now);
        held.lost(&lost);
    }
}
