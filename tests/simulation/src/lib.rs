//! The engine in a deterministic simulation.
//!
//! Engines and workers as they are, over the memory adapters, in one thread on a paused clock: an hour takes as long
//! as what happens in it. A [`Plan`] is made from a seed: some tasks with options, what their handlers do, and
//! faults. Between each engine or worker and its servers stands a layer that makes calls fail before or after their
//! effect, late or twice, and servers and processes that go away. A [`Watch`](goflow_conformance::invariants::Watch)
//! at the store sees every effect in its order and holds the invariants against it.
//!
//! What breaks one is made [small](shrink::shrink) and printed with the command that repeats it.
#![cfg(feature = "faults")]

mod actor;
mod broker;
mod cast;
mod client;
mod control;
mod gate;
mod generate;
mod handler;
mod history;
mod lease;
mod panics;
mod plan;
mod report;
mod run;
mod runs;
mod server;
pub mod shrink;
mod store;
pub mod sweep;
mod world;

pub use actor::Actor;
pub use plan::{Fault, Part, Plan, TaskPlan};
pub use report::Report;
pub use run::run;
