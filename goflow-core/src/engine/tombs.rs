//! Tells workers not to start what has ended, and to stop what they run of it: for as long as it takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::Core;
use crate::broker::{Error, Tombstone};

/// How long whoever ends tasks waits for workers to be told. They are told later all the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// The pause before the broker is told again.
const PAUSE: Duration = Duration::from_millis(500);

/// Ends of tasks that may wait for the broker. What comes beyond it while the broker is away is not told: such a task
/// may still be run, and its outcome is dropped.
const BACKLOG: usize = 100_000;

/// Most tombstones handed to the broker together.
const MAX_TOGETHER: usize = 1_000;

type Told = (Tombstone, oneshot::Sender<()>);

/// What workers are to be told.
#[derive(Debug)]
pub(super) struct Tombs {
    sender: mpsc::Sender<Told>,
    /// Whether the broker did not take the last ones.
    away: AtomicBool,
}

impl Tombs {
    pub(super) fn new() -> (Self, mpsc::Receiver<Told>) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let away = AtomicBool::new(false);
        (Self { sender, away }, receiver)
    }

    /// Hands these to the loop that tells workers, and waits a moment for it to have done so.
    pub(super) async fn entomb(&self, tombstones: &[Tombstone]) {
        let mut telling = Vec::with_capacity(tombstones.len());
        for tombstone in tombstones {
            let (told, done) = oneshot::channel();
            if self.sender.try_send((*tombstone, told)).is_ok() {
                telling.push(done);
            }
        }
        let untold = tombstones.len() - telling.len();
        if untold > 0 {
            warn!(
                tasks = untold,
                "they have ended and may still be run; their outcomes are dropped"
            );
        }
        if !self.away.load(Ordering::Relaxed) {
            let all_told = async {
                for done in telling {
                    drop(done.await);
                }
            };
            drop(tokio::time::timeout(PATIENCE, all_told).await);
        }
    }
}

/// Tells workers, until it is dropped.
pub(super) async fn run(core: Arc<Core>, mut tombs: mpsc::Receiver<Told>) {
    let mut group = Vec::new();
    while tombs.recv_many(&mut group, MAX_TOGETHER).await > 0 {
        let (tombstones, told): (Vec<_>, Vec<_>) = group.drain(..).unzip();
        loop {
            match core.connection.control.entomb(&tombstones).await {
                Ok(()) => break,
                Err(Error::Closed) => return,
                Err(error) => {
                    if !core.tombs.away.swap(true, Ordering::Relaxed) {
                        warn!(%error, "cannot tell workers what has ended, trying again");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        core.tombs.away.store(false, Ordering::Relaxed);
        for told in told {
            // Nobody may be waiting any more.
            _ = told.send(());
        }
    }
}
