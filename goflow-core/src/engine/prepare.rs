//! Brings store and broker together and makes the channels; again after the broker lost its state.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{error, info, warn};
use uuid::Uuid;

use super::Core;
use crate::broker;
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
}

#[derive(Debug, Default)]
struct State {
    /// The broker as it was when last looked at.
    broker: Uuid,
    /// Whether something turned out to be missing since.
    in_doubt: bool,
    queues: HashSet<QueueName>,
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
        let mut identity = self.connection.control.identify().await?;
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
        self.prepare_queue(&QueueName::default(), None).await?;
        for counts in self.store.queue_counts().await? {
            self.prepare_queue(&counts.queue, None).await?;
        }
        for queue in self.store.paused().await? {
            self.prepare_queue(&queue, None).await?;
            self.apply_paused(&queue, true).await?;
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

    /// Makes sure of a queue; cheap when it was done before.
    pub(super) async fn prepare_queue(
        &self,
        queue: &QueueName,
        lease: Option<Duration>,
    ) -> Result<(), broker::Error> {
        let lease = {
            let state = self.prepared.state();
            let remembered = state.leases.get(queue).copied();
            if state.queues.contains(queue) && (lease.is_none() || lease == remembered) {
                return Ok(());
            }
            lease.or(remembered)
        };
        for priority in Priority::ALL {
            self.connection
                .tasks
                .prepare(&priority.lane(queue), lease)
                .await?;
        }
        let mut state = self.prepared.state();
        state.queues.insert(queue.clone());
        if let Some(lease) = lease {
            state.leases.insert(queue.clone(), lease);
        }
        Ok(())
    }

    /// Starts or stops the delivery of a queue's tasks.
    pub(super) async fn set_paused(&self, queue: &QueueName, paused: bool) -> Result<(), Error> {
        // The store first: it is what lasts, and what is applied again to a broker that lost its state.
        self.store.set_paused(queue, paused).await?;
        self.prepare_queue(queue, None).await?;
        self.apply_paused(queue, paused).await?;
        Ok(())
    }

    async fn apply_paused(&self, queue: &QueueName, paused: bool) -> Result<(), broker::Error> {
        for priority in Priority::ALL {
            self.connection
                .tasks
                .set_paused(&priority.lane(queue), paused)
                .await?;
        }
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
