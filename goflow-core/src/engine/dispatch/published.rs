//! What was published, until the store is told.

use foldhash::HashMap;
use tokio::time::Instant;
use uuid::Uuid;

use crate::id::TaskId;

/// What a broker has, and the store has not been told of.
#[derive(Debug)]
pub(super) struct Published {
    /// Which broker: one that lost its state is another one afterwards.
    broker: Uuid,
    /// The latest dispatch of each task.
    pub(super) latest: HashMap<TaskId, Sent>,
    epoch: Instant,
}

/// A dispatch that the broker has. Small, for there are many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    dispatch: u32,
    /// In milliseconds since the epoch, modulo 49 days.
    at: u32,
}

impl Sent {
    /// Whether it is no younger than `until`, of the same kind.
    fn is_older_than(self, until: u32) -> bool {
        until.wrapping_sub(self.at) <= u32::MAX / 2
    }
}

impl Published {
    pub(super) fn new() -> Self {
        Self {
            broker: Uuid::nil(),
            latest: HashMap::default(),
            epoch: Instant::now(),
        }
    }

    /// Forgets what another broker had.
    pub(super) fn of(&mut self, broker: Uuid) -> &mut Self {
        if self.broker != broker {
            self.broker = broker;
            self.latest.clear();
        }
        self
    }

    fn millis(&self, at: Instant) -> u32 {
        at.saturating_duration_since(self.epoch).as_millis() as u32
    }

    pub(super) fn add(&mut self, at: Instant, id: TaskId, dispatch: u32) {
        let at = self.millis(at);
        self.latest.insert(id, Sent { dispatch, at });
    }

    /// Those that are no younger than `until`, in the order of their ids.
    pub(super) fn older_than(&self, until: Instant) -> Vec<(TaskId, u32)> {
        let until = self.millis(until);
        let old = self.latest.iter();
        let old = old.filter(|(_, sent)| sent.is_older_than(until));
        let mut old: Vec<_> = old.map(|(id, sent)| (*id, sent.dispatch)).collect();
        old.sort_unstable();
        old
    }

    fn has(&self, (id, dispatch): (TaskId, u32)) -> bool {
        let sent = self.latest.get(&id);
        sent.is_some_and(|sent| sent.dispatch == dispatch)
    }

    /// Those of them that it has still.
    pub(super) fn still(&self, group: &[(TaskId, u32)]) -> Vec<(TaskId, u32)> {
        group.iter().copied().filter(|one| self.has(*one)).collect()
    }

    /// Forgets those; not a later dispatch that there may be by now.
    pub(super) fn forget(&mut self, group: &[(TaskId, u32)]) {
        for one in group {
            if self.has(*one) {
                self.latest.remove(&one.0);
            }
        }
    }

    /// Gives back the room that a burst took.
    pub(super) fn shrink(&mut self) {
        self.latest.shrink_to(2 * self.latest.len());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_old_ones_are_told_unless_they_have_ended_or_were_dispatched_anew() {
        let mut published = Published::new();
        let now = published.epoch + 10 * SECOND;
        let mut ids = [TaskId::new(), TaskId::new(), TaskId::new()];
        ids.sort_unstable();
        for id in ids.iter().rev() {
            published.add(now, *id, 1);
        }
        published.add(now + 3 * SECOND, ids[0], 2);
        assert!(published.older_than(now - SECOND).is_empty());
        let old = published.older_than(now + SECOND);
        assert_eq!(old, [(ids[1], 1), (ids[2], 1)]);
        published.latest.remove(&ids[2]);
        assert_eq!(published.still(&old), [(ids[1], 1)]);
        published.forget(&[(ids[0], 1), (ids[1], 1)]);
        assert_eq!(published.older_than(now + 3 * SECOND), [(ids[0], 2)]);
        assert!(published.of(Uuid::nil()).has((ids[0], 2)));
        assert!(
            !published.of(Uuid::max()).has((ids[0], 2)),
            "another broker"
        );
    }

    #[test]
    fn times_go_round() {
        let sent = |at| Sent { dispatch: 1, at };
        assert!(sent(5).is_older_than(5) && sent(5).is_older_than(6));
        assert!(!sent(5).is_older_than(4));
        assert!(sent(u32::MAX).is_older_than(3), "49 days later");
        assert!(!sent(3).is_older_than(u32::MAX));
    }
}
