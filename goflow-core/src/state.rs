//! The states of a task, and the one function that holds the legal moves between them.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::backoff::{Backoff, MAX_BACKOFF};
use crate::faults::{self, Bug};
use crate::id::WorkerId;
use crate::limits::MAX_DELAY;
use crate::name::{QueueName, TaskType};
use crate::outcome::{Outcome, Verdict};

/// Started deliveries without an outcome after which a task has crashed.
pub const CRASH_LIMIT: u32 = 5;

/// The longest wait of a task whose type no worker serves.
pub const MAX_UNSERVED_WAIT: Duration = Duration::from_secs(60);

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Accepted, not due yet.
    Scheduled,
    /// Due: with the broker, or about to be.
    Queued,
    /// A worker is at it. Known from heartbeats only: a store never holds this state.
    Running,
    /// An attempt failed; the next one waits for its time.
    Retrying,
    /// Finished with a result.
    Succeeded,
    /// Finished: its last attempt failed.
    Failed,
    /// Finished: someone cancelled it.
    Cancelled,
    /// Finished: its workers kept dying.
    Crashed,
    /// Finished: its deadline passed.
    Expired,
}

impl State {
    /// Every state, in the order of a task's life.
    pub const ALL: [Self; 9] = [
        Self::Scheduled,
        Self::Queued,
        Self::Running,
        Self::Retrying,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Crashed,
        Self::Expired,
    ];

    /// Whether the task is finished.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Crashed | Self::Expired
        )
    }

    /// The state in lower case, as every surface shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Crashed => "crashed",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text that names no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no state: use scheduled, queued, running, retrying, succeeded, failed, cancelled, crashed or expired"
)]
pub struct UnknownState(String);

impl FromStr for State {
    type Err = UnknownState;
    fn from_str(text: &str) -> Result<Self, UnknownState> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| UnknownState(text.chars().take(64).collect()))
    }
}

/// The part of a live row that decides what an outcome does to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    /// `scheduled`, `queued` or `retrying`.
    pub state: State,
    /// The attempt that is under way or comes next, from 1.
    pub attempt: u32,
    /// Failed attempts after which the task has failed.
    pub max_attempts: u32,
    /// The last decision to dispatch.
    pub dispatch: u32,
    /// Whether the row waits in the store (for its time, a worker of its type, another dispatch), so that
    /// no message of the present dispatch is of interest any more.
    pub waiting: bool,
    /// Deliveries recorded as started since the last outcome.
    pub starts: u32,
    /// Who recorded the last of them, and when it started: the same record may come again.
    pub last_start: Option<(WorkerId, OffsetDateTime)>,
    /// Times in a row that a worker without its handler gave it back.
    pub unserved: u32,
}

/// What the moment of applying adds to an outcome.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// The types that a live worker serves, by queue: an unserved task of such a type comes back soon.
    pub served: HashSet<(QueueName, TaskType)>,
}

/// What an outcome does to a live row.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// The task ends in this state.
    Finish(State),
    /// The row waits and is dispatched again after `wait`.
    Wait {
        /// The state it waits in.
        state: State,
        /// The attempt that comes next.
        attempt: u32,
        /// How long it waits, by the store's clock.
        wait: Duration,
        /// The new count of [`Live::unserved`].
        unserved: u32,
    },
    /// The delivery runs; the row remembers that it started.
    Started {
        /// The new count of [`Live::starts`].
        starts: u32,
    },
    /// The outcome speaks of an attempt or a dispatch that is no more: it is counted and dropped.
    Stale,
}

