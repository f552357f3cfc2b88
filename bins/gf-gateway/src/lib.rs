//! The gateway: HTTP and gRPC on one port over the engine.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use gf_gateway::Options;
//! use tokio_util::sync::CancellationToken;
//!
//! let options = Options { listen: "127.0.0.1:0".to_owned(), ..Options::default() };
//! let ready = |address| println!("listening on http://{address}");
//! gf_gateway::run(options, ready, CancellationToken::new()).await
//! # }
//! ```

mod app;
mod body;
mod finished;
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
mod grpc;
mod guard;
mod http;
mod json;
mod options;
mod problem;
mod server;
mod trace;

pub use gateway::run;
pub use json::text::on_one_line;
pub use options::{Options, Record};
