//! Which lane of a queue is taken from first.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
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

    fn is_passed_over(&self, lane: Priority) -> bool {
        let empty = self.empty.lock().unwrap_or_else(PoisonError::into_inner);
        empty[usize::from(lane.get())].is_some_and(|found| found.elapsed() < PASS_OVER)
    }

    fn note(&self, lane: Priority, is_empty: bool) {
        let mut empty = self.empty.lock().unwrap_or_else(PoisonError::into_inner);
        empty[usize::from(lane.get())] = is_empty.then(Instant::now);
    }
}

type Taken = Vec<Delivery<TaskMessage>>;

/// Takes from the lanes of a queue. Waits for lanes that are empty go on while others are taken from: to begin and to
/// end them for every task would cost more than the task.
pub(super) struct Taker<'a, Hold> {
    lanes: &'a Lanes,
    broker: &'a dyn Broker<TaskMessage>,
    /// Called with each delivery the moment it comes: its lease is renewed from then on, however long the other lanes
    /// take to answer.
    hold: Hold,
    waits: FuturesUnordered<BoxFuture<'a, Ended>>,
    /// How many tasks are waited for, by lane.
    waited_for: [usize; 4],
    /// The lane that had the latest task: it is likely to have the next one.
    latest: Option<Priority>,
    /// The lane whose wait has just brought less than was asked for: it had no more then.
    drained: Option<Priority>,
}

/// A wait that has ended.
struct Ended {
    lane: Priority,
    asked: usize,
    taken: Result<Taken, Error>,
}

