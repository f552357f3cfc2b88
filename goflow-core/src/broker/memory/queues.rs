//! The channels of one kind of message.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use async_trait::async_trait;
use foldhash::HashMap;
use tokio::time::Instant;

use super::channel::{Channel, Hold, Messages};
use crate::broker::{AtOnce, Broker, Delivery, Depth, Error, Lease, Wire};
use crate::stop::Stop;

/// A broker of `T`: channels by name.
pub(super) struct Queues<T: Wire> {
    channels: RwLock<HashMap<String, Arc<Channel<T>>>>,
    /// The one that messages were put into last: the next ones mostly go there, too.
    recent: RwLock<Option<Arc<Channel<T>>>>,
    capacity: usize,
    /// How long a submit waits for room in a full channel.
    patience: Duration,
    /// Whether this is a name for a channel.
    is_name: fn(&str) -> bool,
    closed: Stop,
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
        closed: Stop,
    ) -> Self {
        Self {
            channels: RwLock::default(),
            recent: RwLock::default(),
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

    /// The channel that messages were put into last, if a message goes there, too.
    fn recent(&self, message: &T) -> Option<RwLockReadGuard<'_, Option<Arc<Channel<T>>>>> {
        let recent = self.recent.read().unwrap_or_else(PoisonError::into_inner);
        let goes_there = recent.as_ref().is_some_and(|it| message.goes_to(it.name()));
        (goes_there && !self.closed.is_cancelled()).then_some(recent)
    }

    /// The channel that a message goes to.
    fn channel_of(&self, message: &T) -> Result<Arc<Channel<T>>, Error> {
        let recent = self.recent(message).and_then(|recent| recent.clone());
        recent.map_or_else(|| self.turn_to(message), Ok)
    }

    /// The channel that a message goes to: the recent one from now on.
    fn turn_to(&self, message: &T) -> Result<Arc<Channel<T>>, Error> {
        let channel = self.channel(&message.channel())?;
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        *recent = Some(channel.clone());
        Ok(channel)
    }

    /// Puts the first of these in, in their order, as far as there is room; gives the channel that is full for the next one.
    fn put_what_fits(
        &self,
        messages: &mut Messages<T>,
        results: &mut Vec<Result<(), Error>>,
    ) -> Option<Arc<Channel<T>>> {
        while let Some(next) = messages.peek() {
            match self.channel_of(next) {
                Ok(channel) => {
                    channel.put_what_fits(messages, results);
                    if messages
                        .peek()
                        .is_some_and(|next| next.goes_to(channel.name()))
                    {
                        return Some(channel);
                    }
                }
                Err(error) => {
                    messages.next();
                    results.push(Err(error));
                }
            }
        }
        None
    }

    /// Puts all of these in, the first of which goes to a full channel, as soon as there is room.
    async fn put_rest(
        &self,
        full: Arc<Channel<T>>,
        mut messages: Messages<T>,
        results: &mut Vec<Result<(), Error>>,
    ) {
        let give_up = Instant::now() + self.patience;
        let mut full = Some(full);
        while let Some(channel) = full {
            if let Err(error) = channel.wait_for_room(give_up).await {
                // The next one is given up; those behind it may be repetitions, which need no room.
                messages.next();
                results.push(Err(error));
            }
            full = self.put_what_fits(&mut messages, results);
        }
    }
}

impl<T: Wire> AtOnce<T> for Queues<T> {
    fn submit_one(&self, message: T) -> Result<(), Error> {
        // The channel is used where it is: to count who holds it is what all threads would contend for.
        if let Some(recent) = self.recent(&message)
            && let Some(channel) = recent.as_ref()
        {
            return channel.put(message);
        }
        self.turn_to(&message)?.put(message)
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
        let mut results = Vec::with_capacity(messages.len());
        let mut messages = messages.into_iter().peekable();
        if let Some(full) = self.put_what_fits(&mut messages, &mut results) {
            // Not in place: it is large, and most of the time there is room.
            Box::pin(self.put_rest(full, messages, &mut results)).await;
        }
        results
    }

    fn at_once(&self) -> Option<&dyn AtOnce<T>> {
        Some(self)
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

    async fn ack_all(&self, leases: &[Arc<dyn Lease>]) -> Result<(), Error> {
        let channel =
            |lease: &Arc<dyn Lease>| Hold::<T>::of(lease).map(|hold| Arc::as_ptr(&hold.channel));
        for leases in leases.chunk_by(|a, b| channel(a) == channel(b)) {
            let holds = || leases.iter().filter_map(Hold::<T>::of);
            if let Some(first) = holds().next() {
                first.channel.ack(holds().map(|hold| hold.token))?;
            }
        }
        Ok(())
    }

    async fn set_paused(&self, channel: &str, paused: bool) -> Result<(), Error> {
        self.channel(channel)?.set_paused(paused);
        Ok(())
    }

    async fn depth(&self, channel: &str) -> Result<Depth, Error> {
        Ok(self.channel(channel)?.depth())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::content::Content;
    use crate::id::{Route, StoreId};
    use crate::task::{Task, TaskMessage};

    const WAIT: Duration = Duration::ZERO;

    fn queues(capacity: usize) -> (Queues<TaskMessage>, Stop) {
        let closed = Stop::default();
        let queues = Queues::new(capacity, WAIT, |name| name != "bad.1", closed.clone());
        (queues, closed)
    }

    fn message(queue: &str) -> TaskMessage {
        let task = Task::new("t", Content::binary("x")).unwrap();
        TaskMessage {
            spec: task.queue(queue).unwrap().spec,
            attempt: 1,
            dispatch: 1,
            route: Route::of_store(StoreId(Uuid::nil()), false),
            recorded: true,
        }
    }

    /// One that is handed over by itself is delivered, given back, known and acknowledged as any other.
    #[tokio::test]
    async fn one_message_is_as_good_as_many() {
        let (queues, _) = queues(2);
        let one = message("a");
        queues.submit_one(one.clone()).unwrap();
        queues.submit_one(one.clone()).unwrap();
        let again = queues.submit(vec![Arc::new(one.clone())]).await;
        assert!(matches!(again[..], [Ok(())]));
        assert_eq!(queues.depth("a.1").await.unwrap().waiting, 1);
        for count in [1, 2] {
            let taken = queues.dequeue("a.1", 2, WAIT).await.unwrap();
            let [delivery] = &taken[..] else {
                panic!("{taken:?}")
            };
            assert_eq!((&*delivery.message, delivery.count), (&one, count));
            queues.submit_one(one.clone()).unwrap();
            match count {
                1 => delivery.lease.nack(WAIT).await.unwrap(),
                _ => delivery.lease.ack().await.unwrap(),
            }
        }
        assert!(queues.depth("a.1").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn one_message_is_refused_where_there_is_no_place_for_it() {
        let (queues, closed) = queues(1);
        for queue in ["a", "b"] {
            queues.submit_one(message(queue)).unwrap();
            let depth = queues.depth(&format!("{queue}.1")).await.unwrap();
            assert_eq!(depth.waiting, 1, "in the channel of its queue");
        }
        let refused = queues.submit_one(message("a"));
        assert!(matches!(refused, Err(Error::Full { .. })));
        let refused = queues.submit_one(message("bad"));
        assert!(matches!(refused, Err(Error::Refused { .. })));
        closed.cancel();
        let refused = queues.submit_one(message("a"));
        assert!(matches!(refused, Err(Error::Closed)));
    }
}
