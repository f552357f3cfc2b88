//! The contract of the two ports: suites that every adapter runs

pub mod broker;
pub mod dice;
pub mod invariants;
pub mod store;
