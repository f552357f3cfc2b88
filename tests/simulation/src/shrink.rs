//! Makes a plan that breaks something small.

use crate::report::Report;
use crate::run::run;

/// Leaves out whatever can be left out of a plan that breaks an invariant, so that it still breaks the same one.
///
/// # Errors
/// What is wrong with the simulation itself.
pub fn shrink(report: Report) -> anyhow::Result<Report> {
    let Some(violation) = report.violation.clone() else {
        return Ok(report);
    };
    let mut smallest = report;
    loop {
        let before = smallest.plan.parts();
        for part in &before {
            let mut fewer = smallest.plan.parts();
            fewer.remove(part);
            let again = run(&smallest.plan.only(&fewer), &smallest.bugs)?;
            let is_same = |found: &Report| {
                let found = found.violation.as_ref();
                found.is_some_and(|found| found.invariant == violation.invariant)
            };
            if is_same(&again) {
                smallest = again;
            }
        }
        if smallest.plan.parts() == before {
            return Ok(smallest);
        }
    }
}
