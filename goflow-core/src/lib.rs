//! The engine of goflow, a distributed task queue.
//!
//! Everything goflow *does* lives here once, written against two ports: a [`broker`] that moves messages and
//! a [`store`] that keeps the record. Applications use the `goflow` crate, which adds the adapters.

mod ambient;
pub mod backoff;
pub mod broker;
pub mod content;
mod ctx;
pub mod engine;
mod error;
pub mod faults;
pub mod goflow;
pub mod handler;
mod id;
pub mod limits;
mod name;
pub mod outcome;
mod priority;
pub mod record;
pub mod signal;
pub mod state;
mod stop;
pub mod store;
mod task;
mod unique;
pub mod worker;

pub use backoff::Backoff;
pub use broker::Broker;
pub use content::Content;
pub use ctx::Ctx;
pub use error::Error;
pub use goflow::GoFlow;
pub use handler::{Handler, HandlerError, Handlers, Raw};
pub use id::{InvalidRoute, Route, StoreId, TaskId, WorkerId};
pub use name::{InvalidName, MAX_NAME_BYTES, Namespace, QueueName, TaskType};
pub use priority::{InvalidPriority, Priority};
pub use record::{TaskRecord, TaskResult};
pub use state::State;
pub use store::{KvStore, TaskStore};
pub use task::{DEFAULT_MAX_ATTEMPTS, Deadline, Start, Task, TaskMessage, TaskSpec};
pub use unique::{OnConflict, Unique};
pub use worker::Worker;
