//! Messages of one kind: tasks or outcomes.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream;
use async_trait::async_trait;
use goflow_core::broker::{Broker, DEFAULT_LEASE, Delivery, Depth, Error, Lease, Wire};
use tokio::time::Instant;

use crate::api;
use crate::lease::{self, NatsLease};
use crate::link::{DEADLINE, Link, Owner};
use crate::publish::{self, Outgoing};
use crate::pull;
use crate::quarantine;
use crate::request;
use crate::topology::{self, Address, Prepared};

/// Room for the id of a message: a UUID and a number.
const ID_ROOM: usize = 48;

/// Room in a message for its headers.
const HEADER_ROOM: usize = 512;

/// The longest that is asked of the server at once.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// How long acks wait for others. One confirmation serves for many, and a server keeps the file of a stream that does not
/// become empty, which it otherwise removes and makes anew for each message.
const ACK_LINGER: Duration = Duration::from_millis(100);

/// JetStream pauses until a time. A later one would be more nanoseconds away than the server counts.
const FAR_FUTURE: &str = "2200-01-01T00:00:00Z";

/// The port for messages of type `T`.
pub(crate) struct NatsBroker<T> {
    link: Link,
    _owner: Arc<Owner>,
    /// Where a channel is.
    address: fn(&str) -> Result<Address, Error>,
    context: jetstream::Context,
    /// As they were when last looked at.
    leases: Mutex<HashMap<String, Duration>>,
    prepared: Prepared,
    messages: PhantomData<fn(T) -> T>,
}

impl<T> fmt::Debug for NatsBroker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsBroker")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

impl<T: Wire> NatsBroker<T> {
    pub(crate) fn new(
        link: Link,
        owner: Arc<Owner>,
        context: jetstream::Context,
        address: fn(&str) -> Result<Address, Error>,
    ) -> Self {
        Self {
            link,
            _owner: owner,
            address,
            context,
            leases: Mutex::default(),
            prepared: Prepared::default(),
            messages: PhantomData,
        }
    }

    fn note_lease(&self, channel: &str, lease: Duration) {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.insert(channel.to_owned(), lease);
    }

    fn noted_lease(&self, channel: &str) -> Option<Duration> {
        self.leases
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(channel)
            .copied()
    }

    /// A message as it goes out. `last` is where the one before went: most go to the same channel.
    fn outgoing(&self, message: &T, last: &mut Option<Arc<Address>>) -> Result<Outgoing, Error> {
        let address = match last {
            Some(last) if message.goes_to(&last.channel) => last.clone(),
            _ => {
                let address = (self.address)(&message.channel())?;
                last.insert(Arc::new(address)).clone()
            }
        };
        let payload = message.encode().map_err(|error| Error::Refused {
            reason: error.to_string(),
        })?;
        let (bytes, limit) = (payload.len(), self.max_message_bytes());
        if bytes > limit {
            return Err(Error::TooLarge { bytes, limit });
        }
        let mut id = String::with_capacity(ID_ROOM);
        // A string takes whatever comes.
        _ = write!(id, "{}", message.id());
        Ok(Outgoing {
            subject: address.subject(message.token()).into(),
            id,
            payload: payload.into(),
            address,
        })
    }

    /// The delivery, unless the message is set aside. `began` is when its lease did.
    fn deliver(
        &self,
        address: &Address,
        message: jetstream::Message,
        (lease, began): (Duration, Instant),
    ) -> Option<Delivery<T>> {
        let decoded = match T::decode(&message.payload) {
            Ok(decoded) => decoded,
            Err(reason) => {
                quarantine::quarantine(&self.link, address, message.message, lease, &reason);
                return None;
            }
        };
        let count = match message.info() {
            Ok(info) => u64::try_from(info.delivered).unwrap_or(1).max(1),
            Err(error) => {
                tracing::warn!(channel = %address.channel, %error, "a message without a delivery count");
                1
            }
        };
        let (link, channel) = (self.link.clone(), address.channel.clone());
        let lease = NatsLease::new(link, channel, message.message.reply?, lease, began);
        Some(Delivery {
            message: Arc::new(decoded),
            count,
            leased_at: began,
            lease: Arc::new(lease),
        })
    }
}

