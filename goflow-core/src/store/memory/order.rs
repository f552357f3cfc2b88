//! The tasks in the order of lists.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

use crate::id::TaskId;

/// The ids, the newest first, each with whether its task has ended: that changes in place, for every task ends.
///
/// A tree looks through each of its nodes from the front, and it is the newest that come and end all the time.
#[derive(Debug, Default)]
pub(super) struct Order {
    ended: BTreeMap<Reverse<TaskId>, bool>,
    finished: usize,
}

impl Order {
    /// Takes in a task that is new, or live again.
    pub(super) fn add(&mut self, id: TaskId) {
        if self.ended.insert(Reverse(id), false) == Some(true) {
            self.finished -= 1;
        }
    }

    /// Notes that a live task has ended.
    pub(super) fn end(&mut self, id: TaskId) {
        if let Some(ended) = self.ended.get_mut(&Reverse(id))
            && !std::mem::replace(ended, true)
        {
            self.finished += 1;
        }
    }

    /// Forgets a task.
    pub(super) fn remove(&mut self, id: TaskId) {
        // Mostly it is the oldest one.
        let ended = match self.ended.last_entry() {
            Some(oldest) if oldest.key().0 == id => Some(oldest.remove()),
            _ => self.ended.remove(&Reverse(id)),
        };
        if ended == Some(true) {
            self.finished -= 1;
        }
    }

    /// How many have not ended.
    pub(super) fn live(&self) -> usize {
        self.ended.len() - self.finished
    }

    /// How many have.
    pub(super) fn finished(&self) -> usize {
        self.finished
    }

    /// Those since `since` and before `before`, the newest first, each with whether it has ended.
    pub(super) fn range(
        &self,
        since: Option<TaskId>,
        before: Option<TaskId>,
    ) -> impl Iterator<Item = (TaskId, bool)> {
        let newest = before.map_or(Bound::Unbounded, |id| Bound::Excluded(Reverse(id)));
        let oldest = since.map_or(Bound::Unbounded, |id| Bound::Included(Reverse(id)));
        // An empty range is no range for a tree.
        let is_empty = since.is_some_and(|since| before.is_some_and(|before| since >= before));
        let range = (!is_empty).then(|| self.ended.range((newest, oldest)));
        range
            .into_iter()
            .flatten()
            .map(|(Reverse(id), ended)| (*id, *ended))
    }

    /// The oldest ones after `after`, the oldest first, each with whether it has ended.
    pub(super) fn after(&self, after: Option<TaskId>) -> impl Iterator<Item = (TaskId, bool)> {
        let after = after.map_or(Bound::Unbounded, |id| Bound::Excluded(Reverse(id)));
        let range = self.ended.range((Bound::Unbounded, after)).rev();
        range.map(|(Reverse(id), ended)| (*id, *ended))
    }

    /// Those that have not ended.
    pub(super) fn live_ids(&self) -> impl Iterator<Item = TaskId> {
        let live = self.ended.iter().filter(|(_, ended)| !**ended);
        live.map(|(Reverse(id), _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_have_ended_are_counted_once() {
        let mut order = Order::default();
        let ids = [TaskId::new(), TaskId::new()];
        let counts = |order: &Order| (order.live(), order.finished());
        ids.iter().for_each(|id| order.add(*id));
        order.end(ids[0]);
        order.end(ids[0]);
        order.end(TaskId::new());
        assert_eq!(counts(&order), (1, 1));
        assert!(order.live_ids().eq([ids[1]]));
        order.add(ids[0]);
        assert_eq!(counts(&order), (2, 0));
        order.end(ids[1]);
        ids.iter().rev().for_each(|id| order.remove(*id));
        assert_eq!(counts(&order), (0, 0));
    }

    #[test]
    fn a_range_has_its_oldest_and_not_its_end() {
        let mut order = Order::default();
        let mut ids = [(); 4].map(|()| TaskId::new());
        ids.sort_unstable();
        let [a, b, c, d] = ids;
        [c, a, d, b].iter().for_each(|id| order.add(*id));
        order.end(b);
        let range = |since, before| order.range(since, before).collect::<Vec<_>>();
        assert_eq!(range(Some(b), Some(d)), [(c, false), (b, true)]);
        assert_eq!(range(None, Some(b)), [(a, false)]);
        assert_eq!(range(Some(d), None), [(d, false)]);
        assert_eq!(
            [range(Some(b), Some(b)), range(Some(c), Some(b))],
            [vec![], vec![]]
        );
        assert!(order.after(Some(b)).eq([(c, false), (d, false)]));
        assert_eq!(order.after(None).next(), Some((a, false)));
    }
}
