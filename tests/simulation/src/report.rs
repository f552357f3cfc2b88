//! What came of a simulation.

use std::fmt;
use std::time::Duration;

use goflow_conformance::invariants::Violation;
use goflow_core::faults::Bug;

use crate::plan::Plan;

/// A simulation that has run.
#[derive(Debug)]
pub struct Report {
    /// What was to happen.
    pub plan: Plan,
    /// The bugs that were planted.
    pub bugs: Vec<Bug>,
    /// What happened, and how long after the beginning.
    pub events: Vec<(Duration, String)>,
    /// The same for the same history.
    pub fingerprint: u64,
    /// The first invariant that did not hold.
    pub violation: Option<Violation>,
    /// How long it was in the simulation.
    pub lasted: Duration,
}

impl Report {
    /// The command that repeats it.
    pub fn command(&self) -> String {
        let mut command = format!(
            "cargo run -p goflow-simulation --all-features -- --seed {}",
            self.plan.seed
        );
        for bug in &self.bugs {
            command.push_str(&format!(" --bug {bug}"));
        }
        let parts = self.plan.parts();
        if parts != Plan::of(self.plan.seed).parts() {
            let parts: Vec<_> = parts.iter().map(ToString::to_string).collect();
            command.push_str(&format!(" --only {}", parts.join(",")));
        }
        command
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            seed,
            engines,
            workers,
            slots,
            lease,
            tasks,
            faults,
        } = &self.plan;
        writeln!(
            f,
            "seed {seed}: {engines} engines, {workers} workers of {slots} slots, leases of {lease:?}"
        )?;
        for task in tasks {
            writeln!(f, "  t{}: {task:?}", task.number)?;
        }
        for (number, fault) in faults {
            writeln!(f, "  f{number}: {fault:?}")?;
        }
        for (at, event) in &self.events {
            writeln!(f, "{:9.3} {event}", at.as_secs_f64())?;
        }
        match &self.violation {
            Some(violation) => writeln!(f, "{violation}")?,
            None => writeln!(f, "every invariant holds after {:?}", self.lasted)?,
        }
        write!(f, "again: {}", self.command())
    }
}
