//! Fuzzes decoders for a while each; see `scripts/fuzz`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use goflow_fuzz::{ALL, Target, find};

mod coverage;
mod fuzz;
mod shrink;
mod supervise;

/// Feeds goflow's decoders with mutated inputs, guided by which of their branches were taken, and holds them to their
/// promises: no panic, no hang, errors of one short line, what was read can be written and read again.
#[derive(Debug, Parser)]
#[command(name = "scripts/fuzz", bin_name = "scripts/fuzz", after_help = after_help())]
struct Args {
    /// Which decoder; all of them if none is named
    #[arg(default_value = "all")]
    target: String,

    /// How long, for each target
    #[arg(default_value_t = 60)]
    seconds: u64,

    /// Runs this one input instead, and shows what happens
    #[arg(long, value_name = "FILE")]
    repeat: Option<PathBuf>,

    /// Where chance begins, for a run like an earlier one [default: another each time]
    #[arg(long)]
    seed: Option<u64>,

    /// Adds to the corpus the inputs that take the most branches which it does not, 20 at most
    #[arg(long)]
    grow: bool,

    /// Fuzzes in this process, which a failure may end
    #[arg(long, hide = true)]
    alone: bool,
}

fn after_help() -> String {
    let mut help = String::from("Targets:\n");
    for target in ALL {
        help += &format!("  {:<14}{}\n", target.name, target.about);
    }
    help + "\nAn input that breaks a promise is kept in target/fuzz/. Exit codes: 0 nothing found, 1 something found, 2 a \
            mistake in the call."
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let targets: Vec<&'static Target> = match &*args.target {
        "all" => ALL.iter().collect(),
        name => match find(name) {
            Some(target) => vec![target],
            None => {
                eprintln!("scripts/fuzz: there is no target {name}; --help lists them");
                return Ok(ExitCode::from(2));
            }
        },
    };
    let seed = args.seed.unwrap_or_else(rand::random);
    let time = Duration::from_secs(args.seconds);
    match (&args.repeat, &*targets) {
        (Some(file), [target]) => repeat(target, file),
        (Some(_), _) => bail!("--repeat needs the name of a target"),
        (None, [target]) if args.alone => fuzz::fuzz(target, time, seed, args.grow),
        (None, targets) => supervise::all(targets, time, seed, args.grow),
    }
}

fn repeat(target: &Target, file: &Path) -> Result<ExitCode> {
    let input = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    println!("{}: {}", target.name, input.escape_ascii());
    (target.run)(&input);
    println!("no promise is broken");
    Ok(ExitCode::SUCCESS)
}
