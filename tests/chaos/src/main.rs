//! The fault harness as a program.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use goflow_chaos::nemesis::Storm;
use goflow_chaos::run::Scenario;
use goflow_chaos::{report, tiers};
use goflow_core::faults::Bug;
use tokio_util::sync::CancellationToken;

/// Runs real gateways, workers, NATS and Postgres under load, kills, pauses and cuts them off, and checks what is
/// promised
///
/// Exits with 0 when nothing was found, or when a planted bug was; with 1 otherwise. Needs the binaries of the
/// workspace beside it, built with the feature `faults`: cargo build --workspace --bins --all-features
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true
)]
struct Args {
    /// Plant this bug in gateways and workers: the run passes if it is found
    #[arg(long, value_name = "BUG")]
    plant: Option<Bug>,

    #[command(subcommand)]
    tier: Option<Tier>,

    /// Where each run gets a directory for its report, its history and its logs
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "target/chaos"
    )]
    out: PathBuf,

    /// Keep history, ledger and logs of runs that passed, too
    #[arg(long, global = true)]
    keep: bool,

    /// Do nothing to the system: the load alone
    #[arg(long, global = true)]
    calm: bool,

    /// The seed, which says what is pushed and what is done to the system [default: a random one]
    #[arg(long, global = true, value_name = "NUMBER")]
    seed: Option<u64>,
}

#[derive(Debug, Subcommand)]
enum Tier {
    /// 20,000 tasks, 20 kills and 3 cuts for each of three fixed seeds, a random one, and one whose tasks have no row
    /// before their end, and two planted bugs; with --seed, that seed alone
    Ci {
        /// Tasks have no row before their end: gateways run with --record outcome
        #[arg(long, requires = "seed")]
        outcome: bool,
    },
    /// The same load on a cluster of three NATS servers with three copies, whose leaders are killed and step down
    Cluster,
    /// Everything there is: 100 kills, 20 partitions, 10 pauses, 5 full disks and 5 wiped brokers for a million tasks;
    /// then every planted bug. Needs root for the small disks
    Long {
        /// How many tasks; what is done to the system shrinks with them
        #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000)]
        tasks: u32,
    },
    /// A mixed load for hours with little done to the system: memory and file descriptors stay flat
    Soak {
        /// For how long
        #[arg(long = "for", value_name = "DURATION", value_parser = gf_process::duration, default_value = "2h")]
        over: Duration,
    },
    /// Every planted bug, one after the other
    Plants,
}

/// Threads of the load, the clients and the network.
const THREADS: usize = 8;

/// A run with its name and the command that repeats it.
struct Run {
    name: String,
    command: String,
    scenario: Scenario,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut runs = runs(&args);
    if args.calm {
        for run in &mut runs {
            run.scenario.storm = Storm::default();
            run.command.push_str(" --calm");
        }
    }
    gf_process::exit("chaos", run_all(&args, &runs))
}

fn runs(args: &Args) -> Vec<Run> {
    let seed = args
        .seed
        .unwrap_or_else(|| rand::random_range(0..1_000_000));
    let one = |tier: &str, more: &str, scenario: Scenario| Run {
        name: format!("{tier}-{}", scenario.seed),
        command: format!("chaos {tier}{more} --seed {}", scenario.seed),
        scenario,
    };
    let plant = |bug: Bug| Run {
        name: format!("plant-{bug}"),
        command: format!("chaos --plant {bug} --seed {seed}"),
        scenario: tiers::planted(bug, seed),
    };
    match (&args.tier, args.plant) {
        (None, bug) => bug.map(plant).into_iter().collect(),
        (Some(Tier::Plants), _) => Bug::ALL.map(plant).into(),
        (Some(Tier::Cluster), _) => vec![one("cluster", "", tiers::cluster(seed))],
        (Some(Tier::Long { tasks }), _) => {
            let long = one(
                "long",
                &format!(" --tasks {tasks}"),
                tiers::long(seed, *tasks),
            );
            std::iter::once(long).chain(Bug::ALL.map(plant)).collect()
        }
        (Some(Tier::Soak { over }), _) => {
            vec![one(
                "soak",
                &format!(" --for {}s", over.as_secs()),
                tiers::soak(seed, *over),
            )]
        }
        (Some(Tier::Ci { outcome }), _) => {
            let full = |seed| one("ci", "", tiers::ci(seed));
            let outcomes = |seed| Run {
                name: format!("ci-outcome-{seed}"),
                ..one("ci", " --outcome", tiers::ci_outcome(seed))
            };
            if args.seed.is_some() {
                return vec![if *outcome { outcomes(seed) } else { full(seed) }];
            }
            let seeds = tiers::CI_SEEDS.into_iter().chain([seed]).map(full);
            let plants = tiers::CI_PLANTS.map(plant);
            seeds.chain([outcomes(seed)]).chain(plants).collect()
        }
    }
}

fn run_all(args: &Args, runs: &[Run]) -> Result<()> {
    // More threads than cores: the proxies are the network, which is not to be late.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime
        .worker_threads(THREADS)
        .enable_all()
        .build()?
        .block_on(async {
            let stop = CancellationToken::new();
            tokio::spawn(stop_on_signal(stop.clone()));
            let mut failed = Vec::new();
            for run in runs {
                if !run
                    .run(args, &stop)
                    .await
                    .with_context(|| run.name.clone())?
                {
                    failed.push(run.command.as_str());
                }
            }
            anyhow::ensure!(failed.is_empty(), "did not pass: {}", failed.join("; "));
            Ok(())
        })
}

async fn stop_on_signal(stop: CancellationToken) {
    goflow_test_servers::interrupted().await;
    eprintln!("stopping everything that was started");
    stop.cancel();
}

impl Run {
    /// Runs it and writes its report; whether it passed.
    async fn run(&self, args: &Args, stop: &CancellationToken) -> Result<bool> {
        let dir = std::path::absolute(args.out.join(&self.name))?;
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        }
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        eprintln!("== {}", self.command);
        let outcome = self.scenario.run(&dir, stop).await?;
        report::write(&self.scenario, &self.command, &outcome, &dir)?;
        let findings = &outcome.verdict.findings;
        // A bug that was planted and is found is what is wanted.
        let planted = self.scenario.setup.plant.is_some();
        let passed = (findings.is_empty() != planted) && outcome.errors.is_empty();
        println!("{}", report::summary(&self.name, &outcome, passed));
        if !findings.is_empty() {
            println!("{}", report::stories(&outcome.facts, findings, 1));
        }
        for error in &outcome.errors {
            println!("the nemesis could not do its work: {error}");
        }
        if passed && !args.keep {
            tidy(&dir)?;
        }
        Ok(passed)
    }
}

/// Leaves the report only.
fn tidy(dir: &std::path::Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else if !report::is_part(&path) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
