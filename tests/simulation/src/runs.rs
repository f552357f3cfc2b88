//! What handlers did: the ledger that the store is held against.

use std::collections::HashMap;

use goflow_conformance::invariants::Violation;
use goflow_core::TaskId;
use goflow_core::record::TaskRecord;

use crate::actor::Actor;

/// All calls of handlers, in their order.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    all: Vec<Run>,
    of_task: HashMap<TaskId, Vec<usize>>,
}

#[derive(Debug)]
struct Run {
    attempt: u32,
    worker: Actor,
    ended: Option<Ended>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Succeeded,
    Snoozed,
    Failed,
    /// It was dropped.
    Aborted,
}

impl Runs {
    /// A handler was called. The number of the run, and another one of the same attempt that is still at it.
    pub(crate) fn start(
        &mut self,
        task: TaskId,
        attempt: u32,
        worker: Actor,
    ) -> (usize, Option<Actor>) {
        let number = self.all.len();
        let others = self.of_task.entry(task).or_default();
        let beside = others
            .iter()
            .map(|other| &self.all[*other])
            .find(|other| other.ended.is_none() && other.attempt == attempt)
            .map(|other| other.worker);
        others.push(number);
        self.all.push(Run {
            attempt,
            worker,
            ended: None,
        });
        (number, beside)
    }

    /// It ended; whether it had not before.
    pub(crate) fn end(&mut self, number: usize, ended: Ended) -> bool {
        let run = &mut self.all[number];
        let first = run.ended.is_none();
        run.ended.get_or_insert(ended);
        first
    }

    /// Whether a run of this attempt has asked to be called again later.
    pub(crate) fn has_snoozed(&self, task: TaskId, attempt: u32) -> bool {
        let runs = self.of_task.get(&task).into_iter().flatten();
        runs.map(|run| &self.all[*run])
            .any(|run| run.attempt == attempt && run.ended == Some(Ended::Snoozed))
    }

    /// What is recorded as a success was returned by a run of that attempt.
    pub(crate) fn check_result(&self, record: &TaskRecord) -> Result<(), Violation> {
        let task = record.spec.id;
        let runs = self.of_task.get(&task).into_iter().flatten();
        let returned = runs.filter(|run| {
            let run = &self.all[**run];
            run.attempt == record.attempt && run.ended == Some(Ended::Succeeded)
        });
        let recorded = record.result.as_ref().map(|content| content.bytes.as_ref());
        let found = returned
            .map(|run| result(*run))
            .any(|result| recorded == Some(format!("\"{result}\"").as_bytes()));
        if found {
            return Ok(());
        }
        Err(Violation {
            invariant: "result",
            task,
            seen: format!(
                "attempt {} succeeded with {recorded:?}, which no run of it returned",
                record.attempt
            ),
        })
    }
}

/// What a run returns.
pub(crate) fn result(run: usize) -> String {
    format!("run {run}")
}