impl<'a, Hold, Held> Taker<'a, Hold>
where
    Hold: Fn(Delivery<TaskMessage>) -> Held,
{
    pub(super) fn new(lanes: &'a Lanes, broker: &'a dyn Broker<TaskMessage>, hold: Hold) -> Self {
        Self {
            lanes,
            broker,
            hold,
            waits: FuturesUnordered::new(),
            waited_for: [0; 4],
            latest: None,
            drained: None,
        }
    }

    /// Takes up to `wanted` tasks of those that are there, urgent ones first; some more if waits have ended with them.
    /// Quick; not to be dropped halfway, for what it has taken by then would be back only when its lease has expired.
    pub(super) async fn take(&mut self, wanted: usize) -> Result<Vec<Held>, Error> {
        let mut taken = Vec::new();
        while let Some(Some(ended)) = self.waits.next().now_or_never() {
            match self.ended(ended) {
                Ok(more) => taken.extend(more),
                Err(error) if taken.is_empty() => return Err(error),
                Err(_) => return Ok(taken),
            }
        }
        // They may bring as many.
        if wanted < taken.len() + self.waited_for.iter().sum::<usize>() {
            self.withdraw();
        }
        let lanes = self.lanes.order.lanes(ambient::chance());
        // While tasks come one by one, the next wait finds what little may have come since.
        if let Some(drained) = self.drained.take()
            && lanes
                .iter()
                .all(|lane| *lane == drained || !self.may_ask(*lane))
        {
            return Ok(taken);
        }
        for lane in lanes {
            if taken.len() >= wanted || !self.may_ask(lane) {
                continue;
            }
            let name = self.lanes.name(lane);
            let mut dequeued = self
                .broker
                .dequeue(name, wanted - taken.len(), Duration::ZERO);
            let more = loop {
                let ended = tokio::select! {
                    biased;
                    more = &mut dequeued => break more,
                    Some(ended) = self.waits.next() => ended,
                };
                // An error will come again.
                taken.extend(self.ended(ended).into_iter().flatten());
            };
            match more {
                Ok(more) => {
                    self.lanes.note(lane, more.is_empty());
                    if !more.is_empty() {
                        self.latest = Some(lane);
                    }
                    taken.extend(more.into_iter().map(&self.hold));
                }
                Err(error) if taken.is_empty() => return Err(error),
                // It will come again; what is in hand counts.
                Err(_) => break,
            }
        }
        Ok(taken)
    }

    /// Whether a lane may have tasks that nobody waits for.
    fn may_ask(&self, lane: Priority) -> bool {
        self.waited_for[usize::from(lane.get())] == 0 && !self.lanes.is_passed_over(lane)
    }

    /// Waits for a task of any lane; of the lane that had the latest one for two, if so many are wanted: when there are
    /// two there may be more. None when the wait for a lane has ended without, after `wait` at most. Cancel-safe, as
    /// [`Broker::dequeue`] is.
    pub(super) async fn wait(&mut self, wanted: usize, wait: Duration) -> Result<Vec<Held>, Error> {
        let (lanes, broker) = (self.lanes, self.broker);
        for lane in Priority::ALL {
            let waits = &mut self.waited_for[usize::from(lane.get())];
            if *waits > 0 {
                continue;
            }
            let two = self.latest == Some(lane) && wanted > Priority::ALL.len();
            let asked = 1 + usize::from(two);
            *waits = asked;
            let dequeued = async move {
                let taken = broker.dequeue(lanes.name(lane), asked, wait).await;
                Ended { lane, asked, taken }
            };
            self.waits.push(dequeued.boxed());
        }
        match self.waits.next().await {
            Some(ended) => self.ended(ended),
            None => Ok(Vec::new()),
        }
    }

    /// Ends all waits: what is under way to one goes back to the queue.
    pub(super) fn withdraw(&mut self) {
        self.waits.clear();
        self.waited_for = [0; 4];
    }

    fn ended(&mut self, ended: Ended) -> Result<Vec<Held>, Error> {
        let Ended { lane, asked, taken } = ended;
        self.waited_for[usize::from(lane.get())] = 0;
        let taken = taken?;
        if !taken.is_empty() {
            self.latest = Some(lane);
            self.lanes.note(lane, false);
            self.drained = (taken.len() < asked).then_some(lane);
        }
        Ok(taken.into_iter().map(&self.hold).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::broker::{Connection, memory};
    use crate::id::{Route, StoreId};
    use crate::task::Task;

    async fn submit(broker: &Connection, priority: u8) {
        let task = Task::json("t", &priority).unwrap();
        let message = TaskMessage {
            spec: task.priority(priority.try_into().unwrap()).spec,
            attempt: 1,
            dispatch: 1,
            route: Route::of_store(StoreId(Uuid::nil()), false),
            recorded: true,
        };
        broker
            .tasks
            .submit(vec![message.into()])
            .await
            .remove(0)
            .unwrap();
    }

    fn priorities(taken: &[Delivery<TaskMessage>]) -> Vec<u8> {
        let of = |delivery: &Delivery<TaskMessage>| delivery.message.spec.priority.get();
        taken.iter().map(of).collect()
    }

    /// A wait for one lane outlives tasks of another, and ends with the first task of its own.
    #[tokio::test(start_paused = true)]
    async fn waits_go_on_while_others_are_taken_from() {
        let broker = memory::connect(memory::Options::default());
        let lanes = Lanes::new(&QueueName::default(), LaneOrder::Strict);
        let mut taker = Taker::new(&lanes, broker.tasks.as_ref(), |delivery| delivery);
        assert!(taker.take(10).await.unwrap().is_empty());
        let arrives = async {
            tokio::task::yield_now().await;
            submit(&broker, 1).await;
            submit(&broker, 1).await;
        };
        let (taken, ()) = tokio::join!(taker.wait(10, DAY), arrives);
        assert_eq!(priorities(&taken.unwrap()), [1], "one ends a wait");
        assert_eq!(taker.waited_for, [1, 0, 1, 1]);
        assert_eq!(priorities(&taker.take(10).await.unwrap()), [1]);
        submit(&broker, 0).await;
        submit(&broker, 3).await;
        submit(&broker, 3).await;
        // Two by the waits that have ended with them, then what is left of the most urgent.
        assert_eq!(priorities(&taker.take(10).await.unwrap()).len(), 3);
        assert_eq!(taker.waited_for, [0, 0, 1, 0]);
    }

    /// Answers the most urgent lane's requests that do not wait when it is told to.
    #[derive(Debug)]
    struct Hesitant(Connection, tokio::sync::Notify);

    #[async_trait::async_trait]
    impl Broker<TaskMessage> for Hesitant {
        fn max_message_bytes(&self) -> usize {
            self.0.tasks.max_message_bytes()
        }

        async fn prepare(&self, channel: &str, lease: Option<Duration>) -> Result<(), Error> {
            self.0.tasks.prepare(channel, lease).await
        }

        async fn lease(&self, channel: &str) -> Result<Duration, Error> {
            self.0.tasks.lease(channel).await
        }

        async fn submit(&self, messages: Vec<Arc<TaskMessage>>) -> Vec<Result<(), Error>> {
            self.0.tasks.submit(messages).await
        }

        async fn dequeue(&self, channel: &str, max: usize, wait: Duration) -> Result<Taken, Error> {
            if channel.ends_with('3') && wait.is_zero() {
                self.1.notified().await;
            }
            self.0.tasks.dequeue(channel, max, wait).await
        }

        async fn set_paused(&self, channel: &str, paused: bool) -> Result<(), Error> {
            self.0.tasks.set_paused(channel, paused).await
        }

        async fn depth(&self, channel: &str) -> Result<crate::broker::Depth, Error> {
            self.0.tasks.depth(channel).await
        }
    }

    /// A lease is renewed from the moment its task comes, not from when all lanes have answered.
    #[tokio::test(start_paused = true)]
    async fn what_comes_is_held_while_a_lane_hesitates() {
        let broker = memory::connect(memory::Options::default());
        let hesitant = Hesitant(broker.clone(), tokio::sync::Notify::new());
        let lanes = Lanes::new(&QueueName::default(), LaneOrder::Strict);
        let held = std::cell::Cell::new(0);
        let mut taker = Taker::new(&lanes, &hesitant, |_| held.set(held.get() + 1));
        // Waits for all lanes; the most urgent one's ends, so that it is asked what else there is.
        submit(&broker, 3).await;
        assert_eq!(taker.wait(10, DAY).await.unwrap().len(), 1);
        let others = async {
            submit(&broker, 1).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(held.get(), 2, "while the lane hesitates");
            hesitant.1.notify_one();
        };
        let (taken, ()) = tokio::join!(taker.take(10), others);
        assert_eq!((taken.unwrap().len(), held.get()), (1, 2));
    }

    /// A lane that had no more a moment ago is not asked again before it is waited for.
    #[tokio::test(start_paused = true)]
    async fn a_drained_lane_is_waited_for_at_once() {
        let broker = memory::connect(memory::Options::default());
        // Nobody tells its most urgent lane to answer.
        let hesitant = Hesitant(broker.clone(), tokio::sync::Notify::new());
        let lanes = Lanes::new(&QueueName::default(), LaneOrder::Strict);
        let mut taker = Taker::new(&lanes, &hesitant, |delivery| delivery);
        submit(&broker, 3).await;
        assert_eq!(priorities(&taker.wait(10, DAY).await.unwrap()), [3]);
        let arrives = async {
            tokio::task::yield_now().await;
            submit(&broker, 3).await;
        };
        let (taken, ()) = tokio::join!(taker.wait(10, DAY), arrives);
        assert_eq!(
            priorities(&taken.unwrap()),
            [3],
            "of two that were asked for"
        );
        let more = tokio::time::timeout(Duration::from_secs(1), taker.take(10)).await;
        assert!(more.expect("no lane is asked").unwrap().is_empty());
        assert_eq!(taker.waited_for, [1, 1, 1, 0]);
        let asked = tokio::time::timeout(Duration::from_secs(1), taker.take(10)).await;
        assert!(asked.is_err(), "the next time it is");
    }

    /// Who has no use for more leaves them to others.
    #[tokio::test(start_paused = true)]
    async fn what_is_not_wanted_goes_back() {
        let broker = memory::connect(memory::Options::default());
        let lanes = Lanes::new(&QueueName::default(), LaneOrder::Strict);
        let mut taker = Taker::new(&lanes, broker.tasks.as_ref(), |delivery| delivery);
        let waited = tokio::time::timeout(Duration::from_millis(1), taker.wait(10, DAY)).await;
        assert!(waited.is_err() && taker.waits.len() == 4);
        assert!(taker.take(3).await.unwrap().is_empty());
        assert_eq!(taker.waits.len(), 0, "four may bring more than three");
        submit(&broker, 2).await;
        let lanes = Lanes::new(&QueueName::default(), LaneOrder::Strict);
        let mut other = Taker::new(&lanes, broker.tasks.as_ref(), |delivery| delivery);
        assert_eq!(priorities(&other.take(1).await.unwrap()), [2]);
    }

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

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
