//! What was accepted has ended, once, in the way it had to; what was not submitted is not there.

use std::collections::BTreeSet;

use goflow_core::{State, TaskId};

use super::{Case, Facts, Finding, number};
use crate::history::{Answer, Asked, Event, Seen};
use crate::ledger::{Entry, How};
use crate::work::{AttemptEnd, Outcome, Work};

/// Runs without an end after which a task may be taken for one that kills its workers.
const CRASHES: usize = 5;

/// Checks one task.
pub(super) fn check(facts: &Facts, case: &Case<'_>, findings: &mut Vec<Finding>) {
    let work = facts.load.work(case.n);
    let mut found = |invariant: &str, task: Option<TaskId>, seen: String| {
        findings.push(Finding::of(invariant, case.n, task, seen));
    };
    let accepted: BTreeSet<TaskId> = case.events.iter().filter_map(Event::accepted).collect();
    let known: BTreeSet<TaskId> = accepted
        .iter()
        .copied()
        .chain(case.records.iter().map(|record| record.id))
        .chain(case.ledger.iter().map(|entry| entry.task))
        .collect();
    if known.len() > 1 {
        let keyed = case
            .events
            .iter()
            .any(|event| event.asked == Asked::PushKeyed);
        let invariant = if keyed { "I7" } else { "I6" };
        found(invariant, None, format!("one task has the ids {known:?}"));
    }
    let pushes = || case.events.iter().filter(|event| event.asked.is_push());
    let refused = pushes().all(|event| matches!(event.answer, Answer::No(..)));
    if refused && !known.is_empty() {
        found(
            "I6",
            known.first().copied(),
            "every push of it was refused, yet it is there".into(),
        );
    }
    for id in accepted {
        let mut records = case.records.iter().filter(|record| record.id == id);
        match (records.next(), records.next()) {
            (None, _) => found(
                "I1",
                Some(id),
                "accepted and lost: the store does not know it".into(),
            ),
            (Some(_), Some(_)) => found("I3", Some(id), "the store has it twice".into()),
            (Some(record), None) => {
                for (invariant, seen) in ended(&work, case, &record.seen, id) {
                    found(invariant, Some(id), seen);
                }
            }
        }
    }
}

/// What there is and nobody pushed.
pub(super) fn check_strangers(facts: &Facts, findings: &mut Vec<Finding>) {
    for entry in facts
        .ledger
        .iter()
        .filter(|entry| !facts.is_ours(entry.n, entry.seed))
    {
        let seen = format!("{entry:?} ran, and nobody pushed it");
        findings.push(Finding::of("I6", entry.n, Some(entry.task), seen));
    }
    let ours = |job: &crate::work::Job| facts.is_ours(job.n, job.seed);
    let strange = |record: &&crate::records::Record| !record.job.as_ref().is_some_and(ours);
    for record in facts.records.iter().filter(strange) {
        let seen = "the store has it, and nobody pushed it";
        findings.push(Finding::of("I6", number(record), Some(record.id), seen));
    }
}

/// Whether a task ended as it had to, and says so rightly.
fn ended(work: &Work, case: &Case<'_>, seen: &Seen, id: TaskId) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    let plan = work.job.attempt(seen.attempt);
    let asked = |asked| case.events.iter().any(|event| event.asked == asked);
    let told = || format!("it ended as {seen:?}; by plan, that attempt {plan:?}");
    match seen.state {
        State::Succeeded => {
            if plan != AttemptEnd::Returns {
                wrong.push(("result", told()));
            } else if let Err(what) = returned(work, case, seen, id) {
                wrong.push(("result", format!("{what}: {}", told())));
            }
        }
        State::Failed => {
            let error = seen.error.as_deref().unwrap_or_default();
            let right = match plan {
                AttemptEnd::FailsForGood(text) => error.contains(text),
                AttemptEnd::Fails(text) => {
                    error.contains(text) && seen.attempt >= seen.max_attempts
                }
                AttemptEnd::Returns => false,
            };
            if !right {
                wrong.push(("result", told()));
            }
        }
        State::Cancelled if asked(Asked::Cancel) => {}
        State::Cancelled => wrong.push(("result", format!("nobody cancelled it: {}", told()))),
        State::Expired if work.deadline.is_some() => {}
        State::Expired => wrong.push(("result", format!("it has no deadline: {}", told()))),
        State::Crashed => {
            let runs = interrupted(case, seen.attempt);
            if runs < CRASHES {
                wrong.push((
                    "result",
                    format!("only {runs} runs of it were cut short: {}", told()),
                ));
            }
        }
        _ => wrong.push(("I1", format!("it has not ended: it is {seen:?}"))),
    }
    if seen.state.is_terminal() {
        wrong.extend(attempts(work, case, seen));
    }
    wrong
}

/// Whether the result is that of a run of this very attempt.
fn returned(work: &Work, case: &Case<'_>, seen: &Seen, id: TaskId) -> Result<(), String> {
    let text = seen.result.as_deref().unwrap_or("nothing");
    let outcome: Outcome =
        serde_json::from_str(text).map_err(|_| format!("{text} is no result of a handler"))?;
    if (outcome.n, outcome.proof) != (work.job.n, work.job.proof()) {
        return Err("it is the result of another task".into());
    }
    let run = outcome.run.parse().map_err(|_| "no run".to_owned())?;
    let is_it = |entry: &&Entry| {
        (entry.task, entry.attempt, entry.run) == (id, seen.attempt, run)
            && entry.end == Some(How::Returned)
    };
    match case.ledger.iter().find(is_it) {
        Some(_) => Ok(()),
        None => Err(format!("no run {run} of it returned")),
    }
}

/// Runs of an attempt that have no end in the ledger.
fn interrupted(case: &Case<'_>, attempt: u32) -> usize {
    let entries = || case.ledger.iter().filter(|entry| entry.attempt == attempt);
    let starts = entries().filter(|entry| entry.end.is_none()).count();
    starts
        - entries()
            .filter(|entry| entry.end.is_some())
            .count()
            .min(starts)
}

/// Whether exactly the failed attempts are told of, each with its error.
fn attempts(work: &Work, case: &Case<'_>, seen: &Seen) -> Option<(&'static str, String)> {
    let failed = if seen.state == State::Failed {
        seen.attempt
    } else {
        seen.attempt - 1
    };
    let told: Vec<u32> = seen
        .attempts
        .iter()
        .map(|attempt| attempt.attempt)
        .collect();
    if told != (1..=failed).collect::<Vec<_>>() {
        return Some((
            "I4",
            format!("attempts {told:?} failed, not 1 to {failed}: {seen:?}"),
        ));
    }
    for attempt in &seen.attempts {
        let right = match work.job.attempt(attempt.attempt) {
            AttemptEnd::Fails(text) | AttemptEnd::FailsForGood(text) => {
                attempt.error.contains(text)
            }
            AttemptEnd::Returns => false,
        };
        let ran = case
            .ledger
            .iter()
            .any(|entry| entry.attempt == attempt.attempt);
        if !right || !ran {
            return Some((
                "result",
                format!("{attempt:?} is not how that attempt fails: {seen:?}"),
            ));
        }
    }
    None
}
