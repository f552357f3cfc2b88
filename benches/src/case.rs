//! What can be compared.

use anyhow::Result;
use goflow::engine::Record;

use crate::args::Plan;
use crate::bare::pipeline::Course;
use crate::bare::{callers, channel, pipeline};
use crate::figure::{Figure, Run, Side};
use crate::product::{gateway, local, push, work};
use crate::rig::Rig;

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// Local mode, beside channels
    Local,
    /// The same, pushed from a task of the runtime that works it off, on both sides
    LocalTask,
    /// Pushing in a window and working at once, beside the bare pipeline
    Steady,
    /// The same with a row at the end only, beside the bare two hops
    Outcome,
    /// Bulk pushes until all is committed, beside the bare COPY and publish
    Bulk,
    /// Working off a full backlog, beside the bare pipeline
    Drain,
    /// Pushes one by one of many callers, beside a bare group commit
    Callers,
    /// Bulk pushes by RPC, beside the library's
    Rpc,
    /// Bulk pushes by HTTP, beside the library's
    Http,
}

impl Case {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 9] = [
        Self::Local,
        Self::LocalTask,
        Self::Steady,
        Self::Outcome,
        Self::Bulk,
        Self::Drain,
        Self::Callers,
        Self::Rpc,
        Self::Http,
    ];

    /// As it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::LocalTask => "local-task",
            Self::Steady => "steady",
            Self::Outcome => "outcome",
            Self::Bulk => "bulk",
            Self::Drain => "drain",
            Self::Callers => "callers",
            Self::Rpc => "rpc",
            Self::Http => "http",
        }
    }

    /// What goflow is measured by.
    pub fn yardstick(self) -> &'static str {
        match self {
            Self::Local | Self::LocalTask => "channels",
            Self::Rpc | Self::Http => "library",
            Self::Outcome => "bare two hops",
            _ => "bare pipeline",
        }
    }

    /// One run of goflow.
    ///
    /// # Errors
    /// What a server says; a wrong or missing result.
    pub async fn run_goflow(self, rig: &Rig, plan: &Plan) -> Result<Run> {
        match self {
            Self::Local => local::run(plan).await,
            Self::LocalTask => {
                let plan = *plan;
                tokio::spawn(async move { local::run(&plan).await }).await?
            }
            Self::Steady => work::steady(rig, plan, Record::Full).await,
            Self::Outcome => work::steady(rig, plan, Record::Outcome).await,
            Self::Bulk => push::bulk(rig, plan).await,
            Self::Drain => work::drain(rig, plan).await,
            Self::Callers => push::callers(rig, plan).await,
            Self::Rpc => gateway::rpc(rig, plan).await,
            Self::Http => gateway::http(rig, plan).await,
        }
    }

    /// One run of what goflow is measured by.
    ///
    /// # Errors
    /// As [`run_goflow`](Self::run_goflow).
    pub async fn run_yardstick(self, rig: &Rig, plan: &Plan) -> Result<Run> {
        match self {
            Self::Local => channel::run(plan).await,
            Self::LocalTask => {
                let plan = *plan;
                tokio::spawn(async move { channel::run(&plan).await }).await?
            }
            Self::Steady => pipeline::steady(rig, plan, Course::Full).await,
            Self::Outcome => pipeline::steady(rig, plan, Course::Outcome).await,
            Self::Bulk => pipeline::fill(rig, plan).await,
            Self::Drain => pipeline::drain(rig, plan).await,
            Self::Callers => callers::push(rig, plan).await,
            Self::Rpc | Self::Http => push::bulk(rig, plan).await,
        }
    }

    /// Both sides in turn, so many times, so that neither has the quiet hour to itself.
    ///
    /// # Errors
    /// As [`run_goflow`](Self::run_goflow).
    pub async fn compare(self, rig: &Rig, plan: &Plan, rounds: usize) -> Result<Figure> {
        let (mut goflow, mut yardstick) = (Vec::new(), Vec::new());
        for round in 1..=rounds.max(1) {
            yardstick.push(self.run_yardstick(rig, plan).await?);
            goflow.push(self.run_goflow(rig, plan).await?);
            let rate = |runs: &[Run]| runs.last().map_or(0.0, |run| run.per_second);
            eprintln!(
                "{} {round}/{rounds}: goflow {:.0}/s, {} {:.0}/s",
                self.name(),
                rate(&goflow),
                self.yardstick(),
                rate(&yardstick),
            );
        }
        let sides = (
            Side::new("goflow", goflow),
            Side::new(self.yardstick(), yardstick),
        );
        let (Some(goflow), Some(yardstick)) = sides else {
            anyhow::bail!("no runs");
        };
        Figure::new(
            self.name().to_owned(),
            plan.payload().len(),
            goflow,
            yardstick,
        )
        .ok_or_else(|| anyhow::anyhow!("no runs"))
    }
}
