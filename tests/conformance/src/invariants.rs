//! What must hold of every task, whatever happens: written once, checked by every tier.
//!
//! A [`Watch`] is told what a client or an engine gets to know, in the order in which one of them got to know it.
//! It answers with the first [`Violation`]. The numbers are those of `RELIABILITY.md`; I1 and what comes after I8
//! take a view of more than the store.

use std::collections::HashMap;
use std::fmt;

use goflow_core::record::TaskRecord;
use goflow_core::store::{Applied, Dispatch};
use goflow_core::{State, TaskId, TaskSpec};

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which one: `I2` to `I8`.
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

/// What is known of one task.
#[derive(Debug, Clone)]
struct Known {
    /// The last record that was read.
    last: Option<TaskRecord>,
    /// The highest attempt and dispatch heard of.
    attempt: u32,
    dispatch: u32,
    /// Failures after which it has failed; reopening raises it.
    limit: u32,
    max_attempts: u32,
    /// How it ended, since it was accepted or reopened.
    ended: Option<State>,
}

/// Watches the tasks of a store.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    tasks: HashMap<TaskId, Known>,
    keys: HashMap<String, TaskId>,
}

type Checked = Result<(), Violation>;

impl Watch {
    /// A task was accepted.
    pub fn accepted(&mut self, spec: &TaskSpec) {
        self.tasks.insert(
            spec.id,
            Known {
                last: None,
                attempt: 1,
                dispatch: 0,
                limit: spec.max_attempts,
                max_attempts: spec.max_attempts,
                ended: None,
            },
        );
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

    /// An outcome of this attempt was applied, with this effect.
    ///
    /// # Errors
    /// I3, I6, I8.
    pub fn applied(&mut self, id: TaskId, attempt: u32, applied: &Applied) -> Checked {
        if matches!(applied, Applied::Stale | Applied::Rejected(_)) {
            return Ok(());
        }
        let seen = || format!("an outcome of attempt {attempt} had the effect {applied:?}");
        let known = self.known(id, seen)?;
        check("I8", id, attempt >= known.attempt, || known.beside(seen()))?;
        known.attempt = attempt;
        check("I3", id, known.ended.is_none(), || known.beside(seen()))?;
        match applied {
            Applied::Finished(state) => self.ended(id, *state),
            _ => Ok(()),
        }
    }

    /// The task ended: an outcome, a cancel, a deadline.
    ///
    /// # Errors
    /// I3, I6.
    pub fn ended(&mut self, id: TaskId, state: State) -> Checked {
        let seen = || format!("it ended as {state}");
        let known = self.known(id, seen)?;
        let ends_once = known.ended.is_none() && state.is_terminal();
        check("I3", id, ends_once, || known.beside(seen()))?;
        known.ended = Some(state);
        Ok(())
    }

    /// Someone had the task reopened: this is the record the store gave.
    ///
    /// # Errors
    /// I4 to I6.
    pub fn reopened(&mut self, record: &TaskRecord) -> Checked {
        let id = record.spec.id;
        let seen = || "it was reopened".to_owned();
        let known = self.known(id, seen)?;
        let may = known.ended.is_some_and(|state| state != State::Succeeded);
        check("I5", id, may, || known.beside(seen()))?;
        known.limit = known.attempt + known.max_attempts;
        (known.ended, known.last) = (None, None);
        known.attempt += 1;
        self.read(record)
    }

    /// The record of a task was read.
    ///
    /// # Errors
    /// I2 to I6.
    pub fn read(&mut self, record: &TaskRecord) -> Checked {
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
        if let Some(last) = known.last.as_ref().filter(|last| last.state.is_terminal()) {
            check("I2", id, same_end(last, record), told)?;
        }
        if let Some(ended) = known.ended {
            check("I3", id, record.state == ended, told)?;
        }
        check("I4", id, known.is_attempt(record.attempt), told)?;
        let failed: Vec<u32> = record
            .attempts
            .iter()
            .map(|failed| failed.attempt)
            .collect();
        let in_order = failed.is_sorted_by(|a, b| a < b);
        let within = failed
            .iter()
            .all(|attempt| (1..=record.attempt).contains(attempt));
        check("I4", id, in_order && within, || {
            format!("{}, failed attempts {failed:?}", told())
        })?;
        let forward = record.attempt >= known.attempt && record.dispatch >= known.dispatch;
        check("I5", id, forward, told)?;
        if let Some(last) = &known.last {
            check("I5", id, is_move(last, record), told)?;
        }
        (known.attempt, known.dispatch) = (record.attempt, record.dispatch);
        known.last = Some(record.clone());
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

impl Known {
    fn is_attempt(&self, attempt: u32) -> bool {
        attempt >= 1 && attempt <= self.limit
    }

    fn beside(&self, seen: String) -> String {
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

/// Whether two records of a finished task tell the same end.
fn same_end(a: &TaskRecord, b: &TaskRecord) -> bool {
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
    end(a) == end(b) && a.result == b.result && a.error == b.error && a.attempts == b.attempts
}

/// Whether a task can have got from one record to a later one without being reopened. Steps between may not have
/// been seen.
fn is_move(from: &TaskRecord, to: &TaskRecord) -> bool {
    if from.state.is_terminal() {
        return from.state == to.state;
    }
    // What waits for its time leaves that wait by a dispatch only, or ends.
    let waits = |record: &TaskRecord| matches!(record.state, State::Scheduled | State::Retrying);
    let dispatched = to.dispatch > from.dispatch;
    to.state.is_terminal() || dispatched || !waits(from) || from.state == to.state
}

fn check(
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use goflow_core::store::Dispatch;

    use super::*;
    use crate::store::spec;

    fn record(spec: &TaskSpec, state: State, attempt: u32, dispatch: u32) -> TaskRecord {
        TaskRecord {
            spec: spec.clone(),
            state,
            attempt,
            max_attempts: spec.max_attempts,
            dispatch,
            result: None,
            error: None,
            attempts: Vec::new(),
            worker: None,
            crashes: 0,
            unserved: false,
            progress: None,
            due_at: None,
            started_at: None,
            finished_at: None,
            payload_omitted: false,
            result_omitted: false,
        }
    }

    fn broken(checked: Checked) -> &'static str {
        checked.expect_err("it does not hold").invariant
    }

    #[test]
    fn each_violation_is_found() {
        let (spec, fresh) = (spec(), Watch::default());
        let id = spec.id;
        let mut watch = fresh.clone();
        watch.accepted(&spec);
        let at = |state, attempt, dispatch| record(&spec, state, attempt, dispatch);
        let dispatch = |attempt, dispatch| Dispatch {
            spec: spec.clone(),
            attempt,
            dispatch,
        };
        assert_eq!(broken(fresh.clone().read(&at(State::Queued, 1, 1))), "I6");
        assert_eq!(broken(fresh.clone().dispatched(&dispatch(1, 1))), "I6");
        watch.keyed("k", id).expect("the first");
        assert_eq!(broken(watch.keyed("k", TaskId::new())), "I7");
        assert_eq!(broken(watch.clone().read(&at(State::Queued, 4, 4))), "I4");
        watch.read(&at(State::Retrying, 2, 1)).expect("legal");
        assert_eq!(broken(watch.clone().read(&at(State::Queued, 2, 1))), "I5");
        assert_eq!(broken(watch.clone().read(&at(State::Queued, 1, 1))), "I5");
        watch.dispatched(&dispatch(2, 2)).expect("legal");
        assert_eq!(broken(watch.clone().dispatched(&dispatch(1, 2))), "I8");
        let waits = Applied::Waits(Duration::ZERO);
        assert_eq!(broken(watch.clone().applied(id, 1, &waits)), "I8");
        watch.applied(id, 1, &Applied::Stale).expect("legal");
        let finished = Applied::Finished(State::Failed);
        watch.applied(id, 2, &finished).expect("legal");
        assert_eq!(broken(watch.clone().applied(id, 2, &finished)), "I3");
        assert_eq!(broken(watch.clone().ended(id, State::Cancelled)), "I3");
        assert_eq!(
            broken(watch.clone().read(&at(State::Succeeded, 2, 2))),
            "I3"
        );
        assert_eq!(broken(watch.clone().dispatched(&dispatch(2, 3))), "I5");
        let end = at(State::Failed, 2, 2);
        watch.read(&end).expect("legal");
        let error = Some("another".to_owned());
        assert_eq!(
            broken(watch.clone().read(&TaskRecord { error, ..end })),
            "I2"
        );
        watch.reopened(&at(State::Queued, 3, 2)).expect("legal");
        watch
            .dispatched(&dispatch(5, 3))
            .expect("its limit is raised");
        assert_eq!(broken(watch.dispatched(&dispatch(6, 4))), "I4");
    }
}
