//! The one clock of a run: all its processes are on one machine.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// A moment, in microseconds since 1970.
pub type Micros = u64;

/// Now.
pub fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, micros)
}

/// A length of time in microseconds.
pub fn micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A time that a server gave.
pub fn of(time: OffsetDateTime) -> Micros {
    u64::try_from(time.unix_timestamp_nanos() / 1_000).unwrap_or(0)
}
