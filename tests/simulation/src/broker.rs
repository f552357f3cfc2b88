//! The broker port as an actor sees it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use goflow_core::TaskMessage;
use goflow_core::broker::{Broker, Connection, Delivery, Depth, Error, Wire};
use goflow_core::outcome::OutcomeBatch;
use tokio::time::Instant;

use crate::control::GatedControl;
use crate::gate::{Away, Gate};
use crate::lease::{GatedLease, NoLease};
use crate::plan::{Op, What};
use crate::server::seen_from_afar;

/// How long an engine may hold outcomes before another one gets them.
const RESULTS_LEASE: Duration = Duration::from_secs(3);

/// How long acks wait for others, as over NATS.
const ACK_LINGER: Duration = Duration::from_millis(100);

/// The connection of one life of an actor.
pub(crate) fn connect(gate: &Gate) -> Connection {
    Connection {
        tasks: Arc::new(GatedBroker::<TaskMessage> {
            gate: gate.clone(),
            side: |connection| connection.tasks,
            lease: None,
            ops: Ops {
                submit: Op::Submit,
                dequeue: Op::Dequeue,
                ack: Op::Ack,
            },
            again: Mutex::default(),
        }),
        results: Arc::new(GatedBroker::<OutcomeBatch> {
            gate: gate.clone(),
            side: |connection| connection.results,
            lease: Some(RESULTS_LEASE),
            ops: Ops {
                submit: Op::SubmitOutcomes,
                dequeue: Op::DequeueOutcomes,
                ack: Op::AckOutcomes,
            },
            again: Mutex::default(),
        }),
        control: Arc::new(GatedControl(gate.clone())),
    }
}

/// A broker behind a gate.
struct GatedBroker<T: Wire> {
    gate: Gate,
    side: fn(Connection) -> Arc<dyn Broker<T>>,
    /// The lease of channels that nobody asked another for.
    lease: Option<Duration>,
    ops: Ops,
    again: Mutex<Vec<Again<T>>>,
}

/// A message that is to be delivered once too often.
struct Again<T> {
    channel: String,
    message: Arc<T>,
    count: u64,
}

#[derive(Debug, Clone, Copy)]
struct Ops {
    submit: Op,
    dequeue: Op,
    ack: Op,
}

impl<T: Wire> fmt::Debug for GatedBroker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatedBroker")
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}

impl<T: Wire> GatedBroker<T> {
    fn channel(&self, name: &str) -> Result<Arc<dyn Broker<T>>, Error> {
        self.gate.world.broker.channel(name).map(self.side)
    }

    fn again(&self) -> MutexGuard<'_, Vec<Again<T>>> {
        self.again.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_again(&self, channel: &str) -> Option<Delivery<T>> {
        let mut again = self.again();
        let at = again.iter().position(|again| again.channel == channel)?;
        let Again { message, count, .. } = again.remove(at);
        Some(Delivery {
            message,
            count,
            leased_at: Instant::now(),
            lease: Arc::new(NoLease),
        })
    }

    fn deliver(&self, delivery: Delivery<T>) -> Delivery<T> {
        let lease = GatedLease {
            gate: self.gate.clone(),
            ack: self.ops.ack,
            inner: delivery.lease,
        };
        Delivery {
            lease: Arc::new(lease),
            ..delivery
        }
    }
}

#[async_trait]
impl<T: Wire> Broker<T> for GatedBroker<T> {
    fn max_message_bytes(&self) -> usize {
        1024 * 1024
    }

    async fn prepare(&self, channel: &str, lease: Option<Duration>) -> Result<(), Error> {
        let prepare = async {
            let server = &self.gate.world.broker;
            (self.side)(server.connection())
                .prepare(channel, lease.or(self.lease))
                .await?;
            server.make(channel);
            Ok(())
        };
        self.gate.call(Op::Prepare, prepare).await
    }

    async fn lease(&self, channel: &str) -> Result<Duration, Error> {
        let lease = async { self.channel(channel)?.lease(channel).await };
        self.gate.call(Op::OtherOfBroker, lease).await
    }

    async fn submit(&self, messages: Vec<Arc<T>>) -> Vec<Result<(), Error>> {
        let count = messages.len();
        let submit = async {
            let mut results = Vec::with_capacity(count);
            for message in messages {
                results.push(match self.channel(&message.channel()) {
                    Ok(broker) => {
                        let mut submitted = broker.submit(vec![message]).await;
                        submitted
                            .pop()
                            .unwrap_or_else(|| Err(Error::away()))
                            .map_err(seen_from_afar)
                    }
                    Err(error) => Err(error),
                });
            }
            Ok(results)
        };
        let submitted: Result<_, Error> = self.gate.call(self.ops.submit, submit).await;
        submitted.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn dequeue(
        &self,
        channel: &str,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery<T>>, Error> {
        let dequeue = async {
            if max > 0
                && let Some(again) = self.take_again(channel)
            {
                return Ok(vec![again]);
            }
            let broker = self.channel(channel)?;
            broker
                .dequeue(channel, max, wait)
                .await
                .map_err(seen_from_afar)
        };
        let (mut taken, what) = self.gate.deliveries(self.ops.dequeue, dequeue).await?;
        match what {
            Some(What::Twice) => self.again().extend(taken.iter().map(|delivery| Again {
                channel: channel.to_owned(),
                message: delivery.message.clone(),
                count: delivery.count + 1,
            })),
            Some(What::Reversed) => taken.reverse(),
            _ => {}
        }
        Ok(taken
            .into_iter()
            .map(|delivery| self.deliver(delivery))
            .collect())
    }

    fn ack_linger(&self) -> Duration {
        ACK_LINGER
    }

    async fn set_paused(&self, channel: &str, paused: bool) -> Result<(), Error> {
        let pause = async { self.channel(channel)?.set_paused(channel, paused).await };
        self.gate.call(Op::OtherOfBroker, pause).await
    }

    async fn depth(&self, channel: &str) -> Result<Depth, Error> {
        let depth = async { self.channel(channel)?.depth(channel).await };
        self.gate.call(Op::Depth, depth).await
    }
}
