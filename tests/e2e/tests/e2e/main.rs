//! End-to-end tests: real processes, real NATS, real Postgres. One file a theme.

mod bad_input;
mod both_away;
mod broker_away;
mod cluster;
mod crash;
mod dev;
mod drain;
mod examples;
mod lifecycle;
mod load;
mod main_job;
mod odd_gateways;
mod outcome_mode;
mod readme;
mod restarts;
mod serving;
mod store_away;
mod wiped;
