//! Applying outcomes.

use super::Now;
use super::accept::has_nul;
use super::due::set_due;
use super::row::Row;
use super::tables::Tables;
use crate::ambient;
use crate::limits::clip_error;
use crate::outcome::{Outcome, Verdict};
use crate::record::FailedAttempt;
use crate::state::{Next, Policy, State};
use crate::store::{Applied, crash_error};

impl Tables {
    pub(super) fn apply(&mut self, outcome: &Outcome, policy: &Policy, now: Now) -> Applied {
        if let Some(reason) = unfit(outcome) {
            return Applied::Rejected(reason.to_owned());
        }
        let Some((row, index)) = self.take_out(outcome.task, || adopt(outcome)) else {
            return Applied::Stale;
        };
        let spec = &row.spec;
        let served = matches!(outcome.verdict, Verdict::Unserved)
            && policy
                .served
                .contains(&(spec.queue.clone(), spec.task_type.clone()));
        let next = row
            .live
            .next(outcome, &spec.backoff, served, ambient::chance());
        // The worker's clock says when it ended; what it says is bounded by the store's own.
        let mut ended = outcome
            .finished_at
            .clamp(now.shown - time::Duration::DAY, now.shown);
        let start = outcome.start();
        if next != Next::Stale {
            note(row, outcome);
        }
        match next {
            Next::Finish(state) => {
                if state == State::Crashed {
                    row.extra().error = Some(crash_error(row.live.starts));
                    ended = now.shown;
                }
                index.finish(row, state, ended, now);
                Applied::Finished(state)
            }
            Next::Wait {
                state,
                attempt,
                wait,
                unserved,
            } => {
                row.live.state = state;
                row.live.attempt = attempt;
                row.live.unserved = unserved;
                row.live.waiting = true;
                row.live.starts = 0;
                set_due(row, wait, now);
                index.put_back(row);
                Applied::Waits(wait)
            }
            Next::Started { starts } => {
                row.live.starts = starts;
                row.live.last_start = start;
                index.put_back(row);
                Applied::Noted
            }
            Next::Stale => {
                index.put_back(row);
                Applied::Stale
            }
        }
    }
}

/// The row of a task that had none, when the outcome carries it.
fn adopt(outcome: &Outcome) -> Option<Box<Row>> {
    let spec = outcome
        .spec
        .as_ref()
        .filter(|spec| spec.id == outcome.task)?;
    let mut row = Row::new(spec.clone(), outcome.dispatch);
    row.live.attempt = outcome.attempt;
    Some(row)
}

/// Why an outcome cannot be kept.
fn unfit(outcome: &Outcome) -> Option<&'static str> {
    if let Verdict::Succeeded(content) = &outcome.verdict
        && content.content_type.contains('\0')
    {
        return Some("the content type of the result contains NUL");
    }
    let spec = outcome.spec.as_deref()?;
    has_nul(spec).then_some("headers, tags or the content type of the task contain NUL")
}

/// What the row remembers of an outcome that applies.
fn note(row: &mut Row, outcome: &Outcome) {
    row.worker = Some(outcome.worker);
    row.started_at = outcome.started_at.or(row.started_at);
    match &outcome.verdict {
        Verdict::Succeeded(content) => {
            row.result = Some(content.clone());
            if let Some(extra) = row.extra_if_any() {
                extra.error = None;
            }
        }
        Verdict::Failed { error, .. } => {
            let error = clip_error(error);
            let extra = row.extra();
            extra.error = Some(error.clone());
            extra.attempts.push(FailedAttempt {
                attempt: outcome.attempt,
                error,
                worker: Some(outcome.worker),
                started_at: outcome.started_at,
                finished_at: outcome.finished_at,
            });
        }
        Verdict::Snoozed { .. } | Verdict::Started | Verdict::Released | Verdict::Unserved => {}
    }
}
