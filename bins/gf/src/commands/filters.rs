//! Filters of tasks, as the gateway wants them.

use anyhow::Result;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::args::Filters;
use crate::failure::Failure;

/// The filters by name. A name may be there more than once: then any of its values will do.
pub(super) fn pairs(filters: &Filters) -> Result<Vec<(&'static str, String)>> {
    let mut pairs = Vec::new();
    pairs.extend(
        filters
            .state
            .iter()
            .map(|state| ("state", state.to_string())),
    );
    pairs.extend(filters.task_type.iter().map(|name| ("type", name.clone())));
    pairs.extend(filters.queue.iter().map(|name| ("queue", name.clone())));
    for (name, text) in [("since", &filters.since), ("until", &filters.until)] {
        if let Some(text) = text {
            pairs.push((name, moment(name, text)?));
        }
    }
    Ok(pairs)
}

/// A time, or how long ago it was.
pub(super) fn moment(name: &str, text: &str) -> Result<String> {
    let usage = || {
        Failure::Usage(format!(
            "--{name} {text:?}: write a time like 2030-01-31T12:00:00Z, or how long ago, like 1h"
        ))
    };
    if OffsetDateTime::parse(text, &Rfc3339).is_ok() {
        return Ok(text.to_owned());
    }
    let ago = humantime::parse_duration(text)
        .ok()
        .and_then(|ago| time::Duration::try_from(ago).ok());
    let time = ago
        .and_then(|ago| OffsetDateTime::now_utc().checked_sub(ago))
        .ok_or_else(usage)?;
    Ok(time.format(&Rfc3339).map_err(|_| usage())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_ago() {
        assert_eq!(
            moment("since", "2030-01-31T12:00:00Z").unwrap(),
            "2030-01-31T12:00:00Z"
        );
        assert!(
            OffsetDateTime::parse(&moment("since", "1h 30m").unwrap(), &Rfc3339).unwrap()
                < OffsetDateTime::now_utc()
        );
        for bad in ["yesterday", "", "9999999999999y"] {
            assert!(
                matches!(
                    moment("since", bad).unwrap_err().downcast_ref(),
                    Some(Failure::Usage(_))
                ),
                "{bad}"
            );
        }
    }
}
