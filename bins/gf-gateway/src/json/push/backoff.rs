//! The wait between attempts.

use std::time::Duration;

use goflow_core::Backoff;
use serde::Deserialize;

use crate::json::span::Span;
use crate::problem::{Code, Problem};

/// Most waits of a backoff that lists them.
pub(crate) const MAX_BACKOFF_LIST: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum BackoffBody {
    Fixed(Span),
    Exponential {
        first: Option<Span>,
        most: Option<Span>,
    },
    List(Vec<Span>),
}

impl BackoffBody {
    pub(super) fn into_backoff(self) -> Result<Backoff, Problem> {
        Ok(match self {
            Self::Fixed(Span(wait)) => Backoff::Fixed(wait),
            Self::Exponential { first, most } => exponential(first.map(|s| s.0), most.map(|s| s.0)),
            Self::List(waits) => backoff_list(waits.into_iter().map(|Span(wait)| wait).collect())?,
        })
    }
}

/// An exponential backoff whose missing parts are those of the default.
pub(crate) fn exponential(first: Option<Duration>, most: Option<Duration>) -> Backoff {
    let first = first.unwrap_or(Duration::from_secs(1));
    Backoff::Exponential {
        first,
        most: most.unwrap_or(Duration::from_secs(600)).max(first),
    }
}

/// A backoff that lists its waits, of a length that a message can bear.
pub(crate) fn backoff_list(waits: Vec<Duration>) -> Result<Backoff, Problem> {
    if waits.is_empty() || waits.len() > MAX_BACKOFF_LIST {
        let detail = format!(
            "backoff: list has {} waits, use 1 to {MAX_BACKOFF_LIST}",
            waits.len()
        );
        return Err(Problem::new(Code::Invalid, detail));
    }
    Ok(Backoff::List(waits))
}
