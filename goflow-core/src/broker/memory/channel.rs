//! One channel: messages that wait, messages that are held, and the times at which the held ones come back.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::iter::Peekable;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::vec;

use async_trait::async_trait;
use foldhash::{HashMap, HashSet};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::returns::Returns;
use crate::broker::{DEFAULT_LEASE, Delivery, Depth, Error, Lease, MIN_LEASE, Wire};
use crate::stop::Stop;

/// As good as never, yet safe to add to any instant.
const AGES: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Messages on their way in.
pub(super) type Messages<T> = Peekable<vec::IntoIter<Arc<T>>>;

pub(super) struct Channel<T: Wire> {
    name: String,
    capacity: usize,
    state: Mutex<State<T>>,
    /// One permit means: something is ready, or comes back sooner than whoever sleeps may know.
    /// Whoever stops waiting hands the permit on, so that a cancelled waiter takes no wake-up with it.
    wake: Notify,
    room: Notify,
    closed: Stop,
}

struct State<T: Wire> {
    lease: Duration,
    paused: bool,
    ready: VecDeque<Entry<Message<T>, T::Id>>,
    /// Leased, or put back for later, by the token of the delivery that did it.
    held: HashMap<u64, Held<T>>,
    /// When each of `held` comes back.
    returns: Returns,
    /// Of everything in `ready` and `held`.
    ids: HashSet<T::Id>,
    leased: usize,
    next_token: u64,
    /// Messages put in so far.
    submitted: u64,
}

struct Entry<M, Id> {
    message: M,
    id: Id,
    deliveries: u64,
    position: u64,
}

/// A message that waits. One that was handed over by itself is shared when it is taken, by whoever takes it: what one thread
/// makes and another one frees costs both.
enum Message<T> {
    Own(T),
    Shared(Arc<T>),
}

impl<T> Message<T> {
    fn share(self) -> Arc<T> {
        match self {
            Self::Own(message) => Arc::new(message),
            Self::Shared(message) => message,
        }
    }
}

impl<T: Wire> Message<T> {
    fn id(&self) -> T::Id {
        match self {
            Self::Own(message) => message.id(),
            Self::Shared(message) => message.id(),
        }
    }
}

impl<M, Id> Entry<M, Id> {
    fn map<N>(self, message: impl FnOnce(M) -> N) -> Entry<N, Id> {
        Entry {
            message: message(self.message),
            id: self.id,
            deliveries: self.deliveries,
            position: self.position,
        }
    }
}

struct Held<T: Wire> {
    entry: Entry<Arc<T>, T::Id>,
    due: Instant,
    leased: bool,
}

/// Whether this is when that message comes back; not if it is held no more, or its lease began anew since.
fn counts<T: Wire>(held: &HashMap<u64, Held<T>>) -> impl Fn(Instant, u64) -> bool {
    |due, token| held.get(&token).is_some_and(|held| held.due == due)
}

impl<T: Wire> State<T> {
    /// Whether a message may come in; one that is there already needs no room.
    fn has_room_for(&self, message: &T, capacity: usize) -> bool {
        self.ids.len() < capacity || self.ids.contains(&message.id())
    }

    /// Takes a message in, unless it is there.
    fn put(&mut self, message: Message<T>) {
        let id = message.id();
        if !self.ids.insert(id) {
            return;
        }
        self.submitted += 1;
        self.ready.push_back(Entry {
            message,
            id,
            deliveries: 0,
            position: self.submitted,
        });
    }

