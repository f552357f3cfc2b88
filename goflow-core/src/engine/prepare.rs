//! Brings store and broker together and makes the channels; again after the broker lost its state.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{error, info, warn};

use super::Core;
use crate::broker;
use crate::error::Error;
use crate::name::QueueName;
use crate::store;

/// How long a killed predecessor's claim on the store is waited for.
const CLAIM_PATIENCE: Duration = Duration::from_secs(10);

/// The queues this engine has made sure of, with the lease it was asked to give them.
#[derive(Debug, Default)]
pub(super) struct Prepared(Mutex<HashMap<QueueName, Option<Duration>>>);

impl Prepared {
    fn map(&self) -> MutexGuard<'_, HashMap<QueueName, Option<Duration>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn queues(&self) -> Vec<QueueName> {
        self.map().keys().cloned().collect()
    }
}

impl Core {
    /// Binds store and broker to each other and makes the channels there must be.
    pub(super) async fn prepare(&self) -> Result<(), Error> {
        let identity = self.connection.control.identify().await?;
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
        self.connection.control.bind(self.store.id()).await?;
        self.connection
            .results
            .prepare(self.route.as_str(), None)
            .await?;
        self.prepare_queue(&QueueName::default(), None).await?;
        for counts in self.store.queue_counts().await? {
            self.prepare_queue(&counts.queue, None).await?;
        }
        Ok(())
    }

    /// Prepares everything anew: the broker says that something is missing.
    pub(super) async fn prepare_again(&self) {
        let queues = self.prepared.queues();
        self.forget_prepared();
        match self.prepare().await {
            Ok(()) => info!("prepared the broker anew"),
            Err(error) => return warn!(%error, "cannot prepare the broker, trying again"),
        }
        for queue in queues {
            if let Err(error) = self.prepare_queue(&queue, None).await {
                warn!(%error, %queue, "cannot prepare the queue");
            }
        }
    }

    pub(super) fn forget_prepared(&self) {
        self.prepared.map().clear();
    }

    /// Makes sure of a queue; cheap when it was done before.
    pub(super) async fn prepare_queue(
        &self,
        queue: &QueueName,
        lease: Option<Duration>,
    ) -> Result<(), broker::Error> {
        let known = self.prepared.map().get(queue).copied();
        if known.is_some_and(|known| lease.is_none() || known == lease) {
            return Ok(());
        }
        self.connection.tasks.prepare(queue.as_str(), lease).await?;
        self.prepared.map().insert(queue.clone(), lease);
        Ok(())
    }

    /// Does what has to be done now and then, until it is dropped.
    pub(super) async fn maintain(&self) {
        let mut beats = tokio::time::interval(store::CLAIM_TTL / 4);
        let mut beat = 0_u32;
        loop {
            beats.tick().await;
            self.registry.forget_silent();
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
