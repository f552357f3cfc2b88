//! Dispatches what is due: waiting tasks whose time has come, and dispatches that nobody confirmed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::sweep::Sweep;
use super::{Core, dispatch};
use crate::store::{self, Claim};

/// The longest time between two looks at the store.
pub(super) const TICK: Duration = Duration::from_millis(500);

/// Most rows claimed at once.
const MAX_CLAIMED: usize = 500;

/// When the store is to be looked at next.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    next: Mutex<Option<Instant>>,
    sooner: Notify,
}

impl Schedule {
    /// Has the store looked at this soon, if no look is planned sooner.
    pub(super) fn wake_in(&self, wait: Duration) {
        if wait >= TICK {
            return;
        }
        let when = Instant::now() + wait;
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if next.is_none_or(|next| when < next) {
            *next = Some(when);
            self.sooner.notify_one();
        }
    }

    async fn wait(&self) {
        let latest = Instant::now() + TICK;
        loop {
            let next = *self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let until = next.map_or(latest, |next| next.min(latest));
            tokio::select! {
                () = tokio::time::sleep_until(until) => break,
                () = self.sooner.notified() => {}
            }
        }
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Looks at the store, again and again, until it is dropped.
pub(super) async fn run(core: Arc<Core>) {
    let mut reachable = true;
    let mut sweep = Sweep::default();
    loop {
        core.schedule.wait().await;
        let away = !reachable && core.connection.control.ping().await.is_err();
        if core.lost_claim.is_cancelled() {
            // Another process has the store now.
            return;
        }
        let looked = if away {
            // To claim what the broker cannot take would only wear the store out. Deadlines pass all the same.
            end_late(&core).await.map(|()| false)
        } else {
            tick(&core, &mut sweep).await
        };
        match looked {
            Ok(all) => reachable = all,
            Err(error) => {
                warn!(%error, "cannot look for what is due, trying again");
                // What other engines know to be with the broker, they tell the store first.
                core.registry.doubt();
            }
        }
    }
}

async fn tick(core: &Core, sweep: &mut Sweep) -> Result<bool, store::Error> {
    // First what is known to be with the broker, so that no sweep takes it for lost.
    dispatch::confirm(core).await?;
    // While it is not known who holds what, a sweep could dispatch what is running.
    let held = sweep.held(core).await;
    let claim = held.as_ref().map_or(Claim::WaitingOrLate, Claim::All);
    loop {
        let due = core.store.claim_due(MAX_CLAIMED, claim).await?;
        if due.looked_at > 0 {
            debug!(
                dispatches = due.dispatches.len(),
                expired = due.expired.len(),
                "due"
            );
        }
        core.ended(&due.expired).await;
        if !dispatch::publish(core, due.dispatches.into_iter()).await {
            return Ok(false);
        }
        if due.looked_at < MAX_CLAIMED {
            return Ok(true);
        }
    }
}

/// Ends what is late, and dispatches nothing. Other engines hear nothing of it: there is no broker to tell them by.
async fn end_late(core: &Core) -> Result<(), store::Error> {
    loop {
        let late = core.store.claim_due(MAX_CLAIMED, Claim::Late).await?;
        let ids: Vec<_> = late.expired.iter().map(|it| it.task).collect();
        core.left(&ids);
        core.tombs.entomb(&late.expired).await;
        // Those that could not be ended would be found again.
        if ids.len() < MAX_CLAIMED {
            return Ok(());
        }
    }
}