    fn hold(&mut self, entry: Entry<Arc<T>, T::Id>, due: Instant, leased: bool) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        self.held.insert(token, Held { entry, due, leased });
        self.leased += usize::from(leased);
        self.returns_at(due, token);
        token
    }

    fn returns_at(&mut self, due: Instant, token: u64) {
        let held = &self.held;
        self.returns.add(due, token, held.len(), counts(held));
    }

    fn release(&mut self, token: u64) -> Option<Entry<Arc<T>, T::Id>> {
        let held = self.held.remove(&token)?;
        self.leased -= usize::from(held.leased);
        Some(held.entry)
    }

    /// Has a message that was held delivered next.
    fn give_back(&mut self, entry: Entry<Arc<T>, T::Id>) {
        let entry = entry.map(Message::Shared);
        self.ready.push_front(entry);
    }

    /// Everything whose time has come is ready again, before what never had its turn.
    fn revive(&mut self, now: Instant) {
        while let Some((due, token)) = self.returns.next(counts(&self.held))
            && due <= now
        {
            if let Some(entry) = self.release(token) {
                self.give_back(entry);
            }
        }
    }

    fn next_due(&mut self) -> Option<Instant> {
        self.returns.next(counts(&self.held)).map(|(due, _)| due)
    }

    /// The position of the oldest message. What was never delivered is in order, behind what came back.
    fn oldest(&self) -> Option<u64> {
        let came_back = self.ready.iter().take_while(|entry| entry.deliveries > 0);
        let never = self.ready.iter().find(|entry| entry.deliveries == 0);
        let ready = came_back.chain(never).map(|entry| entry.position);
        let held = self.held.values().map(|held| held.entry.position);
        ready.chain(held).min()
    }
}

impl<T: Wire> Channel<T> {
    pub(super) fn new(name: String, capacity: usize, closed: Stop) -> Self {
        let state = State {
            lease: DEFAULT_LEASE,
            paused: false,
            ready: VecDeque::new(),
            held: HashMap::default(),
            returns: Returns::default(),
            ids: HashSet::default(),
            leased: 0,
            next_token: 0,
            submitted: 0,
        };
        Self {
            name,
            capacity,
            state: Mutex::new(state),
            wake: Notify::new(),
            room: Notify::new(),
            closed,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lease(&self) -> Duration {
        self.state().lease
    }

    pub(super) fn set_lease(&self, lease: Duration) {
        self.state().lease = lease.clamp(MIN_LEASE, AGES);
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.state().paused = paused;
        self.wake.notify_one();
    }

    pub(super) fn depth(&self) -> Depth {
        let mut state = self.state();
        state.revive(Instant::now());
        let waiting = state.ready.len() + state.held.len() - state.leased;
        Depth {
            waiting: waiting as u64,
            leased: state.leased as u64,
            submitted: state.submitted,
            settled: state.oldest().map_or(state.submitted, |oldest| oldest - 1),
        }
    }

    /// Puts a message in, if there is room.
    pub(super) fn put(&self, message: T) -> Result<(), Error> {
        let mut state = self.state();
        if !state.has_room_for(&message, self.capacity) {
            return Err(self.full());
        }
        state.put(Message::Own(message));
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    fn full(&self) -> Error {
        Error::Full {
            channel: self.name.clone(),
        }
    }

    /// Puts the first of these in, in their order, as far as they go here and there is room.
    pub(super) fn put_what_fits(
        &self,
        messages: &mut Messages<T>,
        results: &mut Vec<Result<(), Error>>,
    ) {
        let mut state = self.state();
        let fits = |state: &State<T>, message: &T| {
            message.goes_to(&self.name) && state.has_room_for(message, self.capacity)
        };
        while let Some(message) = messages.next_if(|message| fits(&state, message)) {
            state.put(Message::Shared(message));
            results.push(Ok(()));
        }
        let more_room = state.ids.len() < self.capacity;
        drop(state);
        self.wake.notify_one();
        if more_room {
            self.room.notify_one();
        }
    }

    /// Waits until there may be room, or says why a message has to be given up.
    pub(super) async fn wait_for_room(&self, give_up: Instant) -> Result<(), Error> {
        if self.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        if Instant::now() >= give_up {
            return Err(self.full());
        }
        tokio::select! {
            biased;
            () = self.closed.cancelled() => Err(Error::Closed),
            () = self.room.notified() => Ok(()),
            () = tokio::time::sleep_until(give_up) => Err(self.full()),
        }
    }

    /// Takes up to `max` messages, waiting up to `wait` for the first.
    pub(super) async fn take(
        self: &Arc<Self>,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Delivery<T>>, Error> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let mut taken = self.take_ready(max);
        if taken.is_empty() && !wait.is_zero() {
            let give_up = Instant::now() + wait.min(AGES);
            let _baton = Baton(&self.wake);
            while taken.is_empty() {
                let next_due = self
                    .state()
                    .next_due()
                    .map_or(give_up, |due| due.min(give_up));
                tokio::select! {
                    biased;
                    () = self.closed.cancelled() => return Err(Error::Closed),
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep_until(next_due) => {}
                }
                taken = self.take_ready(max);
                if Instant::now() >= give_up {
                    break;
                }
            }
        }
        Ok(taken)
    }

    fn take_ready(self: &Arc<Self>, max: usize) -> Vec<Delivery<T>> {
        let now = Instant::now();
        let mut state = self.state();
        state.revive(now);
        let due_before = state.next_due();
        let until = now + state.lease;
        let n = if state.paused {
            0
        } else {
            max.min(state.ready.len())
        };
        let mut taken = Vec::with_capacity(n);
        for _ in 0..n {
            let Some(entry) = state.ready.pop_front() else {
                break;
            };
            let mut entry = entry.map(Message::share);
            entry.deliveries += 1;
            let (message, count) = (entry.message.clone(), entry.deliveries);
            let lease = Hold {
                channel: self.clone(),
                token: state.hold(entry, until, true),
            };
            taken.push(Delivery {
                message,
                count,
                leased_at: now,
                lease: Arc::new(lease),
            });
        }
        let sooner = !taken.is_empty() && due_before.is_none_or(|before| until < before);
        // While it is paused a permit would only wake those who can take nothing, again and again.
        let others_should_look = sooner || (!state.paused && !state.ready.is_empty());
        drop(state);
        if others_should_look {
            self.wake.notify_one();
        }
        taken
    }

    /// Forgets messages by the tokens of their deliveries.
    pub(super) fn ack(&self, tokens: impl Iterator<Item = u64>) -> Result<(), Error> {
        let mut state = self.held_state()?;
        let mut more_room = false;
        for token in tokens {
            if let Some(entry) = state.release(token) {
                state.ids.remove(&entry.id);
                more_room = true;
            }
        }
        drop(state);
        if more_room {
            self.room.notify_one();
        }
        Ok(())
    }

    /// The state, where a lease that has expired is a lease no more even if nobody looked since.
    fn held_state(&self) -> Result<MutexGuard<'_, State<T>>, Error> {
        if self.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        let mut state = self.state();
        state.revive(Instant::now());
        Ok(state)
    }
}

/// Wakes another waiter when the one that has it stops waiting, for whatever reason.
struct Baton<'a>(&'a Notify);

impl Drop for Baton<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// The lease of one delivery. Its token is used once, so what comes late finds nothing.
pub(super) struct Hold<T: Wire> {
    pub(super) channel: Arc<Channel<T>>,
    pub(super) token: u64,
}

impl<T: Wire> fmt::Debug for Hold<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold")
            .field("channel", &self.channel.name)
            .field("token", &self.token)
            .finish()
    }
}

