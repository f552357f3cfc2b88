//! Runs of what had run before: each needs somebody who was killed, paused or cut off with the task in hand.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use goflow_core::TaskId;

use super::{Case, Facts, Figures, Finding};
use crate::clock::{Micros, micros};
use crate::ledger::{Entry, How, Run};
use crate::nemesis::{Deed, Fault};

/// A run that ended this long before its worker was killed or cut off may not have been confirmed yet.
const UNCONFIRMED: Duration = Duration::from_secs(1);

/// What a worker had taken ahead before it was paused or cut off may start this long after.
const TAKEN_AHEAD: Duration = Duration::from_secs(2);

/// How long after the return of a wiped broker its tasks may still be dispatched again. A worker takes up to 15 s to
/// believe that nobody confirms its acks, and counts as the holder until then; what is held is looked at every 10 s;
/// and an outcome in the hands of a gateway that is killed then keeps the look back for 10 s, its lease.
pub(super) const AFTER_WIPE: Duration = Duration::from_secs(40);

/// One run of a task.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ran {
    pub(super) task: TaskId,
    pub(super) attempt: u32,
    pub(super) run: Run,
    pub(super) from: Micros,
    pub(super) end: Option<(Micros, How)>,
}

impl Ran {
    fn snoozed(&self) -> bool {
        self.end.is_some_and(|(_, how)| how == How::Snoozed)
    }
}

/// The runs of the entries of one task, in the order of their starts.
pub(super) fn runs(ledger: &[Entry]) -> Vec<Ran> {
    let starts = ledger.iter().filter(|entry| entry.end.is_none());
    let ran = |start: &Entry| {
        let its_end = |entry: &&Entry| entry.run == start.run && entry.task == start.task;
        let end = ledger
            .iter()
            .filter(its_end)
            .find_map(|entry| Some((entry.at, entry.end?)));
        Ran {
            task: start.task,
            attempt: start.attempt,
            run: start.run,
            from: start.at,
            end,
        }
    };
    starts.map(ran).collect()
}

/// The deeds that can make a worker lose what it holds.
pub(super) struct Workers<'a> {
    deeds: Vec<&'a Deed>,
    names: HashMap<u32, &'a Arc<str>>,
}

impl<'a> Workers<'a> {
    pub(super) fn new(facts: &'a Facts) -> Self {
        let names = facts.member_of();
        let names: HashMap<_, _> = names.iter().map(|(pid, roll)| (*pid, &roll.name)).collect();
        let is_worker = |deed: &&Deed| {
            let runs = facts.members.iter().filter(|roll| roll.kind.runs_tasks());
            let is_broker = deed.target.starts_with("nats");
            let harmless = matches!(deed.fault, Fault::Garbage | Fault::Cut | Fault::Slow);
            !harmless && (is_broker || runs.map(|roll| &roll.name).any(|name| *name == deed.target))
        };
        Self {
            deeds: facts.deeds.iter().filter(is_worker).collect(),
            names,
        }
    }

    /// Checks the runs of one task.
    pub(super) fn check(
        &self,
        case: &Case<'_>,
        figures: &mut Figures,
        findings: &mut Vec<Finding>,
    ) {
        let runs = runs(case.ledger);
        for (at, next) in runs.iter().enumerate() {
            let same = |prev: &&Ran| (prev.task, prev.attempt) == (next.task, next.attempt);
            let before: Vec<_> = runs[..at].iter().filter(same).collect();
            let Some((prev, older)) = before.split_last() else {
                continue;
            };
            if prev.snoozed() {
                continue;
            }
            match self.cause(prev, older, next) {
                Some(deed) => figures.rerun(deed),
                None => {
                    figures.unexplained += 1;
                    let task = Some(next.task);
                    let seen = format!(
                        "attempt {} ran again, though nobody who held it was killed, paused or cut off: first {prev:?} on {:?}, then {next:?} on {:?}",
                        next.attempt,
                        self.names.get(&prev.run.worker),
                        self.names.get(&next.run.worker)
                    );
                    findings.push(Finding::of("reruns", case.n, task, seen));
                }
            }
            self.recovery(prev, next, figures);
        }
    }

