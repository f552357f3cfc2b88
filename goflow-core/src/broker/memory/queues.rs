//! The channels of one kind of message.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::channel::Channel;
use crate::broker::{Broker, Delivery, Depth, Error, Wire};

/// A broker of `T`: channels by name.
pub(super) struct Queues<T: Wire> {
    channels: RwLock<HashMap<String, Arc<Channel<T>>>>,
    capacity: usize,
    /// How long a submit waits for room in a full channel.
    patience: Duration,
    /// Whether this is a name for a channel.
    is_name: fn(&str) -> bool,
    closed: CancellationToken,
}

impl<T: Wire> fmt::Debug for Queues<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queues")
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

impl<T: Wire> Queues<T> {
    pub(super) fn new(
        capacity: usize,
        patience: Duration,
        is_name: fn(&str) -> bool,
        closed: CancellationToken,
    ) -> Self {
        Self {
            channels: RwLock::default(),
            capacity,
            patience,
            is_name,
            closed,
        }
    }

    fn channel(&self, name: &str) -> Result<Arc<Channel<T>>, Error> {
        if self.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        let known = self
            .channels
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        if !(self.is_name)(name) {
            return Err(Error::Refused {
                reason: format!("{name:?} is no name of a channel"),
            });
        }
        let fresh = || {
            Arc::new(Channel::new(
                name.to_owned(),
                self.capacity,
                self.closed.clone(),
            ))
        };
        let mut channels = self
            .channels
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(channels
            .entry(name.to_owned())
            .or_insert_with(fresh)
            .clone())
    }
}

#[async_trait]
impl<T: Wire> Broker<T> for Queues<T> {
    fn max_message_bytes(&self) -> usize {
        usize::MAX
    }

    async fn prepare(&self, channel: &str, lease: Option<Duration>) -> Result<(), Error> {
        let channel = self.channel(channel)?;
        if let Some(lease) = lease {
            channel.set_lease(lease);
        }
        Ok(())
    }

    async fn lease(&self, channel: &str) -> Result<Duration, Error> {
        Ok(self.channel(channel)?.lease())
    }

    async fn submit(&self, messages: Vec<Arc<T>>) -> Vec<Result<(), Error>> {
        // Nothing else in here yields, and a task that submits in a loop must not keep a thread to itself.
        tokio::task::coop::consume_budget().await;
        let give_up = Instant::now() + self.patience;
        let mut results = Vec::with_capacity(messages.len());
        let mut last: Option<Arc<Channel<T>>> = None;
        for message in messages {
            let channel = match last.take() {
                Some(channel) if message.goes_to(channel.name()) => Ok(channel),
                _ => self.channel(&message.channel()),
            };
            results.push(match channel {
                Ok(channel) => last.insert(channel).put(message, give_up).await,
                Err(error) => Err(error),
            });
        }
        results
    }

    async fn dequeue(
        &self,
        channel: &str,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery<T>>, Error> {
        tokio::task::coop::consume_budget().await;
        self.channel(channel)?.take(max, wait).await
    }

    async fn set_paused(&self, channel: &str, paused: bool) -> Result<(), Error> {
        self.channel(channel)?.set_paused(paused);
        Ok(())
    }

    async fn depth(&self, channel: &str) -> Result<Depth, Error> {
        Ok(self.channel(channel)?.depth())
    }
}
