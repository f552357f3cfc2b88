//! What was counted and measured.

use std::collections::BTreeMap;
use std::time::Duration;

use goflow_core::State;
use serde::Serialize;

use super::reruns::AFTER_WIPE;
use super::{Case, Facts, Finding};
use crate::clock::{Micros, micros};
use crate::history::Answer;
use crate::nemesis::{Deed, Fault};

/// Added to twice the lease: what the p99 of recovery stays below.
const RECOVERY_SLACK: Duration = Duration::from_secs(5);

/// Figures of a run.
#[derive(Debug, Default, Serialize)]
pub struct Figures {
    /// Tasks whose push was answered with an id.
    pub accepted: u64,
    /// Tasks of which no client knows whether they were accepted.
    pub unknown: u64,
    /// Requests that got a clear no.
    pub refused: u64,
    /// Requests without an answer, or with one that says nothing.
    pub unanswered: u64,
    /// Requests in all.
    pub requests: u64,
    /// How the tasks ended.
    pub ended: BTreeMap<String, u64>,
    /// Runs of handlers.
    pub runs: u64,
    /// Runs of an attempt that had run before, by what made them.
    pub reruns: BTreeMap<Fault, u64>,
    /// Those that nothing explains.
    pub unexplained: u64,
    /// From the end of a worker to the next run of what it had in hand.
    pub recovery: Percentiles,
    /// The same of those whose broker lost its state meanwhile.
    pub recovery_after_wipe: Percentiles,
    /// What was done, by kind and target.
    pub deeds: BTreeMap<String, u64>,
    #[serde(skip)]
    pub(super) recoveries: Vec<Micros>,
    #[serde(skip)]
    pub(super) recoveries_after_wipe: Vec<Micros>,
}

/// Percentiles of some lengths of time, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many there were.
    pub count: usize,
    /// Half of them were shorter.
    pub p50: f64,
    /// 99 of 100 were shorter.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Percentiles {
    /// Of these lengths.
    pub fn of(mut lengths: Vec<Micros>) -> Self {
        lengths.sort_unstable();
        let at = |share: f64| {
            // Rounded to a place that there is.
            let place = (lengths.len().saturating_sub(1) as f64 * share).round() as usize;
            lengths
                .get(place)
                .map_or(0.0, |micros| *micros as f64 / 1_000.0)
        };
        Self {
            count: lengths.len(),
            p50: at(0.5),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

impl Figures {
    /// Counts one task.
    pub(super) fn count(&mut self, case: &Case<'_>) {
        let is_accepted = case.events.iter().any(|event| event.accepted().is_some());
        self.accepted += u64::from(is_accepted);
        self.unknown += u64::from(!is_accepted && !case.events.is_empty());
        for event in case.events {
            self.requests += 1;
            match event.answer {
                Answer::No(..) => self.refused += 1,
                Answer::Unknown(_) => self.unanswered += 1,
                Answer::Accepted(_) | Answer::Task(_) => {}
            }
        }
        for record in case.records {
            let state = record.seen.state;
            let name = if state.is_terminal() {
                state
            } else {
                State::Queued
            };
            *self.ended.entry(name.to_string()).or_default() += 1;
        }
        self.runs += case
            .ledger
            .iter()
            .filter(|entry| entry.end.is_none())
            .count() as u64;
    }

    pub(super) fn rerun(&mut self, deed: &Deed) {
        *self.reruns.entry(deed.fault).or_default() += 1;
    }

    /// What can be said only in the end.
    pub(super) fn finish(&mut self, facts: &Facts, findings: &mut Vec<Finding>) {
        self.recovery = Percentiles::of(std::mem::take(&mut self.recoveries));
        self.recovery_after_wipe = Percentiles::of(std::mem::take(&mut self.recoveries_after_wipe));
        let most = facts.load.lease * 2 + RECOVERY_SLACK;
        for (name, recovery, most) in [
            ("recovery", self.recovery, most),
            (
                "recovery after a wipe",
                self.recovery_after_wipe,
                AFTER_WIPE,
            ),
        ] {
            let (p99, most) = (recovery.p99, micros(most) as f64 / 1_000.0);
            if p99 >= most {
                let seen = format!("p99 is {p99} ms, {most} ms is the most");
                findings.push(Finding::of_run(name, seen));
            }
        }
        for deed in &facts.deeds {
            let kind = deed
                .target
                .trim_end_matches(|c: char| c == '-' || c.is_ascii_digit());
            let name = format!("{:?} {kind}", deed.fault).to_lowercase();
            *self.deeds.entry(name).or_default() += 1;
        }
    }

    /// Processes that were killed, or killed themselves at a point.
    pub fn kills(&self, facts: &Facts) -> usize {
        let is_kill = |deed: &&Deed| {
            matches!(deed.fault, Fault::Kill | Fault::KillPoint)
                || (deed.fault == Fault::Died && deed.note == "signal 9")
        };
        facts.deeds.iter().filter(is_kill).count()
    }
}
