//! What is to happen: tasks and faults, each of which can be left out.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use goflow_core::{Backoff, Priority};

use crate::actor::Actor;

/// A simulation that has not run yet. The same plan runs the same way each time.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it was made from.
    pub seed: u64,
    /// How many engines share the store and the broker.
    pub engines: usize,
    /// How many workers take tasks.
    pub workers: usize,
    /// Tasks that a worker runs at once.
    pub slots: usize,
    /// The lease of the queues.
    pub lease: Duration,
    /// The tasks, by number.
    pub tasks: Vec<TaskPlan>,
    /// The faults, each with its number.
    pub faults: Vec<(usize, Fault)>,
}

/// Something that can be left out of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// A task, by its number: `t0`.
    Task(usize),
    /// A fault, by its number: `f0`.
    Fault(usize),
}

/// A task, and what its client does with it. Times are from the beginning.
#[derive(Debug, Clone)]
pub struct TaskPlan {
    /// Its number.
    pub number: usize,
    /// When it is pushed, and through which engine; more than once if it has an idempotency key.
    pub pushes: Vec<(Duration, usize)>,
    /// Whether it has an idempotency key.
    pub keyed: bool,
    /// Its unique key.
    pub unique: Option<u8>,
    /// How long it waits at first.
    pub delay: Option<Duration>,
    /// Whether that is asked for as a time of day.
    pub by_time: bool,
    /// Failures after which it has failed.
    pub max_attempts: u32,
    /// The wait between attempts.
    pub backoff: Backoff,
    /// The longest one attempt may take.
    pub timeout: Option<Duration>,
    /// When it expires.
    pub deadline: Option<Duration>,
    /// Its lane.
    pub priority: Priority,
    /// Whether it waits in the second queue.
    pub elsewhere: bool,
    /// Whether only the first worker has its handler.
    pub rare: bool,
    /// What the handler does in each attempt; the last one repeats.
    pub steps: Vec<Step>,
    /// When its client cancels it.
    pub cancel: Option<Duration>,
    /// When its client retries it.
    pub retry: Option<Duration>,
}

/// What a handler does.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// How long it takes.
    pub takes: Duration,
    /// How it ends.
    pub end: End,
}

/// How a handler ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With a result.
    Succeed,
    /// With an error.
    Fail,
    /// With an error that no attempt can mend.
    FailForGood,
    /// It wants to be called again after this long, and succeeds then.
    Snooze(Duration),
    /// It panics.
    Panic,
    /// Not before it is told to.
    UntilTold,
    /// Not even then.
    Never,
}

/// Something that goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// An actor dies and comes back.
    Kill {
        /// Who.
        actor: Actor,
        /// When.
        at: Duration,
        /// For how long.
        down: Duration,
    },
    /// An actor is cut off from everything, and goes on as if nothing had been.
    Pause {
        /// Who.
        actor: Actor,
        /// When.
        at: Duration,
        /// For how long.
        lasts: Duration,
    },
    /// The broker loses all its state.
    Wipe {
        /// When.
        at: Duration,
    },
    /// A server does not answer.
    Away {
        /// Which.
        server: Which,
        /// When.
        at: Duration,
        /// For how long.
        lasts: Duration,
    },
    /// Someone pauses the first queue and resumes it.
    PausedQueue {
        /// When.
        at: Duration,
        /// For how long.
        lasts: Duration,
    },
    /// One call goes wrong.
    Call {
        /// Whose.
        actor: Actor,
        /// What it asks for.
        op: Op,
        /// Which time it asks for that, from 1.
        nth: u32,
        /// What happens.
        what: What,
    },
}

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Which {
    /// The store.
    Store,
    /// The broker.
    Broker,
}

/// What an actor asks a server for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    Submit,
    Dequeue,
    Ack,
    Nack,
    Extend,
    SubmitOutcomes,
    DequeueOutcomes,
    AckOutcomes,
    Depth,
    Prepare,
    Signal,
    Entomb,
    Tombstones,
    OtherOfBroker,
    Bind,
    Accept,
    Apply,
    ClaimDue,
    ConfirmDispatched,
    Cancel,
    Retry,
    Get,
    OtherOfStore,
}

