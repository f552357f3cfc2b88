//! What a worker is not to start, for as long as the broker remembers it.

use std::time::Duration;

use foldhash::HashMap;
use tokio::time::Instant;

use crate::broker::Tombstone;
use crate::id::TaskId;
use crate::task::TaskMessage;

/// How long a broker keeps tombstones.
const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The tombstones a worker knows.
#[derive(Debug, Default)]
pub(super) struct Tombs {
    known: HashMap<TaskId, (u32, Instant)>,
    /// How many there may be before old ones are looked for.
    room: usize,
}

impl Tombs {
    pub(super) fn note(&mut self, tombstone: Tombstone) {
        let now = Instant::now();
        let entry = self.known.entry(tombstone.task).or_insert((0, now));
        // An older one that comes late takes nothing back.
        *entry = (entry.0.max(tombstone.dispatch), now);
        if self.known.len() > self.room {
            self.known
                .retain(|_, (_, noted)| now.duration_since(*noted) < KEPT_FOR);
            self.room = (2 * self.known.len()).max(1_000);
        }
    }

    pub(super) fn covers(&self, message: &TaskMessage) -> bool {
        let known = self.known.get(&message.spec.id);
        known.is_some_and(|(dispatch, _)| message.dispatch <= *dispatch)
    }
}
