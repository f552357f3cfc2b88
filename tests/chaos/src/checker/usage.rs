//! I12: memory and file descriptors of gateways and workers are flat.
//!
//! Clients hold descriptors of gateways, so these are looked at when the last client has gone: only in lives that are
//! not over by then.

use std::time::Duration;

use super::{Facts, Finding};
use crate::clock::micros;
use crate::member::{Kind, Life};
use crate::usage::{Sample, least, median};

/// A life shorter than this has not settled.
const SETTLED: Duration = Duration::from_secs(30);

/// From this length on, a life is a long one.
const LONG: Duration = Duration::from_secs(600);

/// How much more the last quarter of a life may use than the second.
struct Room {
    factor: f64,
    /// In KiB.
    memory: f64,
    descriptors: f64,
}

/// Caches, pools and connections of clients still fill up.
const OF_SHORT: Room = Room {
    factor: 1.5,
    memory: 48.0 * 1024.0,
    descriptors: 48.0,
};

const OF_LONG: Room = Room {
    factor: 1.15,
    memory: 12.0 * 1024.0,
    descriptors: 12.0,
};

/// Checks each life of each member.
pub(super) fn check(facts: &Facts, findings: &mut Vec<Finding>) {
    for ((name, pid), samples) in facts.lives_in_use() {
        // Servers have caches of their own, which are theirs to keep.
        let Some(member) = facts.members.iter().find(|member| *member.name == *name) else {
            continue;
        };
        let is_over = |life: &Life| life.pid == pid && life.to.is_some();
        let has_clients = member.kind == Kind::Gateway && member.lives.iter().any(is_over);
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
            continue;
        };
        let length = last.at - first.at;
        if length < micros(SETTLED) {
            continue;
        }
        let room = if length >= micros(LONG) {
            OF_LONG
        } else {
            OF_SHORT
        };
        let quarter = samples.len() / 4;
        let (second, fourth) = (&samples[quarter..quarter * 2], &samples[quarter * 3..]);
        let mut compare = |what: &str, before: u64, after: u64, more: f64| {
            if after as f64 > before as f64 * room.factor + more {
                let seen =
                    format!("{what} of {name} (process {pid}) grew from {before} to {after}");
                findings.push(Finding::of_run("I12", seen));
            }
        };
        let (memory, descriptors) = (|s: &Sample| s.memory, |s: &Sample| s.descriptors);
        // What is kept is never given back; what a greedy task has for a moment is, some moments later.
        let (before, after) = (median(second, memory), least(fourth, memory));
        compare("memory in KiB", before, after, room.memory);
        if !has_clients {
            let before = median(second, descriptors);
            compare(
                "file descriptors",
                before,
                last.descriptors,
                room.descriptors,
            );
        }
    }
}
