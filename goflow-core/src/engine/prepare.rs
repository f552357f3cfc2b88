//! Brings store and broker together and makes the channels; again after the broker lost its state.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{error, info, warn};
use uuid::Uuid;

use super::Core;
use crate::broker::{self, Identity};
use crate::error::Error;
use crate::name::QueueName;
use crate::priority::Priority;
use crate::store;

/// How long a killed predecessor's claim on the store is waited for.
const CLAIM_PATIENCE: Duration = Duration::from_secs(10);

/// What this engine has made sure of.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    state: Mutex<State>,
    /// Held while preparing: once is enough.
    preparing: tokio::sync::Mutex<()>,
    /// Held while lanes are made, paused or resumed: nobody may pause what somebody else has just resumed.
    lanes: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// The broker as it was when last looked at.
    broker: Uuid,
    /// Whether something turned out to be missing since.
    in_doubt: bool,
    queues: BTreeSet<QueueName>,
    /// The queues that are paused in the broker, as far as this engine has seen to it.
    paused: BTreeSet<QueueName>,
    /// The leases that workers asked for, which a broker that lost its state is given again.
    leases: HashMap<QueueName, Duration>,
}

impl Prepared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn queues(&self) -> Vec<QueueName> {
        self.state().queues.iter().cloned().collect()
    }

    /// The broker as it was when last looked at, if a queue is known to be there.
    pub(super) fn broker_with(&self, queue: &QueueName) -> Option<Uuid> {
        let state = self.state();
        state.queues.contains(queue).then_some(state.broker)
    }

    fn note_paused(&self, queue: &QueueName, paused: bool) {
        let mut state = self.state();
        if paused {
            state.paused.insert(queue.clone());
        } else {
            state.paused.remove(queue);
        }
    }

    /// Notes the lease that a queue is to have; whether it has it, and all that is to be there is.
    fn has(&self, queue: &QueueName, lease: Option<Duration>) -> bool {
        let mut state = self.state();
        if let Some(lease) = lease
            && state.leases.insert(queue.clone(), lease) != Some(lease)
        {
            state.queues.remove(queue);
        }
        state.queues.contains(queue)
    }

    /// Notes that something is missing: everything is to be prepared anew.
    pub(super) fn doubt(&self) {
        self.state().in_doubt = true;
    }
}

impl Core {
    /// The broker as it was when last looked at.
    pub(super) fn broker(&self) -> Uuid {
        self.prepared.state().broker
    }

    /// Binds store and broker to each other and makes the channels there must be.
    pub(super) async fn prepare(&self) -> Result<(), Error> {
        loop {
            let identity = self.connection.control.identify().await?;
            let broker = identity.broker;
            self.prepare_for(identity).await?;
            // Should it have lost its state meanwhile, all is there, yet the store was told of the one before.
            if self.connection.control.identify().await?.broker == broker {
                return Ok(());
            }
            self.prepared.state().queues.clear();
        }
    }

