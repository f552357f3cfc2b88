//! How much work a worker takes ahead of its slots.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How much work a worker takes ahead: what its slots are likely to need for this long.
const PREFETCH_WORTH: Duration = Duration::from_millis(50);

/// Most tasks taken ahead.
const MAX_PREFETCH: usize = 1_000;

/// Tasks that take no longer end sooner than another thread that sleeps wakes up and gets at them.
const INSTANT: Duration = Duration::from_micros(20);

/// How fast tasks run here, as a moving average: it decides how many to take ahead.
#[derive(Debug, Default)]
pub(super) struct Pace {
    micros: AtomicU64,
}

impl Pace {
    pub(super) fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_micros())
            .unwrap_or(u64::MAX)
            .clamp(1, 3_600_000_000);
        let before = self.micros.load(Ordering::Relaxed);
        // Up at once, down slowly: one long task is reason enough to take less.
        let next = if took > before {
            took
        } else {
            (before * 15 + took) / 16
        };
        self.micros.store(next.max(1), Ordering::Relaxed);
    }

    /// Whether tasks end before another thread could help; not while nothing is known.
    pub(super) fn is_instant(&self) -> bool {
        let micros = self.micros.load(Ordering::Relaxed);
        micros > 0 && u128::from(micros) <= INSTANT.as_micros()
    }

    pub(super) fn prefetch(&self, slots: usize) -> usize {
        match u128::from(self.micros.load(Ordering::Relaxed)) {
            0 => 0,
            micros => usize::try_from(PREFETCH_WORTH.as_micros() / micros)
                .unwrap_or(0)
                .saturating_mul(slots)
                .min(MAX_PREFETCH),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_tasks_are_taken_ahead_and_long_ones_are_not() {
        let pace = Pace::default();
        assert_eq!(pace.prefetch(5), 0, "nothing is known yet");
        assert!(!pace.is_instant(), "nothing is known yet");
        pace.note(Duration::from_micros(2));
        assert!(pace.is_instant());
        pace.note(Duration::from_millis(1));
        assert!(!pace.is_instant());
        assert_eq!(pace.prefetch(5), 250);
        pace.note(Duration::from_secs(1));
        assert_eq!(pace.prefetch(5), 0);
    }
}
