//! What can be set.

use std::time::Duration;

use goflow_core::State;

/// How a [`PostgresStore`](crate::PostgresStore) connects, and what it keeps.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the database is: `postgres://user:password@host:port/database?sslmode=verify-full`. Default: the
    /// database `goflow` on this machine.
    pub url: String,
    /// Most connections: half of them for changes, a quarter for single tasks, a quarter for lists and counts; one each
    /// at least. Default: 8.
    pub max_connections: u32,
    /// Prepared statements kept per connection. Default: 100. Zero keeps none, as a PgBouncer that pools by
    /// transaction needs it.
    pub statement_cache: usize,
    /// Most unfinished tasks; further ones are refused with
    /// [`Error::Full`](goflow_core::store::Error::Full). Counted every few seconds, so that several engines at
    /// once may go a little beyond. Default: 1,000,000.
    pub max_live: usize,
    /// How long tasks that succeeded or were cancelled are kept. Default: a week.
    pub keep_done: Retention,
    /// How long tasks that failed, crashed or expired are kept. Default: a month.
    pub keep_failed: Retention,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: "postgres://127.0.0.1/goflow".to_owned(),
            max_connections: 8,
            statement_cache: 100,
            max_live: 1_000_000,
            keep_done: Retention::Week,
            keep_failed: Retention::Month,
        }
    }
}

impl Options {
    /// The defaults for the database at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ..Self::default()
        }
    }

    /// How long a task that ended in `state` is kept, which its push may have asked for.
    pub(crate) fn retention(&self, state: State, asked: Option<Duration>) -> Retention {
        if let Some(asked) = asked {
            return Retention::of_at_least(asked);
        }
        match state {
            State::Failed | State::Crashed | State::Expired => self.keep_failed,
            _ => self.keep_done,
        }
    }
}

/// How long a finished task is kept, at least: a class of partitions each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// One day.
    Day,
    /// Seven days.
    Week,
    /// Thirty days.
    Month,
    /// 365 days.
    Year,
}

impl Retention {
    /// The shortest that is as long as `duration`, or the longest there is.
    fn of_at_least(duration: Duration) -> Self {
        let lasts = |retention: &Self| {
            let days = u64::try_from(retention.days()).unwrap_or_default();
            Duration::from_secs(days * 24 * 60 * 60) >= duration
        };
        let all = [Self::Day, Self::Week, Self::Month];
        all.into_iter().find(lasts).unwrap_or(Self::Year)
    }

    /// The class as the schema names it.
    pub(crate) fn days(self) -> i16 {
        match self {
            Self::Day => 1,
            Self::Week => 7,
            Self::Month => 30,
            Self::Year => 365,
        }
    }
}
