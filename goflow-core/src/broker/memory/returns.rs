//! When messages come back that are held: leased, or put back for later.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use tokio::time::Instant;

/// Entries that are kept although they count no more, before all such are dropped.
const MOST_OLD: usize = 64;

/// The times, each with the token of what comes back then. Most messages are acknowledged, or their lease begins anew,
/// long before: what does not count any more is left in, as long as it is no more than what does, for to take each out
/// by itself costs more.
#[derive(Debug, Default)]
pub(super) struct Returns {
    /// Those that were added in their order, as almost all are: leases are of one length.
    in_order: VecDeque<(Instant, u64)>,
    others: BinaryHeap<Reverse<(Instant, u64)>>,
}

impl Returns {
    /// Notes that `token` comes back at `due`. `held` are the messages held, and `counts` says which entries do.
    pub(super) fn add(
        &mut self,
        due: Instant,
        token: u64,
        held: usize,
        counts: impl Fn(Instant, u64) -> bool,
    ) {
        if self.len() > 2 * held + MOST_OLD {
            self.in_order.retain(|(due, token)| counts(*due, *token));
            self.others
                .retain(|Reverse((due, token))| counts(*due, *token));
        }
        let entry = (due, token);
        match self.in_order.back() {
            Some(last) if *last > entry => self.others.push(Reverse(entry)),
            _ => self.in_order.push_back(entry),
        }
    }

    /// The next one that counts.
    pub(super) fn next(&mut self, counts: impl Fn(Instant, u64) -> bool) -> Option<(Instant, u64)> {
        let counts = |(due, token): (Instant, u64)| counts(due, token);
        while self
            .in_order
            .pop_front_if(|entry| !counts(*entry))
            .is_some()
        {}
        while let Some(Reverse(entry)) = self.others.peek()
            && !counts(*entry)
        {
            self.others.pop();
        }
        let other = self.others.peek().map(|Reverse(entry)| entry);
        self.in_order
            .front()
            .into_iter()
            .chain(other)
            .min()
            .copied()
    }

    fn len(&self) -> usize {
        self.in_order.len() + self.others.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_counts_no_more_is_forgotten() {
        let (now, mut returns) = (Instant::now(), Returns::default());
        for token in 0..10_000 {
            let due = now + Duration::from_secs(token);
            // Nothing is held but the latest.
            returns.add(due, token, 1, |_, other| other + 1 == token);
        }
        assert!(returns.len() <= 2 + MOST_OLD + 1, "{}", returns.len());
        let last = (now + Duration::from_secs(9_999), 9_999);
        assert_eq!(returns.next(|_, token| token == 9_999), Some(last));
        assert_eq!(returns.next(|_, _| false), None);
    }

    #[test]
    fn the_soonest_comes_first() {
        let (now, mut returns) = (Instant::now(), Returns::default());
        for (token, seconds) in [(1, 3), (2, 1), (3, 2)] {
            returns.add(now + Duration::from_secs(seconds), token, 3, |_, _| true);
        }
        let next = |returns: &mut Returns, gone: &[u64]| {
            returns
                .next(|_, token| !gone.contains(&token))
                .map(|(_, token)| token)
        };
        assert_eq!(next(&mut returns, &[]), Some(2));
        assert_eq!(next(&mut returns, &[2]), Some(3));
        assert_eq!(next(&mut returns, &[2, 3, 1]), None);
    }
}
