//! What is known of one task.

use std::collections::BTreeMap;
use std::time::Duration;

use goflow_core::record::TaskRecord;
use goflow_core::{Start, State, TaskSpec};
use time::OffsetDateTime;

/// What is known of one task.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) spec: TaskSpec,
    /// Whether it is surely in the store: its push was answered, or somebody saw it there.
    pub(super) accepted: bool,
    /// The last whole record that was read.
    pub(super) last: Option<TaskRecord>,
    /// The highest attempt and dispatch heard of.
    pub(super) attempt: u32,
    pub(super) dispatch: u32,
    /// Failures after which it has failed; reopening raises it.
    pub(super) limit: u32,
    /// How it ended, since it was accepted or reopened.
    pub(super) ended: Option<State>,
    /// Whether a cancel was acknowledged, since it was accepted or reopened.
    pub(super) cancelled: bool,
    /// The highest attempt that ran, and the one the record ended with.
    pub(super) ran: u32,
    pub(super) last_attempt: Option<u32>,
    waits: Waits,
}

/// Before which times what must not run.
#[derive(Debug, Clone, Default)]
struct Waits {
    attempts: BTreeMap<u32, OffsetDateTime>,
    /// Of the next dispatch only.
    dispatch: Option<(u32, OffsetDateTime)>,
}

impl Known {
    pub(super) fn new(spec: &TaskSpec) -> Self {
        let due = match spec.start {
            Start::Now => None,
            // It is accepted after it was made.
            Start::After(wait) => Some(spec.id.created_at() + wait),
            Start::At(time) => Some(time),
        };
        Self {
            spec: spec.clone(),
            accepted: false,
            last: None,
            attempt: 1,
            dispatch: 0,
            limit: spec.max_attempts,
            ended: None,
            cancelled: false,
            ran: 0,
            last_attempt: None,
            waits: Waits {
                attempts: due.map(|due| (1, due)).into_iter().collect(),
                dispatch: due.map(|due| (1, due)),
            },
        }
    }

    /// Takes in a record that breaks nothing; `whole` unless it came in a list.
    pub(super) fn learn(&mut self, record: &TaskRecord, whole: bool) {
        self.accepted = true;
        (self.attempt, self.dispatch) = (record.attempt, record.dispatch);
        if record.state.is_terminal() {
            self.ended = Some(record.state);
            self.last_attempt = Some(record.attempt);
        }
        if let Some(due) = record.due_at.filter(|_| waits(record)) {
            self.waits.dispatch = Some((record.dispatch + 1, due));
            if record.state == State::Retrying {
                self.waits.attempts.insert(record.attempt, due);
            }
        }
        if whole {
            self.last = Some(record.clone());
        }
    }

    /// Somebody has it run again, at once, as this attempt.
    pub(super) fn reopen(&mut self, attempt: u32) {
        self.attempt = attempt;
        self.doubt();
        self.limit = attempt - 1 + self.spec.max_attempts;
    }

    /// Somebody may have had it run again.
    pub(super) fn doubt(&mut self) {
        (self.ended, self.last, self.last_attempt) = (None, None, None);
        self.cancelled = false;
        self.waits.dispatch = None;
        // The attempt it makes comes after those there were, at most.
        self.limit += 1 + self.spec.max_attempts;
    }

    pub(super) fn is_attempt(&self, attempt: u32) -> bool {
        attempt >= 1 && attempt <= self.limit
    }

    /// Before when this attempt must not run.
    pub(super) fn attempt_due(&self, attempt: u32) -> Option<OffsetDateTime> {
        self.waits.attempts.get(&attempt).copied()
    }

    /// Before when this dispatch must not be given out.
    pub(super) fn dispatch_due(&self, dispatch: u32) -> Option<OffsetDateTime> {
        let waits = self.waits.dispatch;
        waits.and_then(|(next, due)| (next == dispatch).then_some(due))
    }

    /// Since when nothing is in the way of its end, if everything was well since `healed`.
    pub(super) fn owed_since(&self, healed: OffsetDateTime) -> OffsetDateTime {
        let next = self.dispatch_due(self.dispatch + 1);
        let due = next.into_iter().chain(self.attempt_due(self.attempt));
        due.fold(healed, OffsetDateTime::max)
    }

    pub(super) fn beside(&self, seen: String) -> String {
        let Self {
            attempt,
            dispatch,
            limit,
            ended,
            ..
        } = self;
        let last = self.last.as_ref().map(|last| last.state.as_str());
        format!(
            "{seen}; before: attempt {attempt} of {limit}, dispatch {dispatch}, read as {last:?}, ended as {ended:?}"
        )
    }
}

/// Whether two records of a finished task tell the same end. What came in a list has no attempts and may leave the
/// result out.
pub(super) fn same_end(before: &TaskRecord, after: &TaskRecord, whole: bool) -> bool {
    let end = |record: &TaskRecord| {
        let TaskRecord {
            state,
            attempt,
            dispatch,
            worker,
            finished_at,
            ..
        } = record.clone();
        (state, attempt, dispatch, worker, finished_at)
    };
    let same_result = before.result == after.result || (!whole && after.result_omitted);
    let same_attempts = before.attempts == after.attempts || !whole;
    end(before) == end(after) && before.error == after.error && same_result && same_attempts
}

/// Whether a task can have got from one record to a later one without being reopened. Steps between may not have
/// been seen.
pub(super) fn is_move(from: &TaskRecord, to: &TaskRecord) -> bool {
    if from.state.is_terminal() {
        return from.state == to.state;
    }
    // What waits for its time leaves that wait by a dispatch only, or ends.
    let dispatched = to.dispatch > from.dispatch;
    to.state.is_terminal() || dispatched || !waits(from) || from.state == to.state
}

fn waits(record: &TaskRecord) -> bool {
    matches!(record.state, State::Scheduled | State::Retrying)
}

/// Whether what must not happen before `due` may have happened at `at`, by a clock that is no further off than
/// `tolerance`.
pub(super) fn is_due(due: Option<OffsetDateTime>, at: OffsetDateTime, tolerance: Duration) -> bool {
    due.is_none_or(|due| at + tolerance >= due)
}
