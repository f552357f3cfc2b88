//! Package `goflow.v1`, as generated.
#![allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    reason = "generated code; the .proto file holds its documentation"
)]

tonic::include_proto!("goflow.v1");
