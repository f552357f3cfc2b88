#![cfg_attr(all(feature = "nats", feature = "postgres", feature = "client"), doc = include_str!("../../README.md"))]
#![cfg_attr(
    not(all(feature = "nats", feature = "postgres", feature = "client")),
    doc = "A distributed task queue over NATS JetStream and Postgres, or in one process with neither."
)]

pub use goflow_core::*;

/// The broker over NATS JetStream.
#[cfg(feature = "nats")]
pub use goflow_nats as nats;

/// The store over Postgres.
#[cfg(feature = "postgres")]
pub use goflow_postgres as postgres;

/// The gRPC client of a gateway.
#[cfg(feature = "client")]
pub use goflow_proto as client;
