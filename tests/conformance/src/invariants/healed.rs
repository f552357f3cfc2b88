//! What must hold once everything is well again. Only the caller knows when that is.

use std::time::Duration;

use goflow_core::record::TaskRecord;
use goflow_core::{TaskId, TaskSpec};
use time::OffsetDateTime;

use super::violation::{Checked, Violation, check};
use super::{Known, Watch};

impl Watch {
    /// The accepted tasks that are not known to have ended, by id: whoever asks for I1 reads them first.
    pub fn unfinished(&self) -> Vec<TaskId> {
        let mut ids: Vec<_> = self.owed().map(|known| known.spec.id).collect();
        ids.sort_unstable();
        ids
    }

    /// I1, `now`, when everything has been well since `healed`: which accepted tasks have not ended within `limit`
    /// of that, or of the time at which they were due. `is_served` says whether a worker has a handler of the task's
    /// type, and whether its queue is not paused. Both times by the observer's clock; ends are known from what was
    /// [read](Self::read), so that [`unfinished`](Self::unfinished) tasks are to be read before.
    pub fn unfinished_after_heal(
        &self,
        healed: OffsetDateTime,
        now: OffsetDateTime,
        limit: Duration,
        is_served: impl Fn(&TaskSpec) -> bool,
    ) -> Vec<Violation> {
        let late = |known: &&Known| now > known.owed_since(healed) + limit + self.clock_tolerance;
        let owed = self.owed().filter(|known| is_served(&known.spec));
        let violation = |known: &Known| Violation {
            invariant: "I1",
            task: known.spec.id,
            seen: known.beside(format!("unfinished {limit:?} after all was well")),
        };
        let mut violations: Vec<_> = owed.filter(late).map(violation).collect();
        violations.sort_unstable_by_key(|violation| violation.task);
        violations
    }

    /// I12, as far as records tell: of the unfinished tasks that a store lists after healing (`left`), each is one
    /// that is still to end. Readiness, memory and file descriptors are the caller's to look at.
    ///
    /// # Errors
    /// I12.
    pub fn drained(&self, left: &[TaskRecord]) -> Checked {
        left.iter().try_for_each(|record| {
            let id = record.spec.id;
            let known = self.tasks.get(&id);
            let is_owed = known.is_some_and(|known| known.ended.is_none());
            check("I12", id, is_owed || record.state.is_terminal(), || {
                format!("left behind as {}", record.state)
            })
        })
    }

    fn owed(&self) -> impl Iterator<Item = &Known> {
        let tasks = self.tasks.values();
        tasks.filter(|known| known.accepted && known.ended.is_none())
    }
}
