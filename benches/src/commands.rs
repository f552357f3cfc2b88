//! What each command does.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::args::{self, Cli, Command};
use crate::bare::limits;
use crate::case::Case;
use crate::figure::{Spread, aligned, load_average, print_json, table};
use crate::rig::Rig;
use crate::{check, latency, memory, scale, worker};

/// Runs a command.
///
/// # Errors
/// What a server says; a wrong or missing result.
pub async fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Run(args) => compare(&args).await,
        Command::Once(args) => {
            let rig = Rig::start()?;
            print_json(&match args.side {
                args::Side::Goflow => args.case.run_goflow(&rig, &args.plan).await?,
                args::Side::Yardstick => args.case.run_yardstick(&rig, &args.plan).await?,
            })
        }
        Command::Limits(args) => limit(&args).await,
        Command::Latency(args) => late(&args).await,
        Command::Memory(args) => memory::run(&args).await,
        Command::Scale(args) => scale::run(&args).await,
        Command::History(args) => scale::history(&args).await,
        Command::Profile(args) => profile(&args).await,
        Command::Check => check::run().await,
        Command::Worker(args) => worker::run(&args).await,
    }
}

async fn compare(args: &args::Run) -> Result<()> {
    let rig = Rig::start()?;
    let cases = if args.cases.is_empty() {
        &Case::ALL
    } else {
        args.cases.as_slice()
    };
    let mut figures = Vec::new();
    for case in cases {
        let figure = case.compare(&rig, &args.plan, args.rounds).await;
        let figure = figure.with_context(|| format!("measure {}", case.name()))?;
        print_json(&figure)?;
        figures.push(figure);
    }
    eprintln!("{}", table(&figures));
    Ok(())
}

async fn limit(args: &args::Limits) -> Result<()> {
    let rig = Rig::start()?;
    let mut rates: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for _ in 0..args.rounds.max(1) {
        for limit in limits::all(&rig, &args.plan).await? {
            rates.entry(limit.case).or_default().push(limit.per_second);
        }
    }
    let mut rows = vec![["case", "per second", "[min..max]"].map(str::to_owned)];
    for (case, rates) in rates {
        let Some(spread) = Spread::of(rates) else {
            continue;
        };
        print_json(
            &serde_json::json!({ "case": case, "per_second": spread, "load_average": load_average() }),
        )?;
        rows.push([
            case.to_owned(),
            format!("{:.0}", spread.median),
            format!("[{:.0}..{:.0}]", spread.min, spread.max),
        ]);
    }
    eprintln!("{}", aligned(&rows));
    Ok(())
}

async fn late(args: &args::Latency) -> Result<()> {
    let rig = Rig::start()?;
    let heads = [
        "case", "rate/s", "tasks", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "pushed", "started",
        "read",
    ];
    let mut rows = vec![heads.map(str::to_owned)];
    for rate in &args.rate {
        for latency in [
            latency::engines(&rig, &args.plan, *rate, args.duration()).await?,
            latency::gateways(&rig, &args.plan, *rate, args.duration()).await?,
        ] {
            print_json(&latency)?;
            let part = |of: fn(latency::Parts) -> f64| {
                latency
                    .parts
                    .map_or_else(String::new, |parts| format!("{:.2}", of(parts)))
            };
            rows.push([
                latency.case.to_owned(),
                rate.to_string(),
                latency.tasks.to_string(),
                format!("{:.2}", latency.p50_ms),
                format!("{:.2}", latency.p99_ms),
                format!("{:.2}", latency.p999_ms),
                format!("{:.2}", latency.max_ms),
                part(|parts| parts.pushed_ms),
                part(|parts| parts.started_ms),
                part(|parts| parts.read_ms),
            ]);
        }
    }
    eprintln!("{}", aligned(&rows));
    Ok(())
}

/// Runs a case once each way and shows what Postgres spent its time on.
async fn profile(args: &args::Profile) -> Result<()> {
    const STATEMENTS: &str = "
        select round(total_exec_time)::bigint, calls, rows, round((total_exec_time * 1000 / $N)::numeric, 2),
            wal_bytes / $N, left(regexp_replace(query, '\\s+', ' ', 'g'), 150)
        from pg_stat_statements where query !~ 'pg_stat_statements'
        order by total_exec_time desc limit 15";
    let rig = Rig::start_with_statistics()?;
    let sql = STATEMENTS.replace("$N", &args.plan.tasks.to_string());
    let mut figures = Vec::new();
    for goflow in [false, true] {
        rig.administrate("select pg_stat_statements_reset()")?;
        let run = if goflow {
            args.case.run_goflow(&rig, &args.plan).await?
        } else {
            args.case.run_yardstick(&rig, &args.plan).await?
        };
        println!(
            "{}: {:.0} tasks/s",
            if goflow {
                "goflow"
            } else {
                args.case.yardstick()
            },
            run.per_second
        );
        println!("total ms|calls|rows|µs a task|bytes of WAL a task|statement");
        println!("{}", rig.administrate(&sql)?);
        figures.push(run);
    }
    for run in figures {
        print_json(&run)?;
    }
    Ok(())
}