impl Op {
    /// Who is asked.
    pub fn server(self) -> Which {
        match self {
            Self::Bind
            | Self::Accept
            | Self::Apply
            | Self::ClaimDue
            | Self::ConfirmDispatched
            | Self::Cancel
            | Self::Retry
            | Self::Get
            | Self::OtherOfStore => Which::Store,
            _ => Which::Broker,
        }
    }
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It fails and has no effect.
    FailBefore,
    /// It has its effect, and its caller is told that it failed.
    FailAfter,
    /// It has its effect, and the answer comes late.
    Late(Duration),
    /// The caller dies before it has an effect, and comes back.
    DieBefore(Duration),
    /// The caller dies after it had its effect, and comes back.
    DieAfter(Duration),
    /// What is delivered comes twice.
    Twice,
    /// What is delivered comes in the reverse order.
    Reversed,
}

impl Plan {
    /// The parts that can be left out.
    pub fn parts(&self) -> BTreeSet<Part> {
        let tasks = self.tasks.iter().map(|task| Part::Task(task.number));
        let faults = self.faults.iter().map(|(number, _)| Part::Fault(*number));
        tasks.chain(faults).collect()
    }

    /// The same plan with these parts only.
    pub fn only(&self, parts: &BTreeSet<Part>) -> Self {
        let mut plan = self.clone();
        plan.tasks
            .retain(|task| parts.contains(&Part::Task(task.number)));
        plan.faults
            .retain(|(number, _)| parts.contains(&Part::Fault(*number)));
        plan
    }

    /// The task of this number.
    pub fn task(&self, number: usize) -> Option<&TaskPlan> {
        self.tasks.iter().find(|task| task.number == number)
    }

    /// When the last thing that is planned for a time is over.
    pub fn over(&self) -> Duration {
        let tasks = self.tasks.iter().flat_map(|task| {
            let pushes = task.pushes.iter().map(|(at, _)| *at);
            pushes.chain(task.cancel).chain(task.retry)
        });
        let faults = self.faults.iter().map(|(_, fault)| fault.over());
        tasks.chain(faults).max().unwrap_or_default()
    }

    /// Whether a task may rightly be run twice at once: a lease cannot be renewed in time, a message comes twice, or a
    /// worker dies between the confirmation of an outcome and the ack of its task, which then comes again beside the
    /// next dispatch.
    pub fn allows_overlaps(&self) -> bool {
        self.faults.iter().any(|(_, fault)| match fault {
            Fault::Pause { .. } | Fault::Wipe { .. } => true,
            Fault::Away { server, .. } => *server == Which::Broker,
            Fault::Call { op, what, .. } => match (op, what) {
                (_, What::Twice) | (Op::Extend, _) => true,
                (Op::Dequeue, What::Late(_)) => true,
                (Op::Ack | Op::SubmitOutcomes, What::FailBefore | What::FailAfter) => false,
                (Op::Ack | Op::SubmitOutcomes, _) => true,
                _ => false,
            },
            Fault::Kill { .. } | Fault::PausedQueue { .. } => false,
        })
    }
}

impl Fault {
    fn over(&self) -> Duration {
        /// By when calls that are to go wrong have been made, or never are.
        const CALLS: Duration = Duration::from_secs(6);
        match self {
            Self::Kill { at, down, .. } => *at + *down,
            Self::Pause { at, lasts, .. }
            | Self::Away { at, lasts, .. }
            | Self::PausedQueue { at, lasts } => *at + *lasts,
            Self::Wipe { at } => *at,
            Self::Call { .. } => CALLS,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(number) => write!(f, "t{number}"),
            Self::Fault(number) => write!(f, "f{number}"),
        }
    }
}

impl FromStr for Part {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let kind = [('t', Self::Task as fn(usize) -> Self), ('f', Self::Fault)];
        let read = |(letter, part): (char, fn(usize) -> Self)| {
            let number = text.strip_prefix(letter)?.parse().ok()?;
            Some(part(number))
        };
        let found = kind.into_iter().find_map(read);
        found.ok_or_else(|| {
            format!("{text:?} is no part of a plan: use t0 for a task, f0 for a fault")
        })
    }
}