#[async_trait]
impl<T: Wire> Broker<T> for NatsBroker<T> {
    fn max_message_bytes(&self) -> usize {
        self.link.client().max_payload().saturating_sub(HEADER_ROOM)
    }

    async fn prepare(&self, channel: &str, lease: Option<Duration>) -> Result<(), Error> {
        self.link.open()?;
        let address = (self.address)(channel)?;
        let lease = topology::ensure_channel(&self.link, &self.prepared, &address, lease).await?;
        self.note_lease(channel, lease);
        Ok(())
    }

    async fn lease(&self, channel: &str) -> Result<Duration, Error> {
        self.link.open()?;
        let address = (self.address)(channel)?;
        let info = api::consumer_info(&self.link, &address.stream, &address.consumer).await;
        let lease = info
            .map_err(|failure| failure.translate("read the lease", channel))?
            .config
            .ack_wait;
        self.note_lease(channel, lease);
        Ok(lease)
    }

    async fn submit(&self, messages: Vec<Arc<T>>) -> Vec<Result<(), Error>> {
        if let Err(closed) = self.link.open() {
            return messages.iter().map(|_| Err(closed.clone())).collect();
        }
        let deadline = Instant::now() + DEADLINE;
        let mut last = None;
        let outgoing = |index: usize| self.outgoing(&messages[index], &mut last);
        publish::publish_all(&self.link, messages.len(), outgoing, deadline).await
    }

    async fn dequeue(
        &self,
        channel: &str,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery<T>>, Error> {
        self.link.open()?;
        if max == 0 {
            return Ok(Vec::new());
        }
        let address = (self.address)(channel)?;
        if self.noted_lease(channel).is_none() {
            self.lease(channel).await?;
        }
        let consumer = (address.stream.as_str(), address.consumer.as_str());
        let mut pulled =
            pull::pull(&self.link, consumer, channel, max, wait.min(LONGEST_WAIT)).await?;
        // Nothing waits from here on, so that a cancelled call cannot lose what it has taken.
        let lease = self.noted_lease(channel).unwrap_or(DEFAULT_LEASE);
        let began = pulled.leased_at;
        Ok(pulled
            .take()
            .into_iter()
            .filter_map(|message| {
                let context = self.context.clone();
                let message = jetstream::Message { message, context };
                self.deliver(&address, message, (lease, began))
            })
            .collect())
    }

    async fn ack_all(&self, leases: &[Arc<dyn Lease>]) -> Result<(), Error> {
        lease::ack_all(&self.link, leases).await
    }

    fn ack_linger(&self) -> Duration {
        ACK_LINGER
    }

    async fn set_paused(&self, channel: &str, paused: bool) -> Result<(), Error> {
        self.link.open()?;
        let address = (self.address)(channel)?;
        let until = paused.then_some(FAR_FUTURE);
        api::pause_consumer(&self.link, &address.stream, &address.consumer, until)
            .await
            .map_err(|failure| failure.translate("pause", channel))?;
        if !paused {
            let consumer = (address.stream.as_str(), address.consumer.as_str());
            request::nudge(&self.link, consumer).await?;
        }
        Ok(())
    }

    async fn depth(&self, channel: &str) -> Result<Depth, Error> {
        self.link.open()?;
        let address = (self.address)(channel)?;
        let info = api::consumer_info(&self.link, &address.stream, &address.consumer).await;
        let info = info.map_err(|failure| failure.translate("read the depth", channel))?;
        // A consumer knows the newest message only if it has delivered it.
        let submitted = if info.num_pending == 0 {
            info.delivered.stream_sequence
        } else {
            let stream = api::stream_info(&self.link, &address.stream).await;
            let stream = stream.map_err(|failure| failure.translate("read the depth", channel))?;
            stream.state.last_sequence
        };
        let all_settled = info.num_pending == 0 && info.num_ack_pending == 0;
        Ok(Depth {
            waiting: info.num_pending,
            leased: info.num_ack_pending as u64,
            submitted,
            settled: if all_settled {
                submitted
            } else {
                info.ack_floor.stream_sequence
            },
        })
    }
}
