//! The regression check: ratios only, with generous bounds, in less than a minute.

use anyhow::{Result, bail};

use crate::args::Plan;
use crate::case::Case;
use crate::figure::{Figure, print_json, table};
use crate::rig::Rig;

/// Runs of each side; the best pair counts, for noise only ever slows one of them down.
const ROUNDS: usize = 3;

/// What must be reached: a third of what was measured when this was written, with the profile that tests have.
const BOUNDS: [(Case, usize, f64); 3] = [
    (Case::Local, 100_000, 0.02),
    (Case::Steady, 15_000, 0.15),
    (Case::Bulk, 15_000, 0.20),
];

/// Fails when a ratio is below its bound.
///
/// # Errors
/// That; what a server says; a wrong or missing result.
pub async fn run() -> Result<()> {
    let rig = Rig::start()?;
    let mut figures: Vec<Figure> = Vec::new();
    let mut low = Vec::new();
    for (case, tasks, bound) in BOUNDS {
        let plan = Plan {
            tasks,
            ..Plan::default()
        };
        let figure = case.compare(&rig, &plan, ROUNDS).await?;
        print_json(&figure)?;
        if figure.ratio.max < bound {
            low.push(format!(
                "{}: {:.3}, {bound} is the least",
                case.name(),
                figure.ratio.max
            ));
        }
        figures.push(figure);
    }
    eprintln!("{}", table(&figures));
    if !low.is_empty() {
        bail!("slower than before: {}", low.join("; "));
    }
    Ok(())
}
