//! What happened, in its order, and the first thing in it that must not be.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use goflow_conformance::invariants::{Violation, Watch};
use goflow_core::TaskId;

use crate::runs::Runs;

/// What a simulation has seen so far.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) events: Vec<(Duration, String)>,
    /// Holds the invariants.
    pub(crate) watch: Watch,
    /// What handlers did.
    pub(crate) runs: Runs,
    pub(crate) violation: Option<Violation>,
    names: HashMap<TaskId, String>,
}

impl History {
    /// Notes what happened.
    pub(crate) fn note(&mut self, at: Duration, what: String) {
        self.events.push((at, what));
    }

    /// Notes what is to hold. Only the first violation counts: others may follow from it.
    pub(crate) fn check(&mut self, at: Duration, checked: Result<(), Violation>) {
        if let Err(violation) = checked
            && self.violation.is_none()
        {
            self.note(
                at,
                format!(
                    "VIOLATION: {} of {}: {}",
                    violation.invariant,
                    self.name(violation.task),
                    violation.seen
                ),
            );
            self.violation = Some(violation);
        }
    }

    /// A task was made of the plan's task of this number.
    pub(crate) fn named(&mut self, id: TaskId, number: usize) {
        let others = self
            .names
            .values()
            .filter(|name| name.trim_end_matches('\'') == format!("t{number}"));
        let name = format!("t{number}{}", "'".repeat(others.count()));
        self.names.entry(id).or_insert(name);
    }

    /// What to call a task.
    pub(crate) fn name(&self, id: TaskId) -> String {
        self.names
            .get(&id)
            .cloned()
            .unwrap_or_else(|| id.to_string())
    }

    /// The same for the same history.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.events.hash(&mut hasher);
        hasher.finish()
    }
}
