//! The smallest history that shows a finding: all about one task, and what was done to anybody meanwhile.

use std::fmt::Write;

use super::{Facts, Finding};
use crate::clock::Micros;

/// What was done this long before a task's first event may still matter.
const BEFORE: Micros = 3_000_000;

/// Tells a finding, line by line, with times in seconds from its first.
pub fn story(facts: &Facts, finding: &Finding) -> String {
    let mut told = format!("{}: {}\n", finding.invariant, finding.seen);
    let Some(n) = finding.n.filter(|n| *n < facts.load.tasks) else {
        return told;
    };
    let case = facts.case(n);
    let mut lines: Vec<(Micros, String)> = Vec::new();
    for event in case.events {
        let line = format!(
            "client  {:?} at gateway-{}, answered after {} ms: {:?}",
            event.asked,
            event.gateway + 1,
            (event.answered_at - event.asked_at) / 1_000,
            event.answer
        );
        lines.push((event.asked_at, line));
    }
    for entry in case.ledger {
        let what = entry
            .end
            .map_or("starts".to_owned(), |how| format!("{how:?}").to_lowercase());
        let members = facts.member_of();
        let who = members
            .get(&entry.run.worker)
            .map_or("nobody", |roll| &roll.name);
        let line = format!(
            "ledger  attempt {} {what}, run {} on {who}",
            entry.attempt, entry.run
        );
        lines.push((entry.at, line));
    }
    for record in case.records {
        let end = record
            .seen
            .finished_at
            .map_or(facts.healed_at, crate::clock::of);
        let line = format!(
            "store   {} dispatch {}: {:?}",
            record.id, record.dispatch, record.seen
        );
        lines.push((end, line));
    }
    let times = || lines.iter().map(|(at, _)| *at);
    let (from, to) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    let meanwhile = facts.deeds.iter().filter(|deed| {
        deed.from <= to && deed.to.unwrap_or(Micros::MAX) >= from.saturating_sub(BEFORE)
    });
    let deeds: Vec<_> = meanwhile
        .map(|deed| {
            let process = deed
                .pid
                .map(|pid| format!(" (process {pid})"))
                .unwrap_or_default();
            let lasted = deed.to.map_or(0, |to| (to - deed.from) / 1_000);
            let line = format!(
                "nemesis {:?} {}{process} {}, over after {lasted} ms",
                deed.fault, deed.target, deed.note
            );
            (deed.from, line)
        })
        .collect();
    lines.extend(deeds);
    lines.sort();
    // Writing into a String does not fail.
    let _ = writeln!(told, "task {n}: {:?}", facts.load.work(n));
    for (at, line) in lines {
        let seconds = (i128::from(at) - i128::from(from)) as f64 / 1e6;
        let _ = writeln!(told, "{seconds:+10.3} s  {line}");
    }
    told
}
