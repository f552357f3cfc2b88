//! Priorities: lanes of a queue.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::QueueName;

/// How urgent a task is among those of its queue: 0 to 3, where 3 is the most urgent. Default: 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Priority(u8);

/// A number that is no priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("priority is {0}, use 0 to 3 (3 is the most urgent)")]
pub struct InvalidPriority(u8);

impl Priority {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 4] = [Self(3), Self(2), Self(1), Self(0)];

    /// The priority as a number.
    pub fn get(self) -> u8 {
        self.0
    }

    /// The channel of the tasks with this priority in `queue`.
    pub fn lane(self, queue: &QueueName) -> String {
        format!("{queue}.{}", self.0)
    }

    /// Whether `lane` is the channel of the tasks with this priority in `queue`.
    pub(crate) fn is_lane(self, queue: &QueueName, lane: &str) -> bool {
        let priority = lane.strip_prefix(queue.as_str());
        let priority = priority.and_then(|rest| rest.strip_prefix('.'));
        priority.is_some_and(|priority| priority.as_bytes() == [b'0' + self.0])
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(1)
    }
}

impl TryFrom<u8> for Priority {
    type Error = InvalidPriority;
    fn try_from(number: u8) -> Result<Self, InvalidPriority> {
        if number <= 3 {
            Ok(Self(number))
        } else {
            Err(InvalidPriority(number))
        }
    }
}

impl From<Priority> for u8 {
    fn from(priority: Priority) -> u8 {
        priority.0
    }
}

impl fmt::Debug for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
