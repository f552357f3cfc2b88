//! The store port of goflow over Postgres.
//!
//! Unfinished tasks live in `gf_task`, finished ones in `gf_history`, which is partitioned by how long a task is
//! kept and when it ended. People read both through the view `goflow_tasks`. Every change is a batch with one
//! commit, takes its rows in the order of their ids, and asks [`Live::next`](goflow_core::state::Live::next)
//! what an outcome does.

mod accept;
mod apply;
mod at_hand;
mod bind;
mod change;
mod claim;
mod columns;
mod connect;
mod error;
mod limit;
mod lookups;
mod migrate;
mod options;
mod pause;
mod push;
mod push_options;
mod read;
mod rows;
mod sql;
mod store;
mod version;

pub use connect::connect;
pub use migrate::{MigrationReport, migrate};
pub use options::{Options, Retention};
pub use push::{push_in, push_many_in};
pub use sqlx;
pub use store::PostgresStore;
pub use version::{OLDEST_SERVER, ServerVersion, server_version};

#[cfg(test)]
mod tests;
