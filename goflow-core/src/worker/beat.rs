//! Heartbeats, and the watch on tombstones.

use std::sync::PoisonError;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::pool::Pool;
use crate::ambient;
use crate::broker::{Error, Tombstones};
use crate::signal::{Command, HEARTBEAT_INTERVAL, MAX_HELD, Signal, WorkerStatus};

/// The pause before the broker is asked for the tombstones again.
const WATCH_PAUSE: Duration = Duration::from_millis(500);

/// A run longer than this is announced ahead of the next heartbeat.
const MOMENT: Duration = Duration::from_millis(200);

/// What a worker says of itself that never changes.
#[derive(Debug)]
pub(super) struct Beat {
    pub(super) host: String,
    pub(super) started_at: OffsetDateTime,
    pub(super) lease: Option<Duration>,
    /// A reason to beat ahead of time.
    pub(super) now: Notify,
    /// Fires when commands are heard.
    listening: CancellationToken,
}

impl Beat {
    pub(super) fn new(lease: Option<Duration>) -> Self {
        let host = std::env::var("HOSTNAME")
            .ok()
            .or_else(|| std::fs::read_to_string("/etc/hostname").ok());
        Self {
            host: host.map_or_else(|| "unknown".to_owned(), |host| host.trim().to_owned()),
            started_at: ambient::now_utc(),
            lease,
            now: Notify::new(),
            listening: CancellationToken::new(),
        }
    }

    /// Beats until it is dropped; reads the leases anew each time.
    pub(super) async fn run(&self, pool: &Pool) {
        // Who sees the worker is to be heard by it.
        drop(tokio::time::timeout(HEARTBEAT_INTERVAL, self.listening.cancelled()).await);
        loop {
            let beaten_at = ambient::now_utc();
            self.send(pool).await;
            pool.refresh_leases().await;
            tokio::select! {
                biased;
                () = tokio::time::sleep(HEARTBEAT_INTERVAL) => {}
                () = self.now.notified() => {}
                () = long_run(pool, beaten_at) => {}
            }
        }
    }

    pub(super) async fn send(&self, pool: &Pool) {
        let mut held = pool.held.list();
        let parts = held.len().div_ceil(MAX_HELD).max(1);
        let mut status = WorkerStatus {
            id: pool.worker,
            host: self.host.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            queues: pool.queues(),
            types: pool
                .handlers
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .types(),
            slots: pool.slots,
            lease: self.lease,
            draining: pool.draining.is_cancelled(),
            quiet: *pool.quiet.borrow(),
            held: Vec::new(),
            part: 0,
            parts,
        };
        for part in 0..parts {
            status.part = part;
            status.held = held.drain(..held.len().min(MAX_HELD)).collect();
            let beat = Signal::Heartbeat(Box::new(status.clone()));
            if let Err(error) = pool.connection.control.signal(beat).await {
                debug!(%error, "cannot send a heartbeat");
                return;
            }
        }
    }
}

/// Ends when a handler that was called after `since` has been running for a moment: people want to see it.
async fn long_run(pool: &Pool, since: OffsetDateTime) {
    loop {
        tokio::time::sleep(MOMENT).await;
        let old = ambient::now_utc() - MOMENT;
        if pool.held.any_started_between(since - MOMENT, old) {
            return;
        }
    }
}

/// Obeys commands, until it is dropped.
pub(super) async fn obey(pool: &Pool, beat: &Beat, stop: &CancellationToken) {
    loop {
        if let Ok(mut commands) = pool.connection.control.commands().await {
            beat.listening.cancel();
            while let Some(signal) = commands.next().await {
                let Signal::Command { worker, command } = signal else {
                    continue;
                };
                if worker != pool.worker {
                    continue;
                }
                info!(%worker, ?command, "told to");
                match command {
                    Command::Quiet => _ = pool.quiet.send_replace(true),
                    Command::Resume => _ = pool.quiet.send_replace(false),
                    Command::Stop => stop.cancel(),
                }
                beat.now.notify_one();
            }
        }
        tokio::time::sleep(WATCH_PAUSE).await;
    }
}

/// Reads all tombstones to their end; waits for a broker that has none yet.
pub(super) async fn tombstones(pool: &Pool) -> Option<Tombstones> {
    let mut said = false;
    loop {
        match pool.connection.control.tombstones().await {
            Ok(tombstones) => {
                tombstones
                    .known
                    .iter()
                    .for_each(|tombstone| pool.entomb(*tombstone));
                return Some(tombstones);
            }
            Err(Error::Closed) => return None,
            Err(error) => {
                if !said {
                    warn!(%error, "waiting for the broker to be prepared");
                }
                said = true;
                pool.draining
                    .run_until_cancelled(tokio::time::sleep(WATCH_PAUSE))
                    .await?;
            }
        }
    }
}

/// Takes in tombstones as they are made; reads all again when the watch ends.
pub(super) async fn watch(pool: &Pool, mut tombstones: Tombstones) {
    loop {
        while let Some(tombstone) = tombstones.later.recv().await {
            pool.entomb(tombstone);
        }
        match self::tombstones(pool).await {
            Some(again) => tombstones = again,
            None => return,
        }
    }
}
