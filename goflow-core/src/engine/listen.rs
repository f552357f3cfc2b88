//! Listens to signals: tasks that finished elsewhere, and the heartbeats of workers.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::Core;
use crate::broker::Error;
use crate::signal::{Signal, WorkerStatus};

/// The pause before listening again after it failed.
const PAUSE: Duration = Duration::from_millis(500);

/// Listens, until it is dropped.
pub(super) async fn run(core: Arc<Core>) {
    loop {
        match core.connection.control.listen().await {
            Ok(mut signals) => {
                core.registry.listening(true);
                while let Some(signal) = signals.next().await {
                    take(&core, signal).await;
                }
                core.registry.listening(false);
            }
            Err(Error::Closed) => return,
            Err(error) => warn!(%error, "cannot listen to signals, trying again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn take(core: &Core, signal: Signal) {
    match signal {
        Signal::Finished { route, ids, engine } if route == core.route && engine != core.id => {
            core.wake(&ids);
        }
        Signal::Finished { .. } | Signal::Command { .. } => {}
        Signal::Heartbeat(status) => heartbeat(core, *status).await,
        Signal::Goodbye(worker) => core.registry.goodbye(worker),
    }
}

async fn heartbeat(core: &Core, part: WorkerStatus) {
    let Some(status) = core.registry.whole(part) else {
        return;
    };
    let (worker, queues, lease) = (status.id, status.queues.clone(), status.lease);
    let news = core.registry.beat(status);
    for queue in &queues {
        let fresh = !news.types.is_empty();
        // A lease is taken from a worker once, when it appears: the last one that appears wins.
        let lease = lease.filter(|_| fresh);
        if let Err(error) = core.prepare_queue(queue, lease).await {
            warn!(%error, %queue, "cannot prepare the queue of a worker");
        }
        if !fresh {
            continue;
        }
        match core.store.wake_unserved(queue, &news.types).await {
            Ok(0) => {}
            Ok(count) => {
                info!(count, %queue, %worker, "a worker for unserved tasks appeared");
                core.schedule.wake_in(Duration::ZERO);
            }
            Err(error) => {
                core.registry.unheeded(worker);
                warn!(%error, %queue, "cannot wake unserved tasks, trying again");
            }
        }
    }
}
