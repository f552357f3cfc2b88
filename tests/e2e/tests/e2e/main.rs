//! End-to-end tests: real processes, real NATS, real Postgres. One file a theme.

mod bad_input;
mod cluster;
mod crash;
mod dev;
mod drain;
mod main_job;
mod outcome_mode;
mod readme;
mod restarts;
mod serving;
