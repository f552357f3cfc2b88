//! Pushes that go on while servers come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use goflow_test_servers::eventually;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::cluster::{Cluster, PATIENCE};

const PUSHERS: usize = 4;

/// Pushes through gateways until it is told to stop; counts what was accepted. Every push has an idempotency key and
/// is repeated until it is accepted. The payload of a task is a string that starts with `load-`, its result is to be
/// the same.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    pushing: Vec<JoinHandle<Result<()>>>,
}

impl Load {
    /// Pushes tasks of this type.
    pub(crate) fn start(urls: &[&str], task_type: &'static str) -> Self {
        Self::paced(urls, task_type, Duration::ZERO)
    }

    /// The same, with a pause between the pushes of each pusher.
    pub(crate) fn paced(urls: &[&str], task_type: &'static str, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let accepted = Arc::new(AtomicUsize::new(0));
        let push = |(pusher, url): (usize, &&str)| {
            let (stop, accepted, client) = (stop.clone(), accepted.clone(), Client::new(url));
            tokio::spawn(async move {
                let mut n = 0;
                while !stop.load(Ordering::SeqCst) {
                    n += 1;
                    let name = format!("load-{pusher}-{n}");
                    let task = json!({"type": task_type, "payload": name});
                    client.push_surely(&name, &task).await?;
                    accepted.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(pause).await;
                }
                Ok(())
            })
        };
        let pushers = urls.iter().cycle().take(PUSHERS).enumerate();
        let pushing = pushers.map(push).collect();
        Self {
            stop,
            accepted,
            pushing,
        }
    }

    /// How many were accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Waits until this many more are accepted.
    pub(crate) async fn accepts(&self, more: usize) -> Result<()> {
        let wanted = self.accepted() + more;
        eventually(PATIENCE, async || {
            let accepted = self.accepted();
            ensure!(accepted >= wanted, "{accepted} of {wanted} accepted");
            Ok(())
        })
        .await
    }

    /// Stops, and waits until all that was accepted has succeeded, once each; how many that is.
    pub(crate) async fn end(mut self, cluster: &Cluster) -> Result<usize> {
        self.stop.store(true, Ordering::SeqCst);
        for pushing in self.pushing.drain(..) {
            pushing.await??;
        }
        let accepted = self.accepted();
        let tasks = "from goflow_tasks where payload #>> '{}' like 'load-%'";
        let done = format!("select count(*) {tasks} and state = 'succeeded' and result = payload");
        cluster
            .counted(&done, accepted.try_into()?, PATIENCE)
            .await?;
        for wanted in ["count(*)", "count(distinct payload)"] {
            let all = cluster.count(&format!("select {wanted} {tasks}"))?;
            ensure!(
                all == i64::try_from(accepted)?,
                "{wanted} is {all}, {accepted} were accepted"
            );
        }
        Ok(accepted)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.pushing.iter().for_each(JoinHandle::abort);
    }
}
