//! Durations and times as clients write them.

use std::time::Duration;

use goflow_core::Deadline;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// A duration: a text such as `10s` or `1h 30m`, or a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Span(pub Duration);

/// Reads a duration as text: `10s`, `1h 30m`, or a plain number of seconds.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let number = text.parse::<f64>().ok().map(Duration::try_from_secs_f64);
    match number {
        Some(Ok(duration)) => Ok(duration),
        Some(Err(_)) => Err(format!("{:?} is no duration", clip(text))),
        None => humantime::parse_duration(text).map_err(|_| {
            format!(
                "{:?} is no duration: write 10s, 1h 30m or a number of seconds",
                clip(text)
            )
        }),
    }
}

/// Reads a time as RFC 3339 has it.
pub(crate) fn parse_time(text: &str) -> Result<OffsetDateTime, String> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok();
    // In UTC too, in which it is kept and shown.
    let kept = time.filter(|time| {
        let utc = time.checked_to_offset(UtcOffset::UTC);
        utc.is_some_and(|utc| (0..=9999).contains(&utc.year()))
    });
    kept.ok_or_else(|| {
        format!(
            "{:?} is no time: write it like 2030-01-31T12:00:00Z",
            clip(text)
        )
    })
}

fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpanVisitor)
    }
}

struct SpanVisitor;

impl Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a duration such as \"10s\", or a number of seconds")
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Span, E> {
        Ok(Span(Duration::from_secs(seconds)))
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Span, E> {
        u64::try_from(seconds)
            .map_err(|_| E::custom("a duration is never negative"))
            .and_then(|s| self.visit_u64(s))
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Span, E> {
        Duration::try_from_secs_f64(seconds)
            .map(Span)
            .map_err(E::custom)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
        parse(text).map(Span).map_err(E::custom)
    }
}

/// A time as RFC 3339 has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moment(pub OffsetDateTime);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        parse_time(&text).map(Self).map_err(D::Error::custom)
    }
}

/// A deadline: a time as RFC 3339 has it, or a duration after the task is accepted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Until(pub Deadline);

impl<'de> Deserialize<'de> for Until {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UntilVisitor)
    }
}

struct UntilVisitor;

impl UntilVisitor {
    fn after(Span(duration): Span) -> Until {
        Until(Deadline::After(duration))
    }
}

impl Visitor<'_> for UntilVisitor {
    type Value = Until;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a duration such as \"10m\", a number of seconds, or a time")
    }

    fn visit_u64<E: Error>(self, seconds: u64) -> Result<Until, E> {
        SpanVisitor.visit_u64(seconds).map(Self::after)
    }

    fn visit_i64<E: Error>(self, seconds: i64) -> Result<Until, E> {
        SpanVisitor.visit_i64(seconds).map(Self::after)
    }

    fn visit_f64<E: Error>(self, seconds: f64) -> Result<Until, E> {
        SpanVisitor.visit_f64(seconds).map(Self::after)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Until, E> {
        if let Ok(time) = parse_time(text) {
            return Ok(Until(Deadline::At(time)));
        }
        let duration = parse(text).map_err(|_| {
            E::custom(format_args!(
                "{:?} is neither a duration nor a time: write 10m, a number of seconds or 2030-01-31T12:00:00Z",
                clip(text)
            ))
        })?;
        Ok(Self::after(Span(duration)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_every_form() {
        for (json, millis) in [
            ("10", 10_000),
            ("1.5", 1_500),
            ("\"10s\"", 10_000),
            ("\"1m 30s\"", 90_000),
            ("\"250ms\"", 250),
            ("\"2\"", 2_000),
        ] {
            assert_eq!(
                serde_json::from_str::<Span>(json).unwrap(),
                Span(Duration::from_millis(millis)),
                "{json}"
            );
        }
        for bad in [
            "-1", "\"-1\"", "\"soon\"", "1e400", "\"NaN\"", "\"inf\"", "null", "[]", "1e30", "\"\"",
        ] {
            assert!(
                serde_json::from_str::<Span>(bad).is_err(),
                "{bad} was accepted"
            );
        }
    }

    #[test]
    fn times_are_rfc_3339() {
        assert!(serde_json::from_str::<Moment>("\"2030-01-31T12:00:00Z\"").is_ok());
        for bad in [
            "\"tomorrow\"",
            "1",
            "\"2030-01-31\"",
            "\"2030-02-31T12:00:00Z\"",
            "\"9999-12-31T23:59:59-00:01\"",
            "\"0000-01-01T00:00:00+00:01\"",
        ] {
            assert!(
                serde_json::from_str::<Moment>(bad).is_err(),
                "{bad} was accepted"
            );
        }
    }

    #[test]
    fn deadlines_are_durations_or_times() {
        let read = |json: &str| serde_json::from_str::<Until>(json).map(|Until(deadline)| deadline);
        let minutes = Deadline::After(Duration::from_secs(600));
        assert_eq!(read("600").unwrap(), minutes);
        assert_eq!(read("600.0").unwrap(), minutes);
        assert_eq!(read("\"10m\"").unwrap(), minutes);
        assert_eq!(read("\"600\"").unwrap(), minutes);
        let time = time::macros::datetime!(2030-01-31 12:00 UTC);
        assert_eq!(
            read("\"2030-01-31T12:00:00Z\"").unwrap(),
            Deadline::At(time)
        );
        for bad in ["-1", "null", "\"soon\"", "\"2030-01-31\"", "{}"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
