//! The command line of goflow: a client of the gateway, and a gateway of its own for development.
//!
//! Exit codes: 0 success, 1 failure, 2 a mistake in the call, 3 a wait that was over before the task, 4 no gateway
//! there. With `push --wait` and `wait`, 0 means that the task succeeded and 1 that it ended otherwise.

mod args;
mod client;
mod commands;
mod confirm;
mod failure;
mod output;
mod payload;
mod task;

pub use args::{Cli, Command, OutputFormat};
pub use client::Client;
#[doc(hidden)]
pub use commands::push_bodies;
pub use commands::run;
pub use failure::{Failure, exit_code};
