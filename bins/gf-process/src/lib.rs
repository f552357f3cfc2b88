//! What every goflow process does at start and end: settings, logging, adapters by URL, signals; and where its memory
//! comes from.
//!
//! ```no_run
//! # #[derive(Debug, clap::Parser)] struct Args { #[arg(long)] broker: gf_process::BrokerUrl }
//! fn main() -> std::process::ExitCode {
//!     let args: Args = gf_process::parse();
//!     gf_process::exit("gf-example", run(args))
//! }
//!
//! fn run(args: Args) -> anyhow::Result<()> {
//!     gf_process::logging::init(gf_process::logging::Format::Text)?;
//!     tokio::runtime::Runtime::new()?.block_on(async {
//!         let connection = gf_process::adapters::broker(&args.broker).await?;
//!         // … serve …
//!         gf_process::shutdown::signal().await;
//!         drop(connection);
//!         Ok(())
//!     })
//! }
//! ```

pub mod adapters;
mod duration;
mod exit;
mod lane_order;
mod line;
pub mod logging;
pub mod memory;
pub mod settings;
pub mod shutdown;
mod store;
mod url;
mod worker;

pub use duration::duration;
pub use exit::{Usage, exit};
pub use lane_order::LaneOrder;
pub use line::one_line;
pub use settings::parse;
pub use store::StoreOptions;
pub use url::{BrokerUrl, StoreUrl};
pub use worker::{WorkerOptions, at_least_one};
