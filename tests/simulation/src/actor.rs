//! Who takes part.

use std::fmt;

/// An engine or a worker. It keeps its name when it is killed and started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Actor {
    /// An engine, by its number.
    Engine(usize),
    /// A worker, by its number.
    Worker(usize),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(number) => write!(f, "engine {number}"),
            Self::Worker(number) => write!(f, "worker {number}"),
        }
    }
}
