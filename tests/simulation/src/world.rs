//! What all of a simulation share.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use goflow_conformance::invariants::Violation;
use goflow_core::TaskId;
use goflow_core::store::memory::MemoryStore;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::actor::Actor;
use crate::history::History;
use crate::plan::{Fault, Op, Plan, What, Which};
use crate::server::Server;

/// A simulation under way.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) broker: Server,
    began: Instant,
    day: OffsetDateTime,
    history: Mutex<History>,
    /// How often each actor has asked for what.
    calls: Mutex<HashMap<(Actor, Op), u32>>,
    /// Until when who is cut off.
    cut: Mutex<HashMap<Cut, Instant>>,
    /// Whether nothing goes wrong any more.
    healed: AtomicBool,
    deaths: mpsc::UnboundedSender<Death>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Cut {
    Actor(Actor),
    Server(Which),
}

/// An actor has to die.
#[derive(Debug)]
pub(crate) struct Death {
    pub(crate) actor: Actor,
    /// Which of its lives ends.
    pub(crate) life: u32,
    /// After how long the next one begins.
    pub(crate) down: Duration,
}

impl World {
    /// The world as it begins, at this time of day.
    pub(crate) fn new(
        plan: Plan,
        day: OffsetDateTime,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Death>) {
        let (deaths, dying) = mpsc::unbounded_channel();
        let world = Self {
            plan,
            store: Arc::default(),
            broker: Server::new(),
            began: Instant::now(),
            day,
            history: Mutex::default(),
            calls: Mutex::default(),
            cut: Mutex::default(),
            healed: AtomicBool::new(false),
            deaths,
        };
        (Arc::new(world), dying)
    }

    /// How long it has been going on.
    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// The time of day at the beginning.
    pub(crate) fn day(&self) -> OffsetDateTime {
        self.day
    }

    /// The time of day.
    pub(crate) fn now_utc(&self) -> OffsetDateTime {
        self.day + self.age()
    }

    /// Ends this long after the beginning.
    pub(crate) async fn at(&self, age: Duration) {
        tokio::time::sleep_until(self.began + age).await;
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    /// Notes what happened.
    pub(crate) fn note(&self, what: impl fmt::Display) {
        let (at, what) = (self.age(), what.to_string());
        self.history().note(at, what);
    }

    /// Notes what happened to a task.
    pub(crate) fn note_of(&self, task: TaskId, what: impl fmt::Display) {
        let mut history = self.history();
        let what = format!("{} {what}", history.name(task));
        history.note(self.age(), what);
    }

    /// Holds something against the history.
    pub(crate) fn check(&self, check: impl FnOnce(&mut History) -> Result<(), Violation>) {
        let mut history = self.history();
        let checked = check(&mut history);
        history.check(self.age(), checked);
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.history().violation.is_some()
    }

    /// From now on nothing goes wrong.
    pub(crate) fn heal(&self) {
        self.healed.store(true, Ordering::Relaxed);
        self.note("all is well from now on");
    }

    /// Counts a call and says what goes wrong with it.
    pub(crate) fn fault(&self, actor: Actor, op: Op) -> Option<What> {
        if self.healed.load(Ordering::Relaxed) {
            return None;
        }
        let count = {
            let mut calls = lock(&self.calls);
            let count = calls.entry((actor, op)).or_default();
            *count += 1;
            *count
        };
        let mut faults = self.plan.faults.iter().map(|(_, fault)| fault);
        let what = faults.find_map(|fault| match fault {
            Fault::Call {
                actor: whose,
                op: of,
                nth,
                what,
            } => (*whose == actor && *of == op && *nth == count).then_some(*what),
            _ => None,
        })?;
        self.note(format_args!("{actor}: {op:?} {count}: {what:?}"));
        Some(what)
    }

    /// Nothing passes from or to an actor for so long.
    pub(crate) fn pause(&self, actor: Actor, lasts: Duration) {
        self.note(format_args!("{actor} is paused for {lasts:?}"));
        self.cut(Cut::Actor(actor), lasts);
    }

    /// A server does not answer for so long.
    pub(crate) fn take_away(&self, server: Which, lasts: Duration) {
        self.note(format_args!("the {server:?} is away for {lasts:?}"));
        self.cut(Cut::Server(server), lasts);
    }

    fn cut(&self, who: Cut, lasts: Duration) {
        let until = Instant::now() + lasts;
        let mut cut = lock(&self.cut);
        let end = cut.entry(who).or_insert(until);
        *end = (*end).max(until);
    }

    /// Waits while an actor is paused.
    pub(crate) async fn unpaused(&self, actor: Actor) {
        while let Some(until) = self.cut_until(Cut::Actor(actor)) {
            tokio::time::sleep_until(until).await;
        }
    }

    pub(crate) fn is_away(&self, server: Which) -> bool {
        self.cut_until(Cut::Server(server)).is_some()
    }

    fn cut_until(&self, who: Cut) -> Option<Instant> {
        let until = lock(&self.cut).get(&who).copied();
        until.filter(|until| *until > Instant::now())
    }

    /// Has an actor die.
    pub(crate) fn kill(&self, death: Death) {
        // Nobody listens when all is over.
        drop(self.deaths.send(death));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
