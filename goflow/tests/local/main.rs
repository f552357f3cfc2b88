//! Local mode: everything in this process.

#![expect(clippy::unwrap_used, reason = "in a test it says enough")]

use std::time::Duration;

use goflow::{GoFlow, HandlerError};
use serde::{Deserialize, Serialize};

mod blocking;
mod closing;
mod failures;
mod operations;
mod results;
mod waiting;

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
struct Input {
    #[serde(rename = "N")]
    n: i64,
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Output {
    doubled: i64,
}

async fn doubler(input: Input) -> Result<Output, HandlerError> {
    Ok(Output {
        doubled: input.n * 2,
    })
}

async fn started() -> GoFlow {
    let flow = GoFlow::local().handler("doubler", doubler).build().unwrap();
    flow.start().await.unwrap();
    flow
}
