//! The report of a run: JSON for programs, Markdown and a plot for people.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::checker::{Facts, Figures, Finding, Percentiles, Roll, story};
use crate::clock::Micros;
use crate::nemesis::Deed;
use crate::run::{Outcome, Scenario};
use crate::usage::{Sample, median};

mod plot;

pub use plot::plot;

/// Findings that are told with their whole history.
const TOLD: usize = 5;

/// Deeds listed in the Markdown; the JSON has all.
const LISTED: usize = 60;

#[derive(Serialize)]
struct Json<'a> {
    seed: u64,
    command: &'a str,
    tasks: u32,
    seconds: f64,
    plant: Option<&'static str>,
    versions: &'a [String],
    passed: bool,
    ready_after_seconds: Option<f64>,
    drained_after_seconds: Option<f64>,
    kills: usize,
    figures: &'a Figures,
    findings: &'a [Finding],
    nemesis_errors: &'a [String],
    deeds: &'a [Deed],
    members: &'a [Roll],
    usage: Vec<Usage>,
}

/// What one life of a process used.
#[derive(Serialize)]
struct Usage {
    name: String,
    pid: u32,
    seconds: u64,
    memory_kib: Spread,
    descriptors: Spread,
}

/// The median of the second quarter of a life, its highest value and its last.
#[derive(Serialize)]
struct Spread {
    early: u64,
    most: u64,
    last: u64,
}

/// Writes `report.json`, `report.md`, `throughput.svg` and, if there is anything, `findings.txt` into a directory.
///
/// # Errors
/// When a file cannot be written.
pub fn write(scenario: &Scenario, command: &str, outcome: &Outcome, dir: &Path) -> Result<()> {
    let (facts, verdict) = (&outcome.facts, &outcome.verdict);
    let json = Json {
        seed: scenario.seed,
        command,
        tasks: scenario.tasks,
        seconds: scenario.over.as_secs_f64(),
        plant: scenario.setup.plant.map(|bug| bug.as_str()),
        versions: &outcome.versions,
        passed: verdict.findings.is_empty(),
        ready_after_seconds: facts.ready_in.map(|took| took.as_secs_f64()),
        drained_after_seconds: facts.drained_in.map(|took| took.as_secs_f64()),
        kills: verdict.figures.kills(facts),
        figures: &verdict.figures,
        findings: &verdict.findings,
        nemesis_errors: &outcome.errors,
        deeds: &facts.deeds,
        members: &facts.members,
        usage: usage(facts),
    };
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    };
    write("report.json", serde_json::to_string_pretty(&json)? + "\n")?;
    write("throughput.svg", plot(facts))?;
    write("report.md", markdown(&json, facts))?;
    if !verdict.findings.is_empty() {
        write("findings.txt", stories(facts, &verdict.findings, TOLD))?;
    }
    Ok(())
}

fn usage(facts: &Facts) -> Vec<Usage> {
    let lives = facts
        .lives_in_use()
        .into_iter()
        .map(|((name, pid), samples)| {
            let spread = |of: fn(&Sample) -> u64| Spread {
                early: median(&samples[samples.len() / 4..samples.len().div_ceil(2)], of),
                most: samples.iter().map(|sample| of(sample)).max().unwrap_or(0),
                last: samples.last().map_or(0, |sample| of(sample)),
            };
            let times = || samples.iter().map(|sample| sample.at);
            let length = times().max().unwrap_or(0) - times().min().unwrap_or(0);
            Usage {
                name: name.to_owned(),
                pid,
                seconds: length / 1_000_000,
                memory_kib: spread(|sample| sample.memory),
                descriptors: spread(|sample| sample.descriptors),
            }
        });
    lives.collect()
}

/// Whether a file of a run's directory belongs to the report.
pub fn is_part(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    ["report.json", "report.md", "throughput.svg", "findings.txt"].contains(&name)
}

