//! The engine under seeded faults: sound as it is, and found out with each planted bug.

use std::time::Instant;

use goflow_core::faults::Bug;
use goflow_simulation::shrink::shrink;
use goflow_simulation::sweep::{Swept, sweep};
use goflow_simulation::{Plan, run};

/// Seeds that the engine must pass, unless `GF_SIMULATION_SEEDS` says otherwise.
const SEEDS: u64 = 10_000;

/// Seeds within which each bug must be found: about 1,000 tasks.
const SEEDS_FOR_A_BUG: u64 = 250;

fn seeds() -> u64 {
    match std::env::var("GF_SIMULATION_SEEDS") {
        Ok(seeds) => seeds.parse().expect("GF_SIMULATION_SEEDS is a number"),
        Err(_) => SEEDS,
    }
}

fn swept(swept: Swept) -> Swept {
    if let Some(error) = swept.error {
        panic!("the simulation fails: {error:#}");
    }
    swept
}

#[test]
fn the_engine_is_sound() {
    let begun = Instant::now();
    let swept = swept(sweep(0, seeds(), &[]));
    println!(
        "{} seeds with {} tasks in {:.1?}",
        swept.seeds,
        swept.tasks,
        begun.elapsed()
    );
    if let Some(broken) = swept.broken {
        panic!("\n{}", shrink(broken).expect("it ran before"));
    }
}

/// The smallest history in which this bug shows breaks one of these.
#[track_caller]
fn finds(bug: Bug, expected: &[&str]) {
    let swept = swept(sweep(0, SEEDS_FOR_A_BUG, &[bug]));
    let Some(broken) = swept.broken else {
        panic!(
            "{bug} is not found in {} seeds with {} tasks",
            swept.seeds, swept.tasks
        );
    };
    let small = shrink(broken).expect("it ran before");
    println!(
        "{bug} is found after {} seeds with {} tasks:\n{small}",
        swept.seeds, swept.tasks
    );
    let violation = small.violation.as_ref().expect("it is still broken");
    assert!(expected.contains(&violation.invariant), "{small}");
    let healthy = run(&small.plan, &[]).expect("it runs without the bug too");
    assert!(healthy.violation.is_none(), "not of the bug:\n{healthy}");
}

#[test]
fn finds_an_ack_before_the_commit() {
    finds(Bug::AckBeforeCommit, &["I1"]);
}

#[test]
fn finds_an_unfenced_outcome() {
    finds(Bug::UnfencedOutcome, &["I4", "I8"]);
}

#[test]
fn finds_a_lease_that_is_not_extended() {
    finds(Bug::LeaseNotExtended, &["overlap"]);
}

#[test]
fn finds_a_push_that_is_not_idempotent() {
    finds(Bug::PushNotIdempotent, &["I7"]);
}

#[test]
fn finds_that_reconcile_is_off() {
    finds(Bug::ReconcileOff, &["I1"]);
}

#[test]
fn finds_a_crash_counted_as_success() {
    finds(Bug::CrashCountedAsSuccess, &["result"]);
}

/// The same seed gives the same history, to the last event.
#[test]
fn a_seed_repeats_itself() {
    for seed in 0..1_000 {
        let plan = Plan::of(seed);
        let [first, second] = [(); 2].map(|()| run(&plan, &[]).expect("it runs"));
        assert!(
            first.fingerprint == second.fingerprint,
            "{first}\n\nand then:\n{second}"
        );
    }
}
