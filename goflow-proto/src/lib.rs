//! The gRPC surface of goflow: messages, service and client.
//!
//! `proto/goflow/v1/goflow.proto` in this crate is the contract, for clients in any language.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use goflow_proto::client;
//! use goflow_proto::v1::{Content, PushTaskRequest, State, WaitResultRequest};
//!
//! let mut goflow = client::connect("http://127.0.0.1:8080").await?;
//! let push = PushTaskRequest {
//!     r#type: "echo".into(),
//!     payload: Some(Content { data: "{\"n\":1}".into(), content_type: "application/json".into() }),
//!     ..Default::default()
//! };
//! let id = goflow.push_task(push).await?.into_inner().id;
//! let result = goflow.wait_result(WaitResultRequest { id, timeout: None }).await?.into_inner();
//! assert_eq!(result.state(), State::Succeeded);
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "client")]
pub mod client;
mod time;
pub mod v1;

pub use prost_types::{Duration as Span, Timestamp as Moment};
pub use time::{OutOfRange, duration, duration_from, timestamp, timestamp_from};

/// The compiled `.proto` files, as server reflection wants them.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/goflow.v1.descriptors.bin"));

/// The metadata key under which an error carries its stable code.
pub const CODE_METADATA: &str = "goflow-code";

/// The metadata key under which a refused push carries the id of the task that has its unique key.
pub const EXISTING_METADATA: &str = "goflow-existing";