    async fn prepare_for(&self, mut identity: Identity) -> Result<(), Error> {
        if !self.store.is_durable() {
            // Records that end with the process bind nobody: any number of such engines share a broker, each with
            // a route of its own.
            identity.store = None;
        }
        let give_up = tokio::time::Instant::now() + CLAIM_PATIENCE;
        loop {
            match self.store.bind(&identity).await {
                Ok(()) => break,
                Err(store::Error::Claimed) if tokio::time::Instant::now() < give_up => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.prepared.state().broker = identity.broker;
        if self.store.is_durable() {
            self.connection.control.bind(self.store.id()).await?;
        }
        self.connection
            .results
            .prepare(self.route.as_str(), None)
            .await?;
        let paused: BTreeSet<_> = self.store.paused().await?.into_iter().collect();
        let counted = self.store.queue_counts().await?;
        let mut queues: BTreeSet<_> = counted.into_iter().map(|counts| counts.queue).collect();
        queues.insert(QueueName::default());
        queues.extend(paused.iter().cloned());
        for queue in &queues {
            let paused = paused.contains(queue);
            if paused || self.store.is_durable() {
                self.apply_paused(queue, paused).await?;
            } else {
                // Another engine may have paused it, whose records nobody else sees.
                self.prepare_queue(queue, None).await?;
            }
        }
        Ok(())
    }

    /// Has the broker pause the queues that the store says are paused, and let those go on that no longer are:
    /// another engine may have ended between the two.
    async fn follow_pauses(&self) -> Result<(), Error> {
        let _one = self.prepared.lanes.lock().await;
        let wanted: BTreeSet<_> = self.store.paused().await?.into_iter().collect();
        let present = self.prepared.state().paused.clone();
        for queue in wanted.symmetric_difference(&present) {
            self.turn_lanes(queue, wanted.contains(queue)).await?;
        }
        Ok(())
    }

    /// Prepares everything anew: the broker lost its state, or something of it. What cannot be done now is tried
    /// again by [`maintain`](Self::maintain).
    pub(super) async fn prepare_again(&self) {
        self.prepared.doubt();
        self.resolve_doubt().await;
    }

    async fn resolve_doubt(&self) {
        let _once = self.prepared.preparing.lock().await;
        if !self.prepared.state().in_doubt {
            return;
        }
        let queues = std::mem::take(&mut self.prepared.state().queues);
        let prepared = async {
            self.prepare().await?;
            for queue in &queues {
                self.prepare_queue(queue, None).await?;
            }
            Ok::<_, Error>(())
        };
        match prepared.await {
            Ok(()) => {
                self.prepared.state().in_doubt = false;
                info!("prepared the broker anew");
            }
            Err(error) => {
                self.prepared.state().queues.extend(queues);
                warn!(%error, "cannot prepare the broker, trying again");
            }
        }
    }

    /// Makes sure of a queue; cheap when it was done before. A lease that cannot be set now is set by a later call.
    pub(super) async fn prepare_queue(
        &self,
        queue: &QueueName,
        lease: Option<Duration>,
    ) -> Result<(), broker::Error> {
        if self.prepared.has(queue, lease) {
            return Ok(());
        }
        let _one = self.prepared.lanes.lock().await;
        self.make_lanes(queue).await
    }

    async fn make_lanes(&self, queue: &QueueName) -> Result<(), broker::Error> {
        let (lease, paused) = {
            let state = self.prepared.state();
            if state.queues.contains(queue) {
                return Ok(());
            }
            let lease = state.leases.get(queue).copied();
            (lease, state.paused.contains(queue))
        };
        for priority in Priority::ALL {
            let lane = priority.lane(queue);
            self.connection.tasks.prepare(&lane, lease).await?;
            if paused {
                self.connection.tasks.set_paused(&lane, true).await?;
            }
        }
        let mut state = self.prepared.state();
        if state.leases.get(queue).copied() == lease {
            state.queues.insert(queue.clone());
        }
        Ok(())
    }

    /// Starts or stops the delivery of a queue's tasks.
    pub(super) async fn set_paused(&self, queue: &QueueName, paused: bool) -> Result<(), Error> {
        let _one = self.prepared.lanes.lock().await;
        // The store first: it is what lasts, and what is applied again to a broker that lost its state.
        self.store.set_paused(queue, paused).await?;
        self.turn_lanes(queue, paused).await?;
        Ok(())
    }

    async fn apply_paused(&self, queue: &QueueName, paused: bool) -> Result<(), broker::Error> {
        let _one = self.prepared.lanes.lock().await;
        self.turn_lanes(queue, paused).await
    }

    async fn turn_lanes(&self, queue: &QueueName, paused: bool) -> Result<(), broker::Error> {
        if paused {
            // Lanes that are made now are paused at once.
            self.prepared.note_paused(queue, true);
        }
        self.make_lanes(queue).await?;
        // Until all lanes are as they should be it counts as the opposite, so that it is tried again.
        self.prepared.note_paused(queue, !paused);
        for priority in Priority::ALL {
            self.connection
                .tasks
                .set_paused(&priority.lane(queue), paused)
                .await?;
        }
        self.prepared.note_paused(queue, paused);
        Ok(())
    }

    /// Does what has to be done now and then, until it is dropped.
    pub(super) async fn maintain(&self) {
        let mut beats = tokio::time::interval(store::CLAIM_TTL / 4);
        let mut beat = 0_u32;
        loop {
            beats.tick().await;
            self.registry.forget_silent();
            self.resolve_doubt().await;
            if let Err(error) = self.follow_pauses().await {
                warn!(%error, "cannot pause or resume queues, trying again");
            }
            if self.in_process {
                self.renew_claim().await;
            }
            if beat.is_multiple_of(30)
                && let Err(error) = self.store.maintain().await
            {
                warn!(%error, "cannot maintain the store, trying again");
            }
            beat = beat.wrapping_add(1);
        }
    }

    /// An in-process broker keeps its claim on the store only by renewing it.
    async fn renew_claim(&self) {
        let renewed = async {
            let identity = self.connection.control.identify().await?;
            self.store.bind(&identity).await.map_err(Error::from)
        };
        if let Err(error) = renewed.await {
            if matches!(error, Error::Store(store::Error::Claimed)) {
                self.lost_claim.cancel();
            }
            error!(%error, "cannot renew the claim on the store");
        }
    }
}
