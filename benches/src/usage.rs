//! What processes use: time on the processor, memory, the disk; from `/proc`.

use std::collections::BTreeMap;
use std::fs;

/// Ticks of a second, as `/proc` counts them on every architecture that Linux runs servers on.
const TICKS: f64 = 100.0;

/// A process, or a process and its children.
#[derive(Debug, Clone)]
struct Watched {
    name: String,
    pid: u32,
    with_children: bool,
}

/// The use of some processes since a moment.
#[derive(Debug, Clone)]
pub(crate) struct Usage {
    processes: Vec<Watched>,
    cpu: Vec<f64>,
    written: Vec<u64>,
}

impl Usage {
    /// Of these processes and their children, and of this one alone as `client`, from now on.
    pub(crate) fn since_now<'a>(processes: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let others = processes.into_iter().map(|(name, pid)| Watched {
            name: name.to_owned(),
            pid,
            with_children: true,
        });
        let this = Watched {
            name: "client".to_owned(),
            pid: std::process::id(),
            with_children: false,
        };
        let processes: Vec<_> = others.chain([this]).collect();
        Self {
            cpu: processes.iter().map(Watched::cpu_seconds).collect(),
            written: processes.iter().map(Watched::written_bytes).collect(),
            processes,
        }
    }

    /// Seconds on a processor since then, by name.
    pub(crate) fn cpu_seconds(&self) -> BTreeMap<String, f64> {
        let now = self.processes.iter().zip(&self.cpu);
        now.map(|(process, before)| (process.name.clone(), process.cpu_seconds() - before))
            .collect()
    }

    /// Bytes sent to the disk since then, by name. What the kernel has not written yet is counted when it is dirtied.
    pub(crate) fn written_bytes(&self) -> BTreeMap<String, u64> {
        let now = self.processes.iter().zip(&self.written);
        now.map(|(process, before)| {
            let written = process.written_bytes().saturating_sub(*before);
            (process.name.clone(), written)
        })
        .collect()
    }

    /// Memory now, by name, in bytes: what is resident, and for a process with children the sum of their proportional
    /// shares.
    pub(crate) fn memory_bytes(&self) -> BTreeMap<String, u64> {
        let now = self.processes.iter();
        now.map(|process| (process.name.clone(), process.memory_bytes()))
            .collect()
    }
}

impl Watched {
    fn all(&self) -> Vec<u32> {
        let mut pids = vec![self.pid];
        if self.with_children {
            pids.extend(children(self.pid));
        }
        pids
    }

    /// With that of the children that have ended.
    fn cpu_seconds(&self) -> f64 {
        let ticks = |pid: &u32| {
            let fields = stat(*pid);
            let counted = if self.with_children { 4 } else { 2 };
            // utime, stime, cutime, cstime follow eleven fields after the name.
            fields.iter().skip(11).take(counted).sum::<f64>()
        };
        self.all().iter().map(ticks).sum::<f64>() / TICKS
    }

    fn written_bytes(&self) -> u64 {
        let of = |pid: &u32| value(&format!("/proc/{pid}/io"), "write_bytes:");
        self.all().iter().map(of).sum()
    }

    fn memory_bytes(&self) -> u64 {
        let pids = self.all();
        let kib: u64 = match pids.as_slice() {
            [alone] => value(&format!("/proc/{alone}/status"), "VmRSS:"),
            family => family
                .iter()
                .map(|pid| value(&format!("/proc/{pid}/smaps_rollup"), "Pss:"))
                .sum(),
        };
        kib * 1024
    }
}

fn children(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let listed = listed.unwrap_or_default();
    listed.split_whitespace().flat_map(str::parse).collect()
}

/// The fields of `/proc/PID/stat` after the name, which may hold anything; the first, a letter, as zero.
fn stat(pid: u32) -> Vec<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = text.rsplit(')').next().unwrap_or_default();
    let fields = after_name.split_whitespace();
    fields.map(|field| field.parse().unwrap_or(0.0)).collect()
}

/// The number after a word in a file of `/proc`; zero when there is none.
fn value(path: &str, word: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(word));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted() {
        let usage = Usage::since_now([]);
        let begun = std::time::Instant::now();
        while begun.elapsed() < std::time::Duration::from_millis(100) {
            std::hint::black_box(value("/proc/self/status", "VmRSS:"));
        }
        assert!(usage.cpu_seconds()["client"] >= 0.01);
        assert!(usage.memory_bytes()["client"] > 1 << 20);
    }
}
