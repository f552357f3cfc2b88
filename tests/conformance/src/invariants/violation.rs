//! What a watch answers with.

use std::fmt;

use goflow_core::TaskId;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which one: `I1` to `I10`, or `I12`.
    pub invariant: &'static str,
    /// The task.
    pub task: TaskId,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} does not hold of task {}: {}",
            self.invariant, self.task, self.seen
        )
    }
}

impl std::error::Error for Violation {}

pub(super) type Checked = Result<(), Violation>;

pub(super) fn check(
    invariant: &'static str,
    task: TaskId,
    holds: bool,
    seen: impl FnOnce() -> String,
) -> Checked {
    if holds {
        return Ok(());
    }
    let seen = seen();
    Err(Violation {
        invariant,
        task,
        seen,
    })
}
