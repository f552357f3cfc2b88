//! The fault harness: real gateways, workers, NATS and Postgres under a seeded load, with a seeded nemesis that
//! kills, pauses and cuts them off; a ledger outside both stores; and a checker of what is promised.
//!
//! The binary `chaos` runs it; `docs/reliability/README.md` says how, and what its figures mean.

pub mod broker;
pub mod checker;
pub mod client;
pub mod clock;
pub mod disk;
pub mod generator;
pub mod handler;
pub mod history;
pub mod ledger;
pub mod member;
pub mod nemesis;
pub mod proxy;
pub mod records;
pub mod report;
pub mod run;
pub mod system;
pub mod tiers;
pub mod usage;
pub mod work;
