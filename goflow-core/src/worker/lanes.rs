//! Which lane of a queue is taken from first.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::ambient;
use crate::broker::{Broker, Delivery, Error};
use crate::name::QueueName;
use crate::priority::Priority;
use crate::task::TaskMessage;

/// How long a lane that was found empty is passed over while others have tasks.
const PASS_OVER: Duration = Duration::from_millis(50);

/// How a worker chooses among the priorities of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LaneOrder {
    /// The most urgent first, always: less urgent tasks may starve.
    #[default]
    Strict,
    /// The most urgent first most of the time: each priority comes first twice as often as the one below it, so
    /// that none starves.
    Weighted,
}

impl LaneOrder {
    /// The lanes in the order to be taken from now, with `chance` in `0.0..1.0` choosing the first.
    fn lanes(self, chance: f64) -> [Priority; 4] {
        let mut lanes = Priority::ALL;
        if self == Self::Weighted {
            // 8 : 4 : 2 : 1 of 15.
            let first = [8.0, 12.0, 14.0]
                .iter()
                .filter(|bound| chance * 15.0 >= **bound)
                .count();
            lanes[..=first].rotate_right(1);
        }
        lanes
    }
}

/// The lanes of a queue.
#[derive(Debug)]
pub(super) struct Lanes {
    names: [(Priority, String); 4],
    /// When each was last found empty.
    empty: Mutex<[Option<Instant>; 4]>,
    order: LaneOrder,
}

impl Lanes {
    pub(super) fn new(queue: &QueueName, order: LaneOrder) -> Self {
        let names = Priority::ALL.map(|priority| (priority, priority.lane(queue)));
        Self {
            names,
            empty: Mutex::default(),
            order,
        }
    }

    /// The channels.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|(_, name)| name.as_str())
    }

    fn name(&self, priority: Priority) -> &str {
        let found = self.names.iter().find(|(lane, _)| *lane == priority);
        found.map_or("", |(_, name)| name)
    }

    /// Takes up to `wanted` tasks of those that are there, urgent ones first. Quick; not to be dropped halfway,
    /// for what it has taken by then would be back only when its lease has expired.
    pub(super) async fn take(
        &self,
        broker: &dyn Broker<TaskMessage>,
        wanted: usize,
    ) -> Result<Vec<Delivery<TaskMessage>>, Error> {
        let mut taken = Vec::new();
        for lane in self.order.lanes(ambient::chance()) {
            if taken.len() == wanted || self.is_passed_over(lane) {
                continue;
            }
            match broker
                .dequeue(self.name(lane), wanted - taken.len(), Duration::ZERO)
                .await
            {
                Ok(more) => {
                    self.note(lane, more.is_empty());
                    taken.extend(more);
                }
                Err(error) if taken.is_empty() => return Err(error),
                // It will come again; what is in hand counts.
                Err(_) => break,
            }
        }
        Ok(taken)
    }

    /// Waits up to `wait` for tasks of any lane, and takes those of the first that has some. Cancel-safe, as
    /// [`Broker::dequeue`] is.
    pub(super) async fn wait(
        &self,
        broker: &dyn Broker<TaskMessage>,
        wanted: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery<TaskMessage>>, Error> {
        let dequeue =
            |lane| async move { (lane, broker.dequeue(self.name(lane), wanted, wait).await) };
        let mut waiting: FuturesUnordered<_> = Priority::ALL.into_iter().map(dequeue).collect();
        while let Some((lane, taken)) = waiting.next().await {
            let taken = taken?;
            if !taken.is_empty() {
                self.note(lane, false);
                return Ok(taken);
            }
        }
        Ok(Vec::new())
    }

    fn is_passed_over(&self, lane: Priority) -> bool {
        let empty = self.empty.lock().unwrap_or_else(PoisonError::into_inner);
        empty[usize::from(lane.get())].is_some_and(|found| found.elapsed() < PASS_OVER)
    }

    fn note(&self, lane: Priority, is_empty: bool) {
        let mut empty = self.empty.lock().unwrap_or_else(PoisonError::into_inner);
        empty[usize::from(lane.get())] = is_empty.then(Instant::now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(order: LaneOrder, chance: f64) -> Vec<u8> {
        order.lanes(chance).iter().map(|lane| lane.get()).collect()
    }

    #[test]
    fn strict_is_always_the_same() {
        assert_eq!(order(LaneOrder::Strict, 0.0), [3, 2, 1, 0]);
        assert_eq!(order(LaneOrder::Strict, 0.99), [3, 2, 1, 0]);
    }

    #[test]
    fn weighted_lets_every_lane_be_first() {
        assert_eq!(order(LaneOrder::Weighted, 0.0), [3, 2, 1, 0]);
        assert_eq!(order(LaneOrder::Weighted, 8.5 / 15.0), [2, 3, 1, 0]);
        assert_eq!(order(LaneOrder::Weighted, 12.5 / 15.0), [1, 3, 2, 0]);
        assert_eq!(order(LaneOrder::Weighted, 14.5 / 15.0), [0, 3, 2, 1]);
    }
}
