//! The wait between a failed attempt and the next.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest wait that any backoff gives.
pub const MAX_BACKOFF: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a task waits after a failed attempt. Waits are spread by ±20 % so that tasks that failed
/// together do not come back together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// The same wait each time.
    Fixed(Duration),
    /// `first`, then twice as long each time, never more than `most`.
    Exponential {
        /// The wait after the first failure.
        first: Duration,
        /// The longest wait.
        most: Duration,
    },
    /// One wait an attempt; the last one repeats. An empty list waits not at all.
    List(Vec<Duration>),
}

impl Default for Backoff {
    /// Exponential from 1 s to 10 min.
    fn default() -> Self {
        Self::Exponential {
            first: Duration::from_secs(1),
            most: Duration::from_secs(600),
        }
    }
}

impl Backoff {
    /// The wait after the failure of `attempt` (from 1), with `jitter` in `0.0..1.0` choosing the spread.
    pub fn wait(&self, attempt: u32, jitter: f64) -> Duration {
        let failures = attempt.max(1) - 1;
        let exact = match self {
            Self::Fixed(wait) => *wait,
            Self::Exponential { first, most } => {
                first.saturating_mul(1_u32 << failures.min(31)).min(*most)
            }
            Self::List(waits) => waits
                .get(failures as usize)
                .or(waits.last())
                .copied()
                .unwrap_or_default(),
        };
        exact
            .min(MAX_BACKOFF)
            .mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn exponential_doubles_up_to_its_most() {
        let waits: Vec<_> = (1..=12)
            .map(|n| Backoff::default().wait(n, 0.5).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
    }

    #[test]
    fn lists_repeat_their_last_wait() {
        let list = Backoff::List(vec![SECOND, SECOND * 5]);
        assert_eq!(list.wait(1, 0.5), SECOND);
        assert_eq!(list.wait(2, 0.5), SECOND * 5);
        assert_eq!(list.wait(9, 0.5), SECOND * 5);
        assert_eq!(Backoff::List(vec![]).wait(1, 0.5), Duration::ZERO);
    }

    proptest::proptest! {
        #[test]
        fn jitter_stays_within_a_fifth(attempt in 1..u32::MAX, jitter in 0.0..1.0_f64) {
            let wait = Backoff::default().wait(attempt, jitter).as_secs_f64();
            let exact = Backoff::default().wait(attempt, 0.5).as_secs_f64();
            proptest::prop_assert!((wait - exact).abs() <= exact * 0.2 + 1e-6);
        }
    }
}
