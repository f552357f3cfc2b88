//! A real gateway on memory broker and memory store, asked over real sockets.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod attacks;
mod connections;
mod grpc;
mod grpc_operate;
mod inputs;
mod operate;
mod options;
mod process;
mod routes;
mod support;
mod tasks;
