//! End-to-end tests: real processes, real NATS, real Postgres. One file a theme.

mod bad_input;
mod bench;
mod both_away;
mod broker_away;
mod cancel;
mod client;
mod cluster;
mod crash;
mod deadline;
mod dev;
mod drain;
mod examples;
mod load;
mod main_job;
mod odd_gateways;
mod outcome_mode;
mod push_options;
mod queues;
mod readme;
mod reports;
mod reruns;
mod restarts;
mod serving;
mod store_away;
mod wiped;
mod workers;
