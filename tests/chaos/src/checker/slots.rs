//! I11: no worker runs more at once than it has slots.

use std::collections::HashMap;

use super::reruns::runs;
use super::{Facts, Finding};
use crate::clock::Micros;
use crate::member::Kind;

/// Checks all workers that note the end of every run themselves; an executable that is killed cannot.
pub(super) fn check(facts: &Facts, findings: &mut Vec<Finding>) {
    let members = facts.member_of();
    let mut changes: HashMap<u32, Vec<(Micros, i64)>> = HashMap::new();
    for case in facts.cases() {
        for ran in runs(case.ledger) {
            let known = members.get(&ran.run.worker);
            if known.is_some_and(|roll| roll.kind == Kind::Worker) {
                let changes = changes.entry(ran.run.worker).or_default();
                changes.push((ran.from, 1));
                changes.extend(ran.end.map(|(at, _)| (at, -1)));
            } else if known.is_none() {
                let seen = format!("{ran:?} ran in a process that is not of this run");
                findings.push(Finding::of("I6", case.n, None, seen));
            }
        }
    }
    for (pid, mut changes) in changes {
        let slots = members.get(&pid).map_or(0, |roll| roll.slots);
        // At the same time, ends come first.
        changes.sort_unstable();
        let (mut at_once, mut most) = (0, 0);
        for (_, change) in changes {
            at_once += change;
            most = most.max(at_once);
        }
        if most > i64::try_from(slots).unwrap_or(i64::MAX) {
            let name = members.get(&pid).map_or("nobody", |roll| &roll.name);
            let seen = format!("{name} (process {pid}) ran {most} at once with {slots} slots");
            findings.push(Finding::of_run("I11", seen));
        }
    }
}
