//! Uniqueness: at most one task of a key at a time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Keeps a second task with the same key out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unique {
    /// The key, within the namespace: 1 to 255 bytes.
    pub key: String,
    /// How long the key is taken from the push on, whatever becomes of the task. None: as long as the task is
    /// unfinished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Duration>,
    /// What a push gets whose key is taken.
    #[serde(default)]
    pub on_conflict: OnConflict,
}

/// What a push gets whose unique key is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// The id of the task that has the key.
    #[default]
    Existing,
    /// An error that names that task.
    Reject,
}

impl Unique {
    /// One unfinished task of this key; a further push gets the id of that one.
    pub fn while_live(key: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            period: None,
            on_conflict: OnConflict::Existing,
        }
    }

    /// One task of this key within `period`; a further push gets the id of that one.
    pub fn within(key: impl Into<String>, period: Duration) -> Self {
        Self {
            key: key.into(),
            period: Some(period),
            on_conflict: OnConflict::Existing,
        }
    }

    /// A further push is an error instead.
    pub fn or_reject(mut self) -> Self {
        self.on_conflict = OnConflict::Reject;
        self
    }
}
