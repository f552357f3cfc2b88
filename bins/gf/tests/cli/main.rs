//! The program `gf` against a gateway of the test's own.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod batch;
mod dev;
mod operating;
mod reading;
mod support;
mod waiting;
