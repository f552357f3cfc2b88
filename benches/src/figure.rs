//! What was measured, as numbers for programs and as a table for people.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::usage::Usage;

/// One run of one side.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// Tasks that were done, each checked.
    pub tasks: usize,
    /// How long they took.
    pub seconds: f64,
    /// Tasks a second.
    pub per_second: f64,
    /// Microseconds on a processor for each task, by process.
    pub cpu_us_per_task: BTreeMap<String, f64>,
    /// Bytes sent to the disk for each task, by process.
    pub written_per_task: BTreeMap<String, f64>,
    /// Memory at the end in bytes, by process.
    pub memory_bytes: BTreeMap<String, u64>,
}

impl Run {
    pub(crate) fn new(tasks: usize, took: Duration, usage: &Usage) -> Self {
        let each = |total: f64| total / tasks.max(1) as f64;
        let cpu = usage.cpu_seconds().into_iter();
        let written = usage.written_bytes().into_iter();
        Self {
            tasks,
            seconds: took.as_secs_f64(),
            per_second: tasks as f64 / took.as_secs_f64(),
            cpu_us_per_task: cpu.map(|(name, s)| (name, each(s * 1e6))).collect(),
            written_per_task: written.map(|(name, b)| (name, each(b as f64))).collect(),
            memory_bytes: usage.memory_bytes(),
        }
    }
}

/// The middle of some numbers and how far they spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// None of no numbers.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            (sorted[half - 1] + sorted[half]) / 2.0
        } else {
            sorted[half]
        };
        Some(Self { median, min, max })
    }
}

/// One side of a comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Side {
    /// What it is.
    pub name: &'static str,
    /// Tasks a second.
    pub per_second: Spread,
    /// Every run, in order.
    pub runs: Vec<Run>,
}

impl Side {
    /// None without runs.
    pub fn new(name: &'static str, runs: Vec<Run>) -> Option<Self> {
        Some(Self {
            name,
            per_second: Spread::of(runs.iter().map(|run| run.per_second))?,
            runs,
        })
    }
}

/// goflow beside what it is measured by.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What was measured.
    pub case: String,
    /// The size of the payloads in bytes.
    pub payload_bytes: usize,
    /// What the product did.
    pub goflow: Side,
    /// What it is measured by.
    pub yardstick: Side,
    /// The middle of the ratios of neighbouring runs, and how far they spread.
    pub ratio: Spread,
    /// Processes that wanted to run in the last minute, as the system counts them: more than there are processors means
    /// a figure is not worth much.
    pub load_average: f64,
}

impl Figure {
    /// None without runs.
    pub fn new(case: String, payload_bytes: usize, goflow: Side, yardstick: Side) -> Option<Self> {
        let pairs = goflow.runs.iter().zip(&yardstick.runs);
        let ratio = Spread::of(pairs.map(|(a, b)| a.per_second / b.per_second))?;
        Some(Self {
            case,
            payload_bytes,
            goflow,
            yardstick,
            ratio,
            load_average: load_average(),
        })
    }
}

/// The load average of the last minute; zero when the system does not say.
pub fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

/// Prints a figure as one line of JSON.
///
/// # Errors
/// None for what is made here.
pub fn print_json(figure: &impl Serialize) -> Result<()> {
    println!(
        "{}",
        serde_json::to_string(figure).context("write a figure")?
    );
    Ok(())
}

/// The figures as a table.
pub fn table(figures: &[Figure]) -> String {
    let mut rows = vec![
        [
            "case",
            "goflow/s",
            "[min..max]",
            "yardstick/s",
            "[min..max]",
            "ratio",
            "[min..max]",
            "cpu µs: goflow | yardstick",
        ]
        .map(str::to_owned),
    ];
    for figure in figures {
        let (goflow, yardstick) = (&figure.goflow, &figure.yardstick);
        rows.push([
            figure.case.clone(),
            format!("{:.0}", goflow.per_second.median),
            range(goflow.per_second, 0),
            format!("{:.0}", yardstick.per_second.median),
            range(yardstick.per_second, 0),
            format!("{:.2}", figure.ratio.median),
            range(figure.ratio, 2),
            format!("{} | {}", cpu(goflow), cpu(yardstick)),
        ]);
    }
    aligned(&rows)
}

fn range(spread: Spread, digits: usize) -> String {
    format!("[{:.digits$}..{:.digits$}]", spread.min, spread.max)
}

/// The middle of the processor time of each process.
fn cpu(side: &Side) -> String {
    let mut by_name: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (name, time) in side.runs.iter().flat_map(|run| &run.cpu_us_per_task) {
        by_name.entry(name).or_default().push(*time);
    }
    let middle = by_name
        .into_iter()
        .filter_map(|(name, times)| Some(format!("{name} {:.1}", Spread::of(times)?.median)));
    middle.collect::<Vec<_>>().join(", ")
}

/// Rows of texts in columns.
pub fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_is_between_two() {
        let spread = Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (2.5, 1.0, 4.0));
        assert_eq!(Spread::of([5.0]).unwrap().median, 5.0);
        assert!(Spread::of([]).is_none());
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "bb"], ["ccc", "d"]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows), "a    bb\nccc  d");
    }
}