impl Live {
    /// What `outcome` does to this row. `backoff` is the task's wait between attempts, `served` says whether a live worker
    /// serves its type, and `jitter` in `0.0..1.0` spreads waits.
    ///
    /// A terminal outcome needs the attempt to match, any other one the dispatch too: JetStream takes a late
    /// ack for a newer delivery's, so the store is the only fence.
    pub fn next(&self, outcome: &Outcome, backoff: &Backoff, served: bool, jitter: f64) -> Next {
        let unfenced = faults::planted(Bug::UnfencedOutcome);
        if outcome.attempt != self.attempt && !unfenced {
            return Next::Stale;
        }
        let current = unfenced || (outcome.dispatch == self.dispatch && !self.waiting);
        match &outcome.verdict {
            Verdict::Succeeded(_) => Next::Finish(State::Succeeded),
            Verdict::Failed { permanent, .. }
                if *permanent || self.attempt >= self.max_attempts =>
            {
                Next::Finish(State::Failed)
            }
            _ if !current => Next::Stale,
            Verdict::Failed { retry_after, .. } => Next::Wait {
                state: State::Retrying,
                attempt: self.attempt + 1,
                wait: match retry_after {
                    Some(wait) => (*wait).min(MAX_BACKOFF),
                    None => backoff.wait(self.attempt, jitter),
                },
                unserved: 0,
            },
            Verdict::Snoozed { wait } => Next::Wait {
                state: State::Scheduled,
                attempt: self.attempt,
                wait: (*wait).min(MAX_DELAY),
                unserved: 0,
            },
            Verdict::Started if self.last_start.is_some() && self.last_start == outcome.start() => {
                Next::Stale
            }
            Verdict::Started if faults::planted(Bug::CrashCountedAsSuccess) => {
                Next::Finish(State::Succeeded)
            }
            Verdict::Started if self.starts >= CRASH_LIMIT => Next::Finish(State::Crashed),
            Verdict::Started => Next::Started {
                starts: self.starts + 1,
            },
            Verdict::Released => self.wait_queued(Duration::ZERO, 0),
            Verdict::Unserved => {
                let doubled =
                    Duration::from_secs(1_u64 << self.unserved.min(6)).min(MAX_UNSERVED_WAIT);
                // A worker that is said to serve it, and may be gone, is no reason to wait longer the next time.
                let (wait, unserved) = if served {
                    (Duration::from_millis(200), self.unserved.max(1))
                } else {
                    (doubled, self.unserved.saturating_add(1))
                };
                self.wait_queued(wait.mul_f64(0.8 + 0.4 * jitter), unserved)
            }
        }
    }

    fn wait_queued(&self, wait: Duration, unserved: u32) -> Next {
        Next::Wait {
            state: State::Queued,
            attempt: self.attempt,
            wait,
            unserved,
        }
    }

