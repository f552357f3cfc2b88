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
        Signal::Finished { route, ids, engine } if route == core.route => {
            if engine == core.id {
                // Everyone here knows. But an outcome may have come before its dispatch was noted.
                core.dispatcher.forget(&ids);
            } else {
                core.wake(&ids);
            }
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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::broker::memory;
    use crate::engine::{Engine, Record};
    use crate::id::TaskId;
    use crate::store::TaskStore;
    use crate::store::memory::MemoryStore;

    /// What this engine has committed it has told everyone here itself.
    #[tokio::test]
    async fn only_the_ends_that_others_tell_of_are_news() {
        let broker = memory::connect(memory::Options::default());
        let store = Arc::new(MemoryStore::default());
        let started = Engine::start(broker.clone(), store.clone(), Record::Full).await;
        let (engine, mut loops) = started.unwrap();
        let mut finished = engine.finished();
        let (own, another) = (TaskId::new(), TaskId::new());
        let tell = async |id, engine| {
            let signal = Signal::Finished {
                route: store.route(),
                ids: vec![id],
                engine,
            };
            broker.control.signal(signal).await.unwrap();
        };
        // It may not listen yet.
        let telling = async {
            loop {
                tell(own, engine.core.id).await;
                tell(another, Uuid::nil()).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            news = finished.recv() => assert_eq!(news, Ok(another)),
            () = telling => {}
        }
        engine.stop_pushing(&mut loops).await.stop(loops).await;
    }
}
