//! Faults on purpose: planted bugs and kill points, for harnesses that must show that they find the one and survive
//! the other.
//!
//! All of it is behind the cargo feature `faults`, which no default build has; without it every hook is an empty
//! function. With it nothing happens either until a process is asked to by its environment:
//!
//! - `GF_FAULTS=ack-before-commit,reconcile-off` plants [`Bug`]s for the life of the process.
//! - `GF_KILL_AT=after-commit:3` has the process kill itself (`SIGKILL`) as it passes that [`Point`] for the third
//!   time.
//!
//! Within one thread, [`plant`] plants bugs instead, for simulations that run many engines in one process.

use std::fmt;
use std::str::FromStr;

/// A bug that can be planted. Each breaks a promise in a way that a harness must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Bug {
    /// Workers acknowledge a task before they call its handler, the results writer outcomes before they are
    /// committed: what is killed in between is lost.
    AckBeforeCommit,
    /// An outcome is applied to a live row whatever its attempt and dispatch.
    UnfencedOutcome,
    /// Workers never renew a lease: what runs longer than one runs more than once.
    LeaseNotExtended,
    /// Idempotency keys are ignored: a repeated push makes another task.
    PushNotIdempotent,
    /// A broker that lost its state is adopted, but the tasks that it had are not dispatched again.
    ReconcileOff,
    /// A delivery that comes again after its worker died ends the task as succeeded.
    CrashCountedAsSuccess,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Self; 6] = [
        Self::AckBeforeCommit,
        Self::UnfencedOutcome,
        Self::LeaseNotExtended,
        Self::PushNotIdempotent,
        Self::ReconcileOff,
        Self::CrashCountedAsSuccess,
    ];

    /// Its name, as `GF_FAULTS` takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AckBeforeCommit => "ack-before-commit",
            Self::UnfencedOutcome => "unfenced-outcome",
            Self::LeaseNotExtended => "lease-not-extended",
            Self::PushNotIdempotent => "push-not-idempotent",
            Self::ReconcileOff => "reconcile-off",
            Self::CrashCountedAsSuccess => "crash-counted-as-success",
        }
    }
}

/// A place in the code where a process can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Point {
    /// In an engine: a push is committed, neither dispatched nor answered.
    AfterAccept,
    /// In a worker: a handler has ended, its outcome is on its way to nobody yet.
    AfterHandler,
    /// In a worker: the broker has confirmed an outcome, the task is not acknowledged.
    AfterOutcomeConfirmed,
    /// In an engine: outcomes are committed, nobody is told of it.
    AfterCommit,
    /// In an engine: outcomes are committed and told, not acknowledged.
    BeforeAck,
}

impl Point {
    /// Every point, in the order in which a task passes them.
    pub const ALL: [Self; 5] = [
        Self::AfterAccept,
        Self::AfterHandler,
        Self::AfterOutcomeConfirmed,
        Self::AfterCommit,
        Self::BeforeAck,
    ];

    /// Its name, as `GF_KILL_AT` takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AfterAccept => "after-accept",
            Self::AfterHandler => "after-handler",
            Self::AfterOutcomeConfirmed => "after-outcome-confirmed",
            Self::AfterCommit => "after-commit",
            Self::BeforeAck => "before-ack",
        }
    }
}

/// A text that names no bug and no point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is none of {known}")]
pub struct UnknownFault {
    name: String,
    known: String,
}

fn find<T: Copy + fmt::Display>(all: &[T], name: &str) -> Result<T, UnknownFault> {
    let found = all.iter().find(|one| one.to_string() == name);
    found.copied().ok_or_else(|| UnknownFault {
        name: name.to_owned(),
        known: all
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    })
}

impl FromStr for Bug {
    type Err = UnknownFault;
    fn from_str(name: &str) -> Result<Self, UnknownFault> {
        find(&Self::ALL, name)
    }
}

impl FromStr for Point {
    type Err = UnknownFault;
    fn from_str(name: &str) -> Result<Self, UnknownFault> {
        find(&Self::ALL, name)
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(feature = "faults")]
mod switches;

#[cfg(feature = "faults")]
pub use crate::ambient::{Simulated, simulate};
#[cfg(feature = "faults")]
pub use switches::{Planted, plant, planted, point};

/// Whether this bug is planted: never, in this build.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub const fn planted(_: Bug) -> bool {
    false
}

/// A place where a process can be killed: not in this build.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub const fn point(_: Point) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_as_they_are_written() {
        for bug in Bug::ALL {
            assert_eq!(bug.to_string().parse(), Ok(bug));
        }
        for point in Point::ALL {
            assert_eq!(point.to_string().parse(), Ok(point));
        }
        let unknown = "after-lunch".parse::<Point>().unwrap_err().to_string();
        assert!(unknown.contains("after-commit"), "{unknown}");
    }
}