    /// Deliveries that started and ended without an outcome, as far as is known.
    pub fn crashes(&self) -> u32 {
        self.starts.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::content::Content;
    use crate::id::TaskId;

    fn live() -> Live {
        Live {
            state: State::Queued,
            attempt: 1,
            max_attempts: 3,
            dispatch: 1,
            waiting: false,
            starts: 0,
            last_start: None,
            unserved: 0,
        }
    }

    const BACKOFF: Backoff = Backoff::Fixed(Duration::from_secs(4));

    fn outcome(attempt: u32, dispatch: u32, verdict: Verdict) -> Outcome {
        Outcome {
            task: TaskId::new(),
            attempt,
            dispatch,
            verdict,
            worker: WorkerId(Uuid::nil()),
            started_at: None,
            finished_at: OffsetDateTime::UNIX_EPOCH,
            spec: None,
        }
    }

    fn success() -> Verdict {
        Verdict::Succeeded(Content::binary("x"))
    }

    fn failure(permanent: bool) -> Verdict {
        if permanent {
            Verdict::failed_for_good("no")
        } else {
            Verdict::failed("no")
        }
    }

    fn next(live: &Live, attempt: u32, dispatch: u32, verdict: Verdict) -> Next {
        live.next(&outcome(attempt, dispatch, verdict), &BACKOFF, false, 0.5)
    }

    #[test]
    fn a_terminal_outcome_needs_its_attempt_only() {
        let row = Live {
            dispatch: 7,
            waiting: true,
            ..live()
        };
        assert_eq!(next(&row, 1, 2, success()), Next::Finish(State::Succeeded));
        assert_eq!(next(&row, 1, 2, failure(true)), Next::Finish(State::Failed));
        assert_eq!(next(&row, 2, 7, success()), Next::Stale);
        assert_eq!(
            next(&Live { attempt: 2, ..row }, 1, 7, success()),
            Next::Stale
        );
    }

    #[test]
    fn any_other_outcome_needs_its_dispatch_too() {
        let row = Live {
            dispatch: 2,
            ..live()
        };
        for verdict in [
            failure(false),
            Verdict::Started,
            Verdict::Released,
            Verdict::Unserved,
        ] {
            assert_eq!(next(&row, 1, 1, verdict.clone()), Next::Stale);
            assert_ne!(next(&row, 1, 2, verdict.clone()), Next::Stale);
            let waiting = Live {
                waiting: true,
                ..row.clone()
            };
            assert_eq!(next(&waiting, 1, 2, verdict), Next::Stale, "a repeated one");
        }
    }

    #[test]
    fn a_failure_uses_an_attempt_and_a_release_does_not() {
        let Next::Wait {
            state,
            attempt,
            wait,
            ..
        } = next(&live(), 1, 1, failure(false))
        else {
            panic!("a first failure is tried again")
        };
        assert_eq!(
            (state, attempt, wait),
            (State::Retrying, 2, Duration::from_secs(4))
        );
        let Next::Wait {
            state,
            attempt,
            wait,
            ..
        } = next(&live(), 1, 1, Verdict::Released)
        else {
            panic!("a released task waits for its next dispatch")
        };
        assert_eq!((state, attempt, wait), (State::Queued, 1, Duration::ZERO));
        let last = Live {
            attempt: 3,
            ..live()
        };
        assert_eq!(
            next(&last, 3, 1, failure(false)),
            Next::Finish(State::Failed)
        );
    }

    #[test]
    fn crashes_have_a_budget_of_their_own() {
        let mut row = live();
        for starts in 1..=CRASH_LIMIT {
            assert_eq!(next(&row, 1, 1, Verdict::Started), Next::Started { starts });
            row.starts = starts;
        }
        assert_eq!(
            next(&row, 1, 1, Verdict::Started),
            Next::Finish(State::Crashed)
        );
        // The record of a start that comes again is no other start.
        let mut started = outcome(1, 1, Verdict::Started);
        started.started_at = Some(OffsetDateTime::UNIX_EPOCH);
        row.last_start = started.start();
        assert_eq!(row.next(&started, &BACKOFF, false, 0.5), Next::Stale);
    }

    #[test]
    fn an_unserved_task_waits_longer_each_time_unless_a_worker_serves_it() {
        let wait = |unserved, served| {
            let row = Live { unserved, ..live() };
            match row.next(&outcome(1, 1, Verdict::Unserved), &BACKOFF, served, 0.5) {
                Next::Wait { wait, .. } => wait.as_millis(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            [0, 1, 2, 5, 6, 99].map(|n| wait(n, false)),
            [1_000, 2_000, 4_000, 32_000, 60_000, 60_000]
        );
        assert_eq!([0, 50].map(|n| wait(n, true)), [200, 200]);
        let count = |unserved, served| {
            let row = Live { unserved, ..live() };
            match row.next(&outcome(1, 1, Verdict::Unserved), &BACKOFF, served, 0.5) {
                Next::Wait { unserved, .. } => unserved,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([0, 1, 5].map(|n| count(n, true)), [1, 1, 5]);
        assert_eq!([0, 1, 5].map(|n| count(n, false)), [1, 2, 6]);
    }

    #[test]
    fn states_read_as_they_are_written() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
            assert_eq!(
                serde_json::to_string(&state).unwrap(),
                format!("\"{state}\"")
            );
        }
        assert!("Succeeded".parse::<State>().is_err());
    }

    fn verdicts() -> impl Strategy<Value = Verdict> {
        prop_oneof![
            Just(success()),
            any::<bool>().prop_map(failure),
            Just(Verdict::Started),
            Just(Verdict::Released),
            Just(Verdict::Unserved),
        ]
    }

    proptest! {
        /// Whatever arrives in whatever order: attempts never go back nor beyond their maximum, a task ends once.
        #[test]
        fn every_history_is_legal(
            outcomes in prop::collection::vec((1..5_u32, 1..6_u32, verdicts(), any::<bool>()), 0..60),
        ) {
            let mut row = live();
            for (attempt, dispatch, verdict, redispatch) in outcomes {
                if redispatch && row.waiting {
                    row = Live { state: State::Queued, dispatch: row.dispatch + 1, waiting: false, ..row };
                }
                match next(&row, attempt, dispatch, verdict.clone()) {
                    Next::Finish(state) => {
                        prop_assert!(state.is_terminal());
                        prop_assert_eq!(attempt, row.attempt);
                        break;
                    }
                    Next::Wait { state, attempt: following, wait, unserved } => {
                        prop_assert_eq!((attempt, dispatch, row.waiting), (row.attempt, row.dispatch, false));
                        let failed = matches!(verdict, Verdict::Failed { .. });
                        prop_assert_eq!(following, row.attempt + u32::from(failed));
                        prop_assert!(following <= row.max_attempts);
                        prop_assert!(wait <= crate::backoff::MAX_BACKOFF);
                        row = Live { state, attempt: following, unserved, starts: 0, waiting: true, ..row };
                    }
                    Next::Started { starts } => {
                        prop_assert!(starts <= CRASH_LIMIT);
                        row.starts = starts;
                    }
                    Next::Stale => {}
                }
            }
        }
    }
}