/// The run in a few lines.
pub fn summary(name: &str, outcome: &Outcome, passed: bool) -> String {
    let (facts, verdict) = (&outcome.facts, &outcome.verdict);
    let figures = &verdict.figures;
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    for finding in &verdict.findings {
        *kinds.entry(finding.invariant.clone()).or_default() += 1;
    }
    let after = |took: Option<std::time::Duration>| match took {
        Some(took) => format!("{:.1} s", took.as_secs_f64()),
        None => "never".into(),
    };
    format!(
        "{name}: {}; {} accepted, {} killed, {} runs, {} repeated, recovery p99 {:.0} ms, ready after {}, drained after {}; \
         found: {}; {}",
        if passed { "passed" } else { "FAILED" },
        figures.accepted,
        figures.kills(facts),
        figures.runs,
        figures.reruns.values().sum::<u64>(),
        figures.recovery.p99,
        after(facts.ready_in),
        after(facts.drained_in),
        counts(&kinds),
        outcome.dir.display()
    )
}

/// The findings with the shortest histories, so many at most.
pub fn stories(facts: &Facts, findings: &[Finding], most: usize) -> String {
    let mut told: Vec<_> = findings
        .iter()
        .map(|finding| story(facts, finding))
        .collect();
    told.sort_by_key(String::len);
    told.truncate(most);
    told.join("\n")
}

fn markdown(json: &Json<'_>, facts: &Facts) -> String {
    let mut text = String::new();
    let figures = json.figures;
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    line(format!("# {} tasks, seed {}\n", json.tasks, json.seed));
    let verdict = if json.passed {
        "Nothing was found."
    } else {
        "**There are findings, see below.**"
    };
    line(format!("{verdict} Repeat it with `{}`.\n", json.command));
    line("| | |\n|---|---|".into());
    let mut row = |name: &str, value: String| line(format!("| {name} | {value} |"));
    row("versions", json.versions.join(", "));
    if let Some(plant) = json.plant {
        row("planted bug", plant.into());
    }
    row("load", format!("{:.0} s", json.seconds));
    row("accepted", figures.accepted.to_string());
    row("not known to be accepted", figures.unknown.to_string());
    row(
        "requests",
        format!(
            "{}, {} refused, {} unanswered",
            figures.requests, figures.refused, figures.unanswered
        ),
    );
    row("ended", counts(&figures.ended));
    row("runs of handlers", figures.runs.to_string());
    let reruns = figures
        .reruns
        .iter()
        .map(|(fault, count)| (format!("{fault:?}").to_lowercase(), *count));
    row("runs repeated, by cause", counts(&reruns.collect()));
    row(
        "runs repeated without a cause",
        figures.unexplained.to_string(),
    );
    let percentiles = |of: &Percentiles| {
        let Percentiles {
            count,
            p50,
            p99,
            max,
        } = of;
        format!("p50 {p50:.0} ms, p99 {p99:.0} ms, longest {max:.0} ms, of {count}")
    };
    row("recovery", percentiles(&figures.recovery));
    row(
        "recovery after a wiped broker",
        percentiles(&figures.recovery_after_wipe),
    );
    row(
        "network late by at most",
        format!("{} ms", facts.lag.as_millis()),
    );
    row("killed", json.kills.to_string());
    row("done to the system", counts(&figures.deeds));
    let after = |took: Option<f64>| took.map_or("never".into(), |took| format!("{took:.1} s"));
    row("ready after healing", after(json.ready_after_seconds));
    row("drained after healing", after(json.drained_after_seconds));
    line("\n![Throughput over the faults](throughput.svg)\n".into());
    if !json.findings.is_empty() {
        line(format!("## Findings: {}\n", json.findings.len()));
        line(format!(
            "```text\n{}```\n",
            stories(facts, json.findings, TOLD)
        ));
    }
    line("## Timeline\n".into());
    line("| s | what | to whom | |\n|---|---|---|---|".into());
    let began = began(facts);
    for deed in facts.deeds.iter().take(LISTED) {
        let at = (deed.from.saturating_sub(began)) as f64 / 1e6;
        line(format!(
            "| {at:.1} | {:?} | {} | {} |",
            deed.fault, deed.target, deed.note
        ));
    }
    if facts.deeds.len() > LISTED {
        line(format!(
            "\n{} more are in `report.json`.",
            facts.deeds.len() - LISTED
        ));
    }
    text
}

fn counts(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "none".into();
    }
    let each: Vec<_> = counts
        .iter()
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    each.join(", ")
}

/// When the load began.
fn began(facts: &Facts) -> Micros {
    crate::clock::of(facts.load.epoch)
}