    /// What made the task be delivered again: the last deed that could. A run that snoozed belongs to another dispatch than the
    /// one after it: what it had in hand may come back behind that one, once.
    fn cause(&self, prev: &Ran, older: &[&Ran], next: &Ran) -> Option<&'a Deed> {
        let snoozed = older.last().copied().filter(|run| run.snoozed());
        let held = std::iter::once(prev).chain(snoozed);
        held.filter_map(|run| self.cause_between(run, next))
            .max_by_key(|deed| deed.from)
    }

    /// The last deed by which the first run's worker could lose the task, or the second one's be late.
    fn cause_between(&self, prev: &Ran, next: &Ran) -> Option<&'a Deed> {
        let (first, second) = (
            self.names.get(&prev.run.worker),
            self.names.get(&next.run.worker),
        );
        let can = |deed: &&&Deed| {
            let to = deed.to.unwrap_or(Micros::MAX);
            if deed.from > next.from {
                return false;
            }
            if deed.fault == Fault::Wipe {
                return next.from <= to.saturating_add(micros(AFTER_WIPE));
            }
            let on_all = deed.target.starts_with("nats");
            let is_held = |run: &Ran| {
                let until = run
                    .end
                    .map_or(Micros::MAX, |(at, _)| at + micros(UNCONFIRMED));
                run.from <= to.saturating_add(micros(TAKEN_AHEAD)) && until >= deed.from
            };
            let lost = (on_all || first == Some(&&deed.target)) && is_held(prev);
            let late = (on_all || second == Some(&&deed.target)) && is_held(next);
            lost || late
        };
        self.deeds
            .iter()
            .filter(can)
            .max_by_key(|deed| deed.from)
            .copied()
    }

    /// How long a task that was cut short waited for its next run, from the time when nothing was in its way.
    fn recovery(&self, prev: &Ran, next: &Ran, figures: &mut Figures) {
        let name = self.names.get(&prev.run.worker);
        let cut_short = |deed: &&&Deed| {
            let over = prev.end.map_or(Micros::MAX, |(at, _)| at);
            let of_worker = name == Some(&&deed.target);
            of_worker && prev.from <= deed.from && deed.from <= next.from && over > deed.from
        };
        let Some(deed) = self
            .deeds
            .iter()
            .filter(cut_short)
            .max_by_key(|deed| deed.from)
        else {
            return;
        };
        let broker = self
            .deeds
            .iter()
            .filter(|other| other.target.starts_with("nats"));
        let ends = broker.filter_map(|other| {
            let to = other.to.filter(|to| *to > deed.from && *to <= next.from)?;
            Some((to, other.fault))
        });
        let (mut since, mut wiped) = (deed.from, false);
        for (to, fault) in ends {
            since = since.max(to);
            wiped |= fault == Fault::Wipe;
        }
        let recoveries = match wiped {
            true => &mut figures.recoveries_after_wipe,
            false => &mut figures.recoveries,
        };
        recoveries.push(next.from - since);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;

    /// A run on the worker with this number, for half a second.
    fn ran(worker: u32, from: Micros, how: How) -> Ran {
        Ran {
            task: TaskId::new(),
            attempt: 1,
            run: Run { worker, number: 1 },
            from,
            end: Some((from + SECOND / 2, how)),
        }
    }

    #[test]
    fn what_a_run_that_snoozed_had_in_hand_may_come_back() {
        let names = ["worker-1", "worker-2"].map(Arc::<str>::from);
        let killed = Deed {
            from: 11 * SECOND,
            to: Some(13 * SECOND),
            fault: Fault::Kill,
            target: names[1].clone(),
            pid: Some(2),
            note: String::new(),
        };
        let workers = Workers {
            deeds: vec![&killed],
            names: (1..).zip(&names).collect(),
        };
        let [returned, next, later] = [14, 16, 18].map(|at| ran(1, at * SECOND, How::Returned));
        let [snoozed, stopped] = [How::Snoozed, How::Stopped].map(|how| ran(2, 10 * SECOND, how));
        assert_eq!(workers.cause(&returned, &[&snoozed], &next), Some(&killed));
        assert_eq!(workers.cause(&next, &[&snoozed, &returned], &later), None);
        // The run that returned was its second delivery: nobody has the first one in hand any more.
        assert_eq!(workers.cause(&returned, &[&stopped], &next), None);
    }
}
