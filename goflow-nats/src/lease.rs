//! The hold on a delivery: answers to its reply subject.

use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Request, Subject};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;
use goflow_core::broker::{Error, Lease};
use tokio::time::Instant;

use crate::error::NoAnswer;
use crate::link::{DEADLINE, Link};

const ATTEMPT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(100);

const ACK: &[u8] = b"+ACK";

#[derive(Debug)]
pub(crate) struct NatsLease {
    link: Link,
    channel: Arc<str>,
    reply: Subject,
    lease: Duration,
    /// When the lease began, as far as we know: the server may have begun a little sooner.
    began: Mutex<Instant>,
    done: AtomicBool,
}

impl NatsLease {
    pub(crate) fn new(
        link: Link,
        channel: Arc<str>,
        reply: Subject,
        lease: Duration,
        began: Instant,
    ) -> Self {
        Self {
            link,
            channel,
            reply,
            lease,
            began: Mutex::new(began),
            done: AtomicBool::new(false),
        }
    }

    /// Until when it can be said that this delivery is ours; none if it cannot be any more. JetStream does not tell a
    /// late answer from a present one, so it must not be given.
    fn ours_until(&self) -> Option<Instant> {
        let began = *self.began.lock().unwrap_or_else(PoisonError::into_inner);
        let end = began + self.lease;
        (!self.done.load(Ordering::Acquire) && Instant::now() < end).then_some(end)
    }

    async fn answer(
        &self,
        operation: &'static str,
        answer: Bytes,
        deadline: Instant,
    ) -> Result<(), Error> {
        loop {
            self.link.open()?;
            if Instant::now() >= deadline {
                return Err(Error::unavailable(operation, "its time is over"));
            }
            let request = Request::new().payload(answer.clone());
            let attempt = deadline.min(Instant::now() + ATTEMPT);
            let failure = match self
                .link
                .request(self.reply.clone(), request, attempt)
                .await
            {
                Ok(_) => return Ok(()),
                Err(NoAnswer::NoResponders) => Error::unavailable(operation, "the queue is gone"),
                Err(error) => error.translate(operation, &self.reply),
            };
            if Instant::now() + PAUSE >= deadline {
                return Err(failure);
            }
            // A server that has just come back may not have its consumers yet.
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[async_trait]
impl Lease for NatsLease {
    async fn ack(&self) -> Result<(), Error> {
        if self.done.load(Ordering::Acquire) {
            return Ok(());
        }
        // Also when it is late: what was done is done, whoever has the message now.
        let deadline = Instant::now() + DEADLINE;
        self.answer("ack", Bytes::from_static(ACK), deadline)
            .await?;
        self.done.store(true, Ordering::Release);
        Ok(())
    }

    async fn nack(&self, delay: Duration) -> Result<(), Error> {
        let Some(end) = self.ours_until() else {
            return Ok(());
        };
        // The server's lease began a little sooner than ours. What is not put back by then comes back anyway.
        let deadline = (end - self.lease / 10).min(Instant::now() + ATTEMPT);
        self.answer("nack", nak(delay), deadline).await?;
        self.done.store(true, Ordering::Release);
        Ok(())
    }

    async fn extend(&self) -> Result<bool, Error> {
        let Some(end) = self.ours_until() else {
            return Ok(false);
        };
        let asked = Instant::now();
        self.answer(
            "extend",
            Bytes::from_static(b"+WPI"),
            end.min(asked + ATTEMPT),
        )
        .await?;
        *self.began.lock().unwrap_or_else(PoisonError::into_inner) = asked;
        Ok(true)
    }
}

/// Acknowledges them with a confirmation for each consumer: the server takes what comes over a connection in order,
/// and each consumer its acks, so that the last one speaks for all before it.
pub(crate) async fn ack_all(link: &Link, leases: &[Arc<dyn Lease>]) -> Result<(), Error> {
    let connection = link.connection();
    let mut last: HashMap<&str, &NatsLease> = HashMap::new();
    let mut spoken_for = Vec::with_capacity(leases.len());
    for lease in leases {
        let any: &dyn Any = lease.as_ref();
        let Some(lease) = any.downcast_ref::<NatsLease>() else {
            lease.ack().await?;
            continue;
        };
        if lease.done.load(Ordering::Acquire) {
            continue;
        }
        if let Some(before) = last.insert(&lease.channel, lease) {
            let ack = Bytes::from_static(ACK);
            link.publish("ack", before.reply.clone(), None, ack).await?;
            spoken_for.push(before);
        }
    }
    try_join_all(last.values().map(|lease| lease.ack())).await?;
    if link.connection() == connection {
        for lease in spoken_for {
            lease.done.store(true, Ordering::Release);
        }
        return Ok(());
    }
    // What the earlier connection had not sent yet went with it.
    try_join_all(spoken_for.iter().map(|lease| lease.ack())).await?;
    Ok(())
}

fn nak(delay: Duration) -> Bytes {
    if delay.is_zero() {
        return Bytes::from_static(b"-NAK");
    }
    Bytes::from(format!(r#"-NAK {{"delay": {}}}"#, delay.as_nanos()))
}

/// Puts back, unconfirmed, a message that nobody wanted in the end.
pub(crate) async fn give_back(link: &Link, reply: Subject) {
    if let Err(error) = link.publish("nack", reply, None, nak(Duration::ZERO)).await {
        tracing::debug!(%error, "a message comes back only when its lease has expired");
    }
}
