//! What must hold of every task, whatever happens: written once, checked by every tier.
//!
//! A [`Watch`] is told what a client, an engine or a handler gets to know, in the order in which whoever tells it got
//! to know it. It answers with the first [`Violation`]. The numbers are those of `RELIABILITY.md`. I1 and the part of
//! I12 that records tell are asked for at the end ([`Watch::unfinished_after_heal`], [`Watch::drained`]), since only
//! the caller knows when everything was well. I11 has nothing to hold yet: there are no concurrency limits.
//!
//! How much a tier sees differs. A random walk over a store tells every dispatch and every effect of an outcome. A
//! client of whole engines tells the answers to its calls, one after the other, and what handlers noted
//! ([`Watch::started`]), which may be told late.

use std::collections::HashMap;
use std::time::Duration;

use goflow_core::record::TaskRecord;
use goflow_core::store::{Applied, Dispatch};
use goflow_core::{State, TaskId, TaskSpec};
use time::OffsetDateTime;

mod healed;
mod known;
#[cfg(test)]
mod tests;
mod violation;

use known::{Known, is_due, is_move, same_end};
pub use violation::Violation;
use violation::{Checked, check};

/// How far the clock of an observer may be from that of the store, unless said otherwise: enough for two processes
/// on one machine.
pub const CLOCK_TOLERANCE: Duration = Duration::from_millis(50);

/// Watches the tasks of a store.
#[derive(Debug, Clone)]
pub struct Watch {
    tasks: HashMap<TaskId, Known>,
    keys: HashMap<String, TaskId>,
    clock_tolerance: Duration,
}

impl Default for Watch {
    /// Watches with [`CLOCK_TOLERANCE`].
    fn default() -> Self {
        Self::with_clock_tolerance(CLOCK_TOLERANCE)
    }
}

impl Watch {
    /// A watch whose times come from clocks that differ from the store's by `tolerance` at most.
    pub fn with_clock_tolerance(tolerance: Duration) -> Self {
        Self {
            tasks: HashMap::new(),
            keys: HashMap::new(),
            clock_tolerance: tolerance,
        }
    }

    /// Someone is about to push a task: from now on it may run, and need not.
    pub fn submitted(&mut self, spec: &TaskSpec) {
        let known = || Known::new(spec);
        self.tasks.entry(spec.id).or_insert_with(known);
    }

    /// A task was accepted: its push was answered with its id.
    pub fn accepted(&mut self, spec: &TaskSpec) {
        self.submitted(spec);
        if let Some(known) = self.tasks.get_mut(&spec.id) {
            known.accepted = true;
        }
    }

    /// A push was refused, or answered with another id: nothing of this task must be seen.
    pub fn refused(&mut self, id: TaskId) {
        self.tasks.remove(&id);
    }

    /// A push with this idempotency key was answered with this task.
    ///
    /// # Errors
    /// I7.
    pub fn keyed(&mut self, key: &str, task: TaskId) -> Checked {
        let first = *self.keys.entry(key.to_owned()).or_insert(task);
        let same = || format!("key {key:?} gave task {first} before");
        check("I7", task, first == task, same)
    }

    /// A dispatch was given out, or a worker got one.
    ///
    /// # Errors
    /// I4 to I6, I8.
    pub fn dispatched(&mut self, dispatch: &Dispatch) -> Checked {
        let id = dispatch.spec.id;
        let seen = || {
            format!(
                "attempt {}, dispatch {}",
                dispatch.attempt, dispatch.dispatch
            )
        };
        let known = self.known(id, seen)?;
        check("I4", id, known.is_attempt(dispatch.attempt), || {
            known.beside(seen())
        })?;
        check("I5", id, known.ended.is_none(), || known.beside(seen()))?;
        let is_next = dispatch.attempt >= known.attempt && dispatch.dispatch >= known.dispatch;
        check("I8", id, is_next, || known.beside(seen()))?;
        (known.attempt, known.dispatch) = (dispatch.attempt, dispatch.dispatch);
        Ok(())
    }

    /// The same, at a time by the observer's clock.
    ///
    /// # Errors
    /// I4 to I6, I8, I9.
    pub fn dispatched_at(&mut self, dispatch: &Dispatch, at: OffsetDateTime) -> Checked {
        let (id, tolerance) = (dispatch.spec.id, self.clock_tolerance);
        let number = dispatch.dispatch;
        let seen = || format!("dispatch {number} at {at}");
        let known = self.known(id, seen)?;
        let due = known.dispatch_due(number);
        check("I9", id, is_due(due, at, tolerance), || {
            known.beside(format!("{}, due at {due:?}", seen()))
        })?;
        self.dispatched(dispatch)
    }

    /// A handler was called with this attempt, at a time by its own clock. May be told late, and again for every
    /// run, stale ones included; it must not be told before the answer to a retry by hand that made the attempt.
    ///
    /// # Errors
    /// I4, I6, I8, I9.
    pub fn started(&mut self, id: TaskId, attempt: u32, at: OffsetDateTime) -> Checked {
        let tolerance = self.clock_tolerance;
        let seen = || format!("attempt {attempt} ran at {at}");
        let known = self.known(id, seen)?;
        let told = || known.beside(seen());
        check("I4", id, known.is_attempt(attempt), told)?;
        let within = known.last_attempt.is_none_or(|last| attempt <= last);
        check("I8", id, within, told)?;
        let due = known.attempt_due(attempt);
        check("I9", id, is_due(due, at, tolerance), || {
            format!("{}, due at {due:?}", told())
        })?;
        known.ran = known.ran.max(attempt);
        known.accepted = true;
        Ok(())
    }

