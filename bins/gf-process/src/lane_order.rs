//! How a worker chooses among priorities, as its settings say it.

use goflow_core::worker;

/// How a worker chooses among the priorities of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LaneOrder {
    /// The most urgent first, always: less urgent tasks may starve
    #[default]
    Strict,
    /// Each priority comes first twice as often as the one below it: none starves
    Weighted,
}

impl From<LaneOrder> for worker::LaneOrder {
    fn from(order: LaneOrder) -> Self {
        match order {
            LaneOrder::Strict => Self::Strict,
            LaneOrder::Weighted => Self::Weighted,
        }
    }
}
