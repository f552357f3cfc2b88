//! `gf bench`: what a deployment takes, through its gateway. Every result is read back; figures of a run with a wrong
//! one are not printed.

use std::io::{IsTerminal, stderr};
use std::sync::Arc;

use anyhow::Result;
use gf_process::shutdown;
use serde_json::json;

use crate::args::{Bench, OutputFormat};
use crate::client::Client;
use crate::failure::INTERRUPTED;
use crate::output::{self, Table};

mod latency;
mod load;
mod throughput;

use latency::Latency;
use load::Load;
use throughput::Throughput;

/// Measures, and prints all figures together.
pub(super) async fn run(client: Client, bench: Bench, format: OutputFormat) -> Result<u8> {
    tokio::select! {
        code = measure(client, bench, format) => code,
        _ = shutdown::signal() => {
            eprintln!("gf: interrupted; what was pushed is worked off all the same");
            Ok(INTERRUPTED)
        }
    }
}

async fn measure(client: Client, bench: Bench, format: OutputFormat) -> Result<u8> {
    let load = Arc::new(Load::new(client, bench));
    let bench = &load.bench;
    progress(&format!("{} tasks one by one", bench.tasks));
    let one_by_one = throughput::measure(&load, 1).await?;
    progress(&format!("{} tasks by {}", bench.tasks, bench.batch));
    let batches = throughput::measure(&load, bench.batch).await?;
    progress(&format!(
        "{} tasks a second for {}",
        bench.rate,
        humantime::format_duration(bench.measured_for)
    ));
    let latency = latency::measure(&load).await?;
    match format {
        OutputFormat::Json => output::json(&as_json(bench, &one_by_one, &batches, &latency)?)?,
        OutputFormat::Table => table(bench, &one_by_one, &batches, &latency)?,
    }
    Ok(0)
}

/// Tells whoever watches what is under way.
fn progress(text: &str) {
    if stderr().is_terminal() {
        eprintln!("gf: {text} …");
    }
}

fn as_json(
    bench: &Bench,
    one_by_one: &Throughput,
    batches: &Throughput,
    latency: &Latency,
) -> Result<String> {
    let throughput = |one: &Throughput| json!({"pushed_per_second": one.pushed, "finished_per_second": one.finished});
    let figures = json!({
        "tasks": bench.tasks, "callers": bench.callers, "batch": bench.batch, "payload_bytes": bench.payload,
        "one_by_one": throughput(one_by_one), "batches": throughput(batches),
        "latency": {
            "tasks_per_second": bench.rate, "tasks": latency.tasks,
            "p50_ms": latency.p50, "p99_ms": latency.p99, "p999_ms": latency.p999,
        },
    });
    Ok(serde_json::to_string(&figures)?)
}

fn table(
    bench: &Bench,
    one_by_one: &Throughput,
    batches: &Throughput,
    latency: &Latency,
) -> Result<()> {
    let mut rates = Table::new(["PUSHED", "CALLERS", "PUSHED/S", "FINISHED/S"]);
    for (how, one) in [
        ("one by one".to_owned(), one_by_one),
        (format!("by {}", bench.batch), batches),
    ] {
        rates.row([
            how,
            bench.callers.to_string(),
            format!("{:.0}", one.pushed),
            format!("{:.0}", one.finished),
        ]);
    }
    rates.print()?;
    output::line("")?;
    let mut times = Table::new(["TASKS/S", "TASKS", "P50 MS", "P99 MS", "P99.9 MS"]);
    times.row([
        bench.rate.to_string(),
        latency.tasks.to_string(),
        format!("{:.1}", latency.p50),
        format!("{:.1}", latency.p99),
        format!("{:.1}", latency.p999),
    ]);
    times.print()
}
