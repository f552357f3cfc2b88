//! Times and durations between protobuf and Rust.

use std::time::Duration;

/// A timestamp or duration that cannot be told in Rust: it is negative, or its parts are out of their ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfRange;

impl std::fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("time out of range")
    }
}

impl std::error::Error for OutOfRange {}

/// Nanoseconds since the epoch as a timestamp.
pub fn timestamp(unix_nanos: i128) -> prost_types::Timestamp {
    let seconds = unix_nanos.div_euclid(1_000_000_000);
    let nanos = unix_nanos.rem_euclid(1_000_000_000);
    prost_types::Timestamp {
        seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}

/// A timestamp as nanoseconds since the epoch.
///
/// # Errors
/// [`OutOfRange`] when its nanoseconds are not below one second.
pub fn timestamp_from(time: &prost_types::Timestamp) -> Result<i128, OutOfRange> {
    if !(0..1_000_000_000).contains(&time.nanos) {
        return Err(OutOfRange);
    }
    Ok(i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos))
}

/// A duration, cut at the longest that protobuf knows.
pub fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

/// A duration that is not negative.
///
/// # Errors
/// [`OutOfRange`] when it is negative, or its nanoseconds are not below one second.
pub fn duration_from(duration: &prost_types::Duration) -> Result<Duration, OutOfRange> {
    let nanos = u32::try_from(duration.nanos).map_err(|_| OutOfRange)?;
    if nanos >= 1_000_000_000 {
        return Err(OutOfRange);
    }
    Ok(Duration::new(
        u64::try_from(duration.seconds).map_err(|_| OutOfRange)?,
        nanos,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_way_there_and_back() {
        for nanos in [0, 1, -1, 1_700_000_000_123_456_789, -5_000_000_001] {
            assert_eq!(timestamp_from(&timestamp(nanos)), Ok(nanos));
        }
        for span in [
            Duration::ZERO,
            Duration::from_millis(1_500),
            Duration::from_secs(1 << 40),
        ] {
            assert_eq!(duration_from(&duration(span)), Ok(span));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for (seconds, nanos) in [(-1, 0), (0, -1), (1, 1_000_000_000)] {
            assert_eq!(
                duration_from(&prost_types::Duration { seconds, nanos }),
                Err(OutOfRange)
            );
        }
        assert_eq!(
            timestamp_from(&prost_types::Timestamp {
                seconds: 0,
                nanos: -1
            }),
            Err(OutOfRange)
        );
    }
}