impl<T: Wire> Hold<T> {
    /// The lease, if it is one of these.
    pub(super) fn of(lease: &Arc<dyn Lease>) -> Option<&Self> {
        let lease: &dyn Any = lease.as_ref();
        lease.downcast_ref()
    }
}

#[async_trait]
impl<T: Wire> Lease for Hold<T> {
    async fn ack(&self) -> Result<(), Error> {
        self.channel.ack(std::iter::once(self.token))
    }

    async fn nack(&self, delay: Duration) -> Result<(), Error> {
        let mut state = self.channel.held_state()?;
        if let Some(entry) = state.release(self.token) {
            if delay.is_zero() {
                state.give_back(entry);
            } else {
                state.hold(entry, Instant::now() + delay.min(AGES), false);
            }
        }
        drop(state);
        self.channel.wake.notify_one();
        Ok(())
    }

    async fn extend(&self) -> Result<bool, Error> {
        let mut state = self.channel.held_state()?;
        let due = Instant::now() + state.lease;
        let token = self.token;
        let Some(held) = state.held.get_mut(&token).filter(|held| held.leased) else {
            return Ok(false);
        };
        let before = std::mem::replace(&mut held.due, due);
        state.returns_at(due, token);
        drop(state);
        if due < before {
            // The lease of the channel was made shorter, so this may be sooner than anyone expects.
            self.channel.wake.notify_one();
        }
        Ok(true)
    }
}
