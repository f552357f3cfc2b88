//! Limits that hold everywhere; they are checked at the edge, before anything is accepted.

use std::collections::BTreeMap;

use time::{OffsetDateTime, UtcOffset};

use crate::error::Error;
use crate::task::{Deadline, Start, TaskSpec};

/// Largest payload or result, in bytes: JetStream's default `max_payload` of 1 MiB less room for the envelope.
pub const MAX_CONTENT_BYTES: usize = 900 * 1024;

/// Longest error text kept of an attempt, in bytes; longer ones lose their front.
pub const MAX_ERROR_BYTES: usize = 8 * 1024;

/// Largest headers and tags of a task together, in bytes.
pub const MAX_ANNOTATION_BYTES: usize = 16 * 1024;

/// Most tasks pushed together.
pub const MAX_BATCH: usize = 1_000;

/// Largest payloads pushed together, in bytes.
pub const MAX_BATCH_BYTES: usize = 32 * 1024 * 1024;

/// Most attempts of a task.
pub const MAX_ATTEMPTS: u32 = 1_000;

/// Longest idempotency key, in bytes.
pub const MAX_KEY_BYTES: usize = 255;

/// Longest content type, in bytes.
pub const MAX_CONTENT_TYPE_BYTES: usize = 255;

/// Longest delay, timeout or distance of `run_at`.
pub const MAX_DELAY: std::time::Duration = std::time::Duration::from_secs(366 * 24 * 60 * 60);

/// Checks a task against all limits.
///
/// # Errors
/// [`Error::TooLarge`] or [`Error::Invalid`], naming what is wrong.
pub fn check(spec: &TaskSpec) -> Result<(), Error> {
    at_most("payload", spec.payload.len(), MAX_CONTENT_BYTES)?;
    at_most(
        "content type",
        spec.payload.content_type.len(),
        MAX_CONTENT_TYPE_BYTES,
    )?;
    let bytes =
        |map: &BTreeMap<String, String>| map.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
    at_most(
        "headers and tags",
        bytes(&spec.headers) + bytes(&spec.tags),
        MAX_ANNOTATION_BYTES,
    )?;
    if spec.max_attempts == 0 || spec.max_attempts > MAX_ATTEMPTS {
        return Err(Error::invalid(format!(
            "max_attempts is {}, use 1 to {MAX_ATTEMPTS}",
            spec.max_attempts
        )));
    }
    if spec
        .timeout
        .is_some_and(|timeout| timeout.is_zero() || timeout > MAX_DELAY)
    {
        return Err(Error::invalid(
            "timeout must be longer than zero and a year at most",
        ));
    }
    if let Start::At(time) = spec.start {
        check_time("run_at", time)?;
    }
    if let Some(Deadline::At(time)) = spec.deadline {
        check_time("deadline", time)?;
    }
    let too_late = match spec.start {
        crate::task::Start::Now => false,
        crate::task::Start::After(delay) => delay > MAX_DELAY,
        crate::task::Start::At(time) => time - spec.id.created_at() > MAX_DELAY,
    };
    if too_late {
        return Err(Error::invalid(
            "delay and run_at reach a year ahead at most",
        ));
    }
    for (what, limit) in [
        ("retention", spec.retention),
        ("heartbeat_timeout", spec.heartbeat_timeout),
    ] {
        if limit.is_some_and(|limit| limit.is_zero() || limit > MAX_DELAY) {
            return Err(Error::invalid(format!(
                "{what} must be longer than zero and a year at most"
            )));
        }
    }
    if let Some(Deadline::After(limit)) = spec.deadline
        && (limit.is_zero() || limit > MAX_DELAY)
    {
        return Err(Error::invalid(
            "deadline must be longer than zero and a year at most",
        ));
    }
    if let Some(unique) = &spec.unique {
        check_key("a unique key", &unique.key)?;
        if unique
            .period
            .is_some_and(|period| period.is_zero() || period > MAX_DELAY)
        {
            return Err(Error::invalid(
                "a unique period must be longer than zero and a year at most",
            ));
        }
    }
    let texts = spec
        .headers
        .iter()
        .chain(&spec.tags)
        .flat_map(|(k, v)| [k.as_str(), v])
        .chain([&*spec.payload.content_type]);
    for text in texts {
        if text.contains('\0') {
            return Err(Error::invalid(
                "headers, tags and content types must not contain NUL",
            ));
        }
    }
    Ok(())
}

/// Checks that a time can be told in UTC, in a year of four digits: stores keep it so, and RFC 3339 shows it so.
pub(crate) fn check_time(what: &str, time: OffsetDateTime) -> Result<(), Error> {
    let utc = time.checked_to_offset(UtcOffset::UTC);
    match utc.is_some_and(|utc| (0..=9999).contains(&utc.year())) {
        true => Ok(()),
        false => Err(Error::invalid(format!(
            "{what} is beyond the years 0 to 9999"
        ))),
    }
}

/// Checks an idempotency or unique key.
pub(crate) fn check_key(what: &str, key: &str) -> Result<(), Error> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES || key.chars().any(char::is_control) {
        let rule = format!("{what} has 1 to {MAX_KEY_BYTES} bytes and no control characters");
        return Err(Error::invalid(rule));
    }
    Ok(())
}

fn at_most(what: &'static str, bytes: usize, limit: usize) -> Result<(), Error> {
    if bytes > limit {
        Err(Error::TooLarge { what, bytes, limit })
    } else {
        Ok(())
    }
}

/// The end of an error text, at most [`MAX_ERROR_BYTES`] long, without NUL (which Postgres refuses).
pub fn clip_error(text: &str) -> String {
    let mut from = text.len().saturating_sub(MAX_ERROR_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text[from..].replace('\0', "\u{fffd}")
}
