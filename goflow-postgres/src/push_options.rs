//! What few pushes ask for: one column, null for most.

use std::time::Duration;

use goflow_core::{Deadline, TaskSpec, Unique};
use serde::{Deserialize, Serialize};

/// What the column `options` holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PushOptions {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deadline: Option<Deadline>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unique: Option<Unique>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retention: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) heartbeat_timeout: Option<Duration>,
}

impl PushOptions {
    pub(crate) fn of(spec: &TaskSpec) -> Self {
        Self {
            deadline: spec.deadline,
            unique: spec.unique.clone(),
            retention: spec.retention,
            heartbeat_timeout: spec.heartbeat_timeout,
        }
    }

    /// Whether the end of the task frees its unique key.
    pub(crate) fn frees_key(&self) -> bool {
        self.unique
            .as_ref()
            .is_some_and(|unique| unique.period.is_none())
    }
}
