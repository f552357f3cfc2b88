//! The broker in memory: channels of this process, gone with it. Messages are moved, never encoded.

use std::sync::Arc;
use std::time::Duration;

use super::Connection;
use crate::name::QueueName;
use crate::outcome::OutcomeBatch;
use crate::priority::Priority;
use crate::stop::Stop;
use crate::task::TaskMessage;

mod channel;
mod control;
mod queues;
mod returns;

use control::MemoryControl;
use queues::Queues;

/// How long a submit of outcomes waits for room: whoever applies them needs a moment, and a worker whose
/// outcome is refused can do nothing but try again.
const PATIENCE_FOR_RESULTS: Duration = Duration::from_secs(5);

/// What a broker in memory may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Most task messages of one priority in one queue, waiting and leased together; a submit beyond it is refused at once.
    /// Default: 1,000,000. Zero refuses every task.
    pub queue_capacity: usize,
    /// Most outcome messages on one route, waiting and leased together; a submit beyond it waits up to 5 s for
    /// room. Default: 1,000. Zero refuses every outcome.
    pub results_capacity: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue_capacity: 1_000_000,
            results_capacity: 1_000,
        }
    }
}

/// A new broker. Channels are made on first use; it lives as long as something holds on to it.
pub fn connect(options: Options) -> Connection {
    let closed = Stop::default();
    Connection {
        tasks: Arc::new(Queues::<TaskMessage>::new(
            options.queue_capacity,
            Duration::ZERO,
            is_lane,
            closed.clone(),
        )),
        results: Arc::new(Queues::<OutcomeBatch>::new(
            options.results_capacity,
            PATIENCE_FOR_RESULTS,
            |_| true,
            closed.clone(),
        )),
        control: Arc::new(MemoryControl::new(closed)),
    }
}

/// Whether this is `<queue>.<priority>`.
fn is_lane(name: &str) -> bool {
    let Some((queue, priority)) = name.split_once('.') else {
        return false;
    };
    let is_priority = |lane: &Priority| lane.to_string() == priority;
    queue.parse::<QueueName>().is_ok() && Priority::ALL.iter().any(is_priority)
}
