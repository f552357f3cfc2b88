//! Real servers for the tests: NATS, Postgres and the goflow binaries on free ports in temporary directories.
//!
//! Every server is a child of the test, listens on loopback only, keeps its files in a directory of its own and
//! ends (by its process id) when it is dropped. Nothing is shared between tests and nothing is left behind. A
//! server that is not installed is an error that says what to run; a test is never skipped.
//!
//! Logs are shown when a test panics, or always with `GF_TEST_SHOW_LOGS` set.
//!
//! Starting and stopping block the calling thread for a moment. What depends on the test's own work
//! ([`eventually`], [`Process::wait_exit`]) is async.
//!
//! ```no_run
//! # async fn test() -> anyhow::Result<()> {
//! use goflow_test_servers::{Nats, Postgres, Process};
//! let (nats, postgres) = (Nats::start()?, Postgres::start()?);
//! let database = postgres.create_database()?;
//! let gateway = Process::gateway(["--broker", nats.url(), "--store", &database, "--migrate"])?;
//! let worker = Process::worker(["--broker", nats.url()])?;
//! println!("{} {}", gateway.url(), worker.pid());
//! # Ok(()) }
//! ```

mod child;
mod eventually;
mod install;
mod interrupt;
mod nats;
mod postgres;
mod process;

pub use eventually::{Condition, eventually};
pub use install::binary;
pub use interrupt::interrupted;
pub use nats::Nats;
pub use postgres::Postgres;
pub use process::Process;
