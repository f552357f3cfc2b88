//! Fuzzing of every decoder: what reads bytes that somebody else wrote.
//!
//! A [`Target`] takes bytes, hands them to the decoder that is in use, and panics when a promise is broken. Each has a
//! corpus of small files under `corpus/`. An ordinary test replays them and mutates them a little; `scripts/fuzz` goes
//! on for a minute a target, with what the decoders' code says of new ground as a guide.

pub mod check;
pub mod corpus;
pub mod mutate;
mod target;

pub use target::{ALL, Target, find};
