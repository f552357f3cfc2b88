//! The tasks in the order of lists.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

use crate::id::TaskId;

/// The ids, each with whether its task has ended.
///
/// An id begins with the time it was made at, and those of some milliseconds lie together: what is new is put behind the
/// others of its span, and nothing has to be moved for it.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The newest first.
    spans: BTreeMap<Reverse<u64>, Span>,
    known: usize,
    finished: usize,
}

/// The ids of a span of time, in their order.
#[derive(Debug, Default)]
struct Span {
    places: Vec<(TaskId, Mark)>,
    /// How many are forgotten.
    forgotten: usize,
}

/// What is known of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Live,
    Ended,
    /// Nothing: its place is left.
    Forgotten,
}

/// Which span an id is in. Four milliseconds hold a few thousand ids at full speed, and one at a few hundred a second. (While a
/// clock that was set back catches up, all ids are of the same millisecond.)
fn span_of(id: TaskId) -> Reverse<u64> {
    Reverse(id.millis() / 4)
}

impl Span {
    fn find(&self, id: TaskId) -> Result<usize, usize> {
        match self.places.last() {
            Some((last, _)) if *last >= id => self.places.binary_search_by_key(&id, |(id, _)| *id),
            _ => Err(self.places.len()),
        }
    }

    /// Marks a task as live, and takes it in if it has no place; gives the mark it had.
    fn add(&mut self, id: TaskId) -> Mark {
        match self.find(id) {
            Ok(at) => {
                let before = std::mem::replace(&mut self.places[at].1, Mark::Live);
                self.forgotten -= usize::from(before == Mark::Forgotten);
                before
            }
            Err(at) => {
                self.places.insert(at, (id, Mark::Live));
                Mark::Forgotten
            }
        }
    }

    /// Gives back the room of those that are forgotten, if it is most of it.
    fn shrink(&mut self) {
        if self.forgotten > self.places.len() / 2 {
            self.places.retain(|(_, mark)| *mark != Mark::Forgotten);
            self.places.shrink_to_fit();
            self.forgotten = 0;
        }
    }

    /// Those since `since` and before `before` that are not forgotten, each with whether its task has ended.
    fn tasks(
        &self,
        since: Option<TaskId>,
        before: Option<TaskId>,
    ) -> impl DoubleEndedIterator<Item = (TaskId, bool)> {
        let at = |end: TaskId| self.places.partition_point(|(id, _)| *id < end);
        let (from, to) = (since.map_or(0, at), before.map_or(self.places.len(), at));
        let places = self.places.get(from..to).unwrap_or_default();
        let known = places.iter().filter(|(_, mark)| *mark != Mark::Forgotten);
        known.map(|(id, mark)| (*id, *mark == Mark::Ended))
    }
}

impl Order {
    /// Takes in a task that is new, or live again.
    pub(super) fn add(&mut self, id: TaskId) {
        let span = span_of(id);
        let span = match self.spans.first_entry() {
            Some(newest) if *newest.key() == span => newest.into_mut(),
            _ => self.spans.entry(span).or_default(),
        };
        match span.add(id) {
            Mark::Live => {}
            Mark::Ended => self.finished -= 1,
            Mark::Forgotten => self.known += 1,
        }
    }

    /// Notes that a live task has ended.
    pub(super) fn end(&mut self, id: TaskId) {
        if let Some(span) = self.spans.get_mut(&span_of(id))
            && let Ok(at) = span.find(id)
            && span.places[at].1 == Mark::Live
        {
            span.places[at].1 = Mark::Ended;
            self.finished += 1;
        }
    }

    /// Forgets a task.
    pub(super) fn remove(&mut self, id: TaskId) {
        let key = span_of(id);
        let Some(span) = self.spans.get_mut(&key) else {
            return;
        };
        let Ok(at) = span.find(id) else {
            return;
        };
        match std::mem::replace(&mut span.places[at].1, Mark::Forgotten) {
            Mark::Live => {}
            Mark::Ended => self.finished -= 1,
            Mark::Forgotten => return,
        }
        self.known -= 1;
        span.forgotten += 1;
        span.shrink();
        if span.places.is_empty() {
            self.spans.remove(&key);
        }
    }

    /// How many have not ended.
    pub(super) fn live(&self) -> usize {
        self.known - self.finished
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
        let newest = before.map_or(Bound::Unbounded, |id| Bound::Included(span_of(id)));
        let oldest = since.map_or(Bound::Unbounded, |id| Bound::Included(span_of(id)));
        // An empty range is no range for a tree.
        let is_empty = since.is_some_and(|since| before.is_some_and(|before| since >= before));
        let spans = (!is_empty).then(|| self.spans.range((newest, oldest)));
        let spans = spans.into_iter().flatten();
        spans.flat_map(move |(_, span)| span.tasks(since, before).rev())
    }

    /// The oldest ones after `after`, the oldest first, each with whether it has ended.
    pub(super) fn after(&self, after: Option<TaskId>) -> impl Iterator<Item = (TaskId, bool)> {
        let oldest = after.map_or(Bound::Unbounded, |id| Bound::Included(span_of(id)));
        let spans = self.spans.range((Bound::Unbounded, oldest)).rev();
        spans.flat_map(move |(_, span)| {
            let tasks = span.tasks(after, None);
            tasks.skip_while(move |(id, _)| after == Some(*id))
        })
    }

    /// Those that have not ended.
    pub(super) fn live_ids(&self) -> impl Iterator<Item = TaskId> {
        let live = self.range(None, None).filter(|(_, ended)| !ended);
        live.map(|(id, _)| id)
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

    /// Against a plain tree, whatever the order in which they come and go.
    #[test]
    fn it_knows_what_a_tree_knows() {
        let mut ids: Vec<_> = (0..3_000_u128).map(|n| spread(n * 7)).collect();
        let mut order = Order::default();
        let mut tree = BTreeMap::new();
        let mut random = 1_u64;
        for _ in 0..20_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let id = ids[(random >> 33) as usize % ids.len()];
            match random >> 60 {
                0..6 => {
                    order.add(id);
                    tree.insert(id, false);
                }
                6..10 => {
                    order.end(id);
                    tree.entry(id).and_modify(|ended| *ended = true);
                }
                _ => {
                    order.remove(id);
                    tree.remove(&id);
                }
            }
        }
        let ended = tree.values().filter(|ended| **ended).count();
        assert_eq!(
            (order.live(), order.finished()),
            (tree.len() - ended, ended)
        );
        assert!(
            order
                .after(None)
                .eq(tree.iter().map(|(id, ended)| (*id, *ended)))
        );
        let (since, before) = (spread(5_000), spread(15_001));
        let within = tree.range(since..before).rev();
        let range = order.range(Some(since), Some(before));
        assert!(range.eq(within.map(|(id, ended)| (*id, *ended))));
        let places = |order: &Order| order.spans.values().map(|span| span.places.len()).sum();
        let places: usize = places(&order);
        assert!(
            places <= 2 * tree.len(),
            "{places} places for {}",
            tree.len()
        );
        ids.drain(..).for_each(|id| order.remove(id));
        assert!(order.spans.is_empty());
    }

    /// The id of this number, a hundred of them to a millisecond.
    fn spread(number: u128) -> TaskId {
        uuid::Uuid::from_u128(((number / 100) << 80) | (number % 100)).into()
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
