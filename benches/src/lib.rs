//! The load generator: goflow beside the **bare pipeline**, which is the same way of a task with no engine in it.
//!
//! ```sh
//! cargo build --release -p goflow-bench -p gf-gateway
//! target/release/goflow-bench run
//! ```
//!
//! Every case is measured several times, goflow and the bare pipeline in turn, on servers that the bench starts for
//! itself: NATS with file storage, Postgres with `fsync`. Speeds of one machine say little; the **ratio** of both in one
//! run is what counts. Each run is checked: a task without its result, or with a wrong one, ends the bench without a
//! figure. The clock stops when the server has processed every ack.

pub mod args;
pub mod bare;
mod case;
pub mod check;
pub mod commands;
pub mod figure;
mod latency;
pub mod memory;
mod payload;
pub mod plot;
pub mod product;
pub mod rig;
pub mod scale;
mod streams;
mod usage;
pub mod worker;

pub use case::Case;
pub use payload::Payload;
