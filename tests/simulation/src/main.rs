//! Repeats a seed and prints what happened, or looks for one that breaks an invariant.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use goflow_core::faults::Bug;
use goflow_simulation::shrink::shrink;
use goflow_simulation::sweep::sweep;
use goflow_simulation::{Part, Plan, run};

/// Runs the engine in a deterministic simulation.
#[derive(Debug, Parser)]
struct Args {
    /// The seed to run, or the first of those to run.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Runs so many seeds and prints the first that breaks an invariant, made small.
    #[arg(long)]
    seeds: Option<u64>,
    /// Plants a bug.
    #[arg(long)]
    bug: Vec<Bug>,
    /// Leaves out every part of the plan but these: t0 is a task, f0 a fault.
    #[arg(long, value_delimiter = ',')]
    only: Option<Vec<Part>>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let report = match args.seeds {
        None => {
            let plan = Plan::of(args.seed);
            let parts = args.only.map_or_else(|| plan.parts(), BTreeSet::from_iter);
            run(&plan.only(&parts), &args.bug)?
        }
        Some(count) => {
            let begun = Instant::now();
            let swept = sweep(args.seed, count, &args.bug);
            println!(
                "{} seeds with {} tasks in {:.1?}",
                swept.seeds,
                swept.tasks,
                begun.elapsed()
            );
            if let Some(error) = swept.error {
                return Err(error);
            }
            let Some(broken) = swept.broken else {
                return Ok(ExitCode::SUCCESS);
            };
            println!("seed {} breaks an invariant; made small:", broken.plan.seed);
            shrink(broken)?
        }
    };
    println!("{report}");
    Ok(ExitCode::from(u8::from(report.violation.is_some())))
}
