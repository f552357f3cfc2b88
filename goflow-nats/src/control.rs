//! Identity, signals, tombstones and checkpoints.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use goflow_core::broker::{Control, Error, Identity, Signals, Tombstone, Tombstones};
use goflow_core::signal::Signal;
use goflow_core::{StoreId, TaskId};
use tokio::time::Instant;
use uuid::Uuid;

use crate::api::{self, Probe};
use crate::link::{DEADLINE, Link, Owner, WINDOW};
use crate::publish;
use crate::topology::{self, BROKER_KEY, STORE_KEY};
use crate::{checkpoints, signals, tombstones};

/// The deadline of `ping` and `close`.
const SHORT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct NatsControl {
    link: Link,
    _owner: Arc<Owner>,
}

impl NatsControl {
    pub(crate) fn new(link: Link, owner: Arc<Owner>) -> Self {
        Self {
            link,
            _owner: owner,
        }
    }
}

#[async_trait]
impl Control for NatsControl {
    async fn identify(&self) -> Result<Identity, Error> {
        self.link.open()?;
        let info = topology::ensure_common(&self.link).await?;
        let id = |key: &str| {
            info.config
                .metadata
                .get(key)
                .and_then(|text| text.parse::<Uuid>().ok())
        };
        let missing = || Error::Refused {
            reason: format!("stream {} has no {BROKER_KEY}", topology::RESULTS),
        };
        let broker = id(BROKER_KEY).ok_or_else(missing)?;
        Ok(Identity {
            broker,
            store: id(STORE_KEY).map(StoreId),
            in_process: false,
        })
    }

    async fn bind(&self, store: StoreId) -> Result<(), Error> {
        const OPERATION: &str = "bind";
        self.link.open()?;
        let foreign = |bound: String| Error::Refused {
            reason: format!(
                "NATS at {} belongs to store {bound}, not to {store}",
                self.link.servers()
            ),
        };
        let wanted = store.0.to_string();
        let mut info = topology::ensure_common(&self.link).await?;
        match info.config.metadata.get(STORE_KEY) {
            Some(bound) if *bound == wanted => return Ok(()),
            Some(bound) => return Err(foreign(bound.clone())),
            None => {}
        }
        info.config
            .metadata
            .insert(STORE_KEY.to_owned(), wanted.clone());
        let translate = |failure: api::Failure| failure.translate(OPERATION, topology::RESULTS);
        api::update_stream(&self.link, &info.config)
            .await
            .map_err(translate)?;
        // JetStream has no compare-and-set for this. Of two that come at once both look again.
        let info = api::stream_info(&self.link, topology::RESULTS)
            .await
            .map_err(translate)?;
        match info.config.metadata.get(STORE_KEY) {
            Some(bound) if *bound == wanted => Ok(()),
            bound => Err(foreign(bound.cloned().unwrap_or_default())),
        }
    }

    async fn ping(&self) -> Result<(), Error> {
        const OPERATION: &str = "ping";
        self.link.open()?;
        let deadline = Instant::now() + SHORT;
        self.link.connected(OPERATION, Instant::now()).await?;
        match api::probe(&self.link, deadline).await {
            Probe::Answers => Ok(()),
            Probe::NoJetStream => Err(Error::unavailable(OPERATION, "JetStream does not answer")),
            Probe::NoAnswer => Err(Error::unavailable(OPERATION, "timed out")),
        }
    }

    async fn signal(&self, signal: Signal) -> Result<(), Error> {
        self.link.open()?;
        signals::send(&self.link, &signal).await
    }

    async fn listen(&self) -> Result<Signals, Error> {
        self.link.open()?;
        signals::listen(&self.link).await
    }

    async fn commands(&self) -> Result<Signals, Error> {
        self.link.open()?;
        signals::commands(&self.link).await
    }

    async fn save_checkpoint(&self, task: TaskId, checkpoint: Bytes) -> Result<(), Error> {
        self.link.open()?;
        checkpoints::save(&self.link, task, checkpoint).await
    }

    async fn checkpoint(&self, task: TaskId) -> Result<Option<Bytes>, Error> {
        self.link.open()?;
        checkpoints::last(&self.link, task).await
    }

    async fn entomb(&self, tombstones: &[Tombstone]) -> Result<(), Error> {
        self.link.open()?;
        let deadline = Instant::now() + DEADLINE;
        let publishes = tombstones.iter().copied().map(|tombstone| async move {
            let channel = topology::TOMBSTONES;
            let subject = topology::tombstone_subject(tombstone.task);
            let payload = tombstones::encode(&tombstone)?;
            publish::publish(
                &self.link,
                channel,
                &subject,
                HeaderMap::new,
                payload,
                deadline,
            )
            .await
        });
        let results: Vec<_> = stream::iter(publishes).buffered(WINDOW).collect().await;
        results.into_iter().collect()
    }

    async fn tombstones(&self) -> Result<Tombstones, Error> {
        self.link.open()?;
        tombstones::watch(&self.link).await
    }

    async fn close(&self) {
        self.link.close(Instant::now() + SHORT).await;
    }
}
