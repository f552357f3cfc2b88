//! One channel: messages that wait, messages that are held, and the times at which the held ones come back.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::broker::{DEFAULT_LEASE, Delivery, Depth, Error, Lease, MIN_LEASE, Wire};

/// As good as never, yet safe to add to any instant.
const AGES: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

pub(super) struct Channel<T: Wire> {
    name: String,
    capacity: usize,
    state: Mutex<State<T>>,
    /// One permit means: something is ready, or comes back sooner than whoever sleeps may know.
    /// Whoever stops waiting hands the permit on, so that a cancelled waiter takes no wake-up with it.
    wake: Notify,
    room: Notify,
    closed: CancellationToken,
}

struct State<T: Wire> {
    lease: Duration,
    paused: bool,
    ready: VecDeque<Entry<T>>,
    /// Leased, or put back for later, by the token of the delivery that did it.
    held: HashMap<u64, Held<T>>,
    /// When each of `held` comes back.
    due: BTreeSet<(Instant, u64)>,
    /// Of everything in `ready` and `held`.
    ids: HashSet<T::Id>,
    leased: usize,
    next_token: u64,
    /// Messages put in so far.
    submitted: u64,
}

struct Entry<T: Wire> {
    message: Arc<T>,
    id: T::Id,
    deliveries: u64,
    position: u64,
}

struct Held<T: Wire> {
    entry: Entry<T>,
    due: Instant,
    leased: bool,
}

impl<T: Wire> State<T> {
    fn hold(&mut self, entry: Entry<T>, due: Instant, leased: bool) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        self.due.insert((due, token));
        self.held.insert(token, Held { entry, due, leased });
        self.leased += usize::from(leased);
        token
    }

    fn release(&mut self, token: u64) -> Option<Entry<T>> {
        let held = self.held.remove(&token)?;
        self.due.remove(&(held.due, token));
        self.leased -= usize::from(held.leased);
        Some(held.entry)
    }

    /// Everything whose time has come is ready again, before what never had its turn.
    fn revive(&mut self, now: Instant) {
        while let Some(&(due, token)) = self.due.first()
            && due <= now
        {
            if let Some(entry) = self.release(token) {
                self.ready.push_front(entry);
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|&(due, _)| due)
    }

    /// The position of the oldest message. What was never delivered is in order, behind what came back.
    fn oldest(&self) -> Option<u64> {
        let came_back = self.ready.iter().take_while(|entry| entry.deliveries > 0);
        let never = self.ready.iter().find(|entry| entry.deliveries == 0);
        let held = self.held.values().map(|held| &held.entry);
        came_back
            .chain(never)
            .chain(held)
            .map(|entry| entry.position)
            .min()
    }
}

impl<T: Wire> Channel<T> {
    pub(super) fn new(name: String, capacity: usize, closed: CancellationToken) -> Self {
        let state = State {
            lease: DEFAULT_LEASE,
            paused: false,
            ready: VecDeque::new(),
            held: HashMap::new(),
            due: BTreeSet::new(),
            ids: HashSet::new(),
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

    /// Puts a message in, waiting until `give_up` for room.
    pub(super) async fn put(&self, message: Arc<T>, give_up: Instant) -> Result<(), Error> {
        let mut entry = Some(Entry {
            id: message.id(),
            message,
            deliveries: 0,
            position: 0,
        });
        loop {
            if self.try_put(&mut entry) {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = self.closed.cancelled() => return Err(Error::Closed),
                () = self.room.notified() => {}
                () = tokio::time::sleep_until(give_up) => return Err(Error::Full { channel: self.name.clone() }),
            }
        }
    }

    fn try_put(&self, entry: &mut Option<Entry<T>>) -> bool {
        let mut state = self.state();
        let full = state.ids.len() >= self.capacity;
        match entry.take() {
            Some(repeated) if state.ids.contains(&repeated.id) => return true,
            Some(refused) if full => {
                *entry = Some(refused);
                return false;
            }
            Some(mut accepted) => {
                state.submitted += 1;
                accepted.position = state.submitted;
                state.ids.insert(accepted.id);
                state.ready.push_back(accepted);
            }
            None => return true,
        }
        let more_room = state.ids.len() < self.capacity;
        drop(state);
        self.wake.notify_one();
        if more_room {
            self.room.notify_one();
        }
        true
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
        let give_up = Instant::now() + wait.min(AGES);
        let mut taken = self.take_ready(max);
        if taken.is_empty() && !wait.is_zero() {
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
        Ok(taken.into_iter().map(|taken| self.deliver(taken)).collect())
    }

    fn take_ready(&self, max: usize) -> Vec<Taken<T>> {
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
            let Some(mut entry) = state.ready.pop_front() else {
                break;
            };
            entry.deliveries += 1;
            let (message, count) = (entry.message.clone(), entry.deliveries);
            taken.push(Taken {
                message,
                count,
                leased_at: now,
                token: state.hold(entry, until, true),
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

    fn deliver(self: &Arc<Self>, taken: Taken<T>) -> Delivery<T> {
        let lease = Arc::new(Hold {
            channel: self.clone(),
            token: taken.token,
        });
        Delivery {
            message: taken.message,
            count: taken.count,
            leased_at: taken.leased_at,
            lease,
        }
    }
}

struct Taken<T> {
    message: Arc<T>,
    count: u64,
    leased_at: Instant,
    token: u64,
}

/// Wakes another waiter when the one that has it stops waiting, for whatever reason.
struct Baton<'a>(&'a Notify);

impl Drop for Baton<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// The lease of one delivery. Its token is used once, so what comes late finds nothing.
struct Hold<T: Wire> {
    channel: Arc<Channel<T>>,
    token: u64,
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
    /// The state, where a lease that has expired is a lease no more even if nobody looked since.
    fn state(&self) -> Result<MutexGuard<'_, State<T>>, Error> {
        if self.channel.closed.is_cancelled() {
            return Err(Error::Closed);
        }
        let mut state = self.channel.state();
        state.revive(Instant::now());
        Ok(state)
    }
}

#[async_trait]
impl<T: Wire> Lease for Hold<T> {
    async fn ack(&self) -> Result<(), Error> {
        let mut state = self.state()?;
        let released = state.release(self.token);
        if let Some(entry) = &released {
            state.ids.remove(&entry.id);
        }
        drop(state);
        if released.is_some() {
            self.channel.room.notify_one();
        }
        Ok(())
    }

    async fn nack(&self, delay: Duration) -> Result<(), Error> {
        let mut state = self.state()?;
        if let Some(entry) = state.release(self.token) {
            if delay.is_zero() {
                state.ready.push_front(entry);
            } else {
                state.hold(entry, Instant::now() + delay.min(AGES), false);
            }
        }
        drop(state);
        self.channel.wake.notify_one();
        Ok(())
    }

    async fn extend(&self) -> Result<bool, Error> {
        let mut state = self.state()?;
        let due = Instant::now() + state.lease;
        let token = self.token;
        let Some(held) = state.held.get_mut(&token).filter(|held| held.leased) else {
            return Ok(false);
        };
        let before = std::mem::replace(&mut held.due, due);
        state.due.remove(&(before, token));
        state.due.insert((due, token));
        drop(state);
        if due < before {
            // The lease of the channel was made shorter, so this may be sooner than anyone expects.
            self.channel.wake.notify_one();
        }
        Ok(true)
    }
}