    /// An outcome of this attempt was applied, with this effect.
    ///
    /// # Errors
    /// I3, I6, I8, I10.
    pub fn applied(&mut self, id: TaskId, attempt: u32, applied: &Applied) -> Checked {
        if matches!(applied, Applied::Stale | Applied::Rejected(_)) {
            return Ok(());
        }
        let seen = || format!("an outcome of attempt {attempt} had the effect {applied:?}");
        let known = self.known(id, seen)?;
        check("I8", id, attempt >= known.attempt, || known.beside(seen()))?;
        known.attempt = attempt;
        if let Applied::Finished(state) = applied {
            return self.ended(id, *state);
        }
        check("I3", id, known.ended.is_none(), || known.beside(seen()))
    }

    /// The task ended: an outcome, a cancel, a deadline.
    ///
    /// # Errors
    /// I3, I6, I10.
    pub fn ended(&mut self, id: TaskId, state: State) -> Checked {
        let seen = || format!("it ended as {state}");
        let known = self.known(id, seen)?;
        let undone = known.cancelled && state == State::Succeeded;
        check("I10", id, !undone, || known.beside(seen()))?;
        let ends_once = known.ended.is_none() && state.is_terminal();
        check("I3", id, ends_once, || known.beside(seen()))?;
        known.ended = Some(state);
        Ok(())
    }

    /// Someone was told that the task is cancelled.
    ///
    /// # Errors
    /// I3, I6; I10 from then on, until the task is [reopened](Self::reopened).
    pub fn cancelled(&mut self, id: TaskId) -> Checked {
        self.ended(id, State::Cancelled)?;
        self.known(id, || "a cancel".to_owned())?.cancelled = true;
        Ok(())
    }

    /// Someone had the task reopened: this is the record the store gave.
    ///
    /// # Errors
    /// I4 to I6.
    pub fn reopened(&mut self, record: &TaskRecord) -> Checked {
        let id = record.spec.id;
        let seen = || format!("it was reopened as attempt {}", record.attempt);
        let known = self.known(id, seen)?;
        // How it had ended need not have been seen, but a success is never undone.
        let may = known.ended != Some(State::Succeeded) && record.attempt > known.attempt;
        check("I5", id, may, || known.beside(seen()))?;
        let used = known.is_attempt(record.attempt - 1);
        check("I4", id, used, || known.beside(seen()))?;
        known.reopen(record.attempt);
        self.read(record)
    }

    /// Someone asked for the task to be reopened and got no answer: from now on either may be.
    ///
    /// # Errors
    /// I6.
    pub fn perhaps_reopened(&mut self, id: TaskId) -> Checked {
        let known = self.known(id, || "a retry of it".to_owned())?;
        if known.ended != Some(State::Succeeded) {
            known.doubt();
        }
        Ok(())
    }

    /// The record of a task was read.
    ///
    /// # Errors
    /// I2 to I6, I8, I10.
    pub fn read(&mut self, record: &TaskRecord) -> Checked {
        self.saw(record, true)
    }

    /// The record of a task came in a list, which leaves failed attempts and large content out.
    ///
    /// # Errors
    /// As [`Watch::read`].
    pub fn listed(&mut self, record: &TaskRecord) -> Checked {
        self.saw(record, false)
    }

    fn saw(&mut self, record: &TaskRecord, whole: bool) -> Checked {
        let id = record.spec.id;
        let seen = || {
            let TaskRecord {
                state,
                attempt,
                dispatch,
                ..
            } = record;
            format!("it is {state} at attempt {attempt}, dispatch {dispatch}")
        };
        let known = self.known(id, seen)?;
        let told = || known.beside(seen());
        let undone = known.cancelled && record.state == State::Succeeded;
        check("I10", id, !undone, told)?;
        if let Some(last) = known.last.as_ref().filter(|last| last.state.is_terminal()) {
            check("I2", id, same_end(last, record, whole), told)?;
        }
        if let Some(ended) = known.ended {
            check("I3", id, record.state == ended, told)?;
        }
        check("I4", id, known.is_attempt(record.attempt), told)?;
        check_attempts(record)?;
        let overtaken = record.state.is_terminal() && known.ran > record.attempt;
        check("I8", id, !overtaken, || {
            format!("{}, though attempt {} ran", told(), known.ran)
        })?;
        let forward = record.attempt >= known.attempt && record.dispatch >= known.dispatch;
        check("I5", id, forward, told)?;
        if let Some(last) = &known.last {
            check("I5", id, is_move(last, record), told)?;
        }
        known.learn(record, whole);
        Ok(())
    }

    fn known(&mut self, id: TaskId, seen: impl Fn() -> String) -> Result<&mut Known, Violation> {
        let unknown = || Violation {
            invariant: "I6",
            task: id,
            seen: format!("nobody pushed it, yet {}", seen()),
        };
        self.tasks.get_mut(&id).ok_or_else(unknown)
    }
}

/// The failed attempts of a record are in order, and none is of an attempt still to come.
fn check_attempts(record: &TaskRecord) -> Checked {
    let failed: Vec<u32> = record.attempts.iter().map(|one| one.attempt).collect();
    let in_order = failed.is_sorted_by(|a, b| a < b);
    let possible = 1..=record.attempt;
    let within = failed.iter().all(|attempt| possible.contains(attempt));
    check("I4", record.spec.id, in_order && within, || {
        format!("at attempt {}, failed attempts {failed:?}", record.attempt)
    })
}
