//! Query parameters: every one known, every bad one named.

use std::str::FromStr;
use std::time::Duration;

use axum::extract::Query;
use axum::http::Uri;
use goflow_core::State;
use goflow_core::record::{Filter, MAX_PAGE, PageRequest};
use time::OffsetDateTime;

use crate::finished::Wanted;
use crate::json::span;
use crate::problem::{Code, Problem};

/// The parameters of a request, in their order. Empty ones count as absent, as forms send them.
fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, Problem> {
    let Query(mut pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| Problem::new(Code::InvalidQuery, "the query is not well formed"))?;
    pairs.retain(|(_, value)| !value.is_empty());
    Ok(pairs)
}

fn bad(name: &str, why: impl std::fmt::Display) -> Problem {
    Problem::new(Code::InvalidQuery, format!("{name}: {why}"))
}

fn unknown(name: &str, known: &str) -> Problem {
    let shown: String = name.chars().take(64).collect();
    Problem::new(
        Code::InvalidQuery,
        format!("{shown}: no such parameter here; there is {known}"),
    )
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(name: &str, value: &str) -> Result<T, Problem> {
    value.parse().map_err(|error| bad(name, error))
}

fn states(value: &str, into: &mut Vec<State>) -> Result<(), Problem> {
    for state in value.split(',').filter(|state| !state.is_empty()) {
        into.push(parsed("state", state)?);
    }
    Ok(())
}

/// Reads the query of a list.
pub(super) fn list(uri: &Uri) -> Result<(Filter, PageRequest), Problem> {
    let (mut filter, mut page) = (Filter::default(), PageRequest::default());
    for (name, value) in pairs(uri)? {
        match name.as_str() {
            "state" => states(&value, &mut filter.states)?,
            "type" => filter.task_type = Some(parsed("type", &value)?),
            "queue" => filter.queue = Some(parsed("queue", &value)?),
            "since" => {
                filter.since = Some(span::parse_time(&value).map_err(|why| bad("since", why))?)
            }
            "until" => {
                filter.until = Some(span::parse_time(&value).map_err(|why| bad("until", why))?)
            }
            "limit" => page.limit = limit(&value)?,
            "cursor" => {
                page.before = Some(
                    value
                        .parse()
                        .map_err(|_| bad("cursor", "not from a page of this list"))?,
                )
            }
            _ => {
                return Err(unknown(
                    &name,
                    "state, type, queue, since, until, limit, cursor",
                ));
            }
        }
    }
    Ok((filter, page))
}

fn limit(value: &str) -> Result<usize, Problem> {
    let limit = value
        .parse()
        .ok()
        .filter(|limit| (1..=MAX_PAGE).contains(limit));
    limit.ok_or_else(|| bad("limit", format_args!("use 1 to {MAX_PAGE}")))
}

/// Reads the query of a stream.
pub(super) fn wanted(uri: &Uri) -> Result<Wanted, Problem> {
    let mut wanted = Wanted::default();
    for (name, value) in pairs(uri)? {
        match name.as_str() {
            "state" => states(&value, &mut wanted.states)?,
            "type" => wanted.task_type = Some(parsed("type", &value)?),
            "queue" => wanted.queue = Some(parsed("queue", &value)?),
            _ => return Err(unknown(&name, "state, type, queue")),
        }
    }
    Ok(wanted)
}

/// Reads the query of a single task.
pub(super) fn wait(uri: &Uri) -> Result<Option<Duration>, Problem> {
    let mut wait = None;
    for (name, value) in pairs(uri)? {
        match name.as_str() {
            "wait" => wait = Some(span::parse(&value).map_err(|why| bad("wait", why))?),
            _ => return Err(unknown(&name, "wait")),
        }
    }
    Ok(wait)
}

/// Reads the query of the dead: since when.
pub(super) fn since(uri: &Uri) -> Result<Option<OffsetDateTime>, Problem> {
    let mut since = None;
    for (name, value) in pairs(uri)? {
        match name.as_str() {
            "since" => since = Some(span::parse_time(&value).map_err(|why| bad("since", why))?),
            _ => return Err(unknown(&name, "since")),
        }
    }
    Ok(since)
}

/// Refuses any query.
pub(super) fn none(uri: &Uri) -> Result<(), Problem> {
    match pairs(uri)?.first() {
        Some((name, _)) => Err(unknown(name, "none")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_take_states_in_either_form() {
        let uri = Uri::from_static(
            "/v1/tasks?state=failed,crashed&state=queued&type=echo&limit=500&since=2030-01-01T00:00:00Z&queue=",
        );
        let (filter, page) = list(&uri).unwrap();
        assert_eq!(
            filter.states,
            [State::Failed, State::Crashed, State::Queued]
        );
        assert_eq!((page.limit, filter.queue), (500, None));
    }

    #[test]
    fn bad_parameters_are_named() {
        for query in [
            "state=done",
            "type=a.b",
            "queue=%00",
            "since=today",
            "until=1",
            "limit=0",
            "limit=501",
            "limit=x",
            "cursor=x",
            "colour=red",
        ] {
            let uri: Uri = format!("/v1/tasks?{query}").parse().unwrap();
            let body = String::from_utf8(list(&uri).unwrap_err().body()).unwrap();
            let name = query.split('=').next().unwrap();
            assert!(
                body.contains(&format!("\"detail\":\"{name}: ")),
                "{query}: {body}"
            );
        }
        assert!(wait(&Uri::from_static("/v1/tasks/x?wait=soon")).is_err());
        assert!(wanted(&Uri::from_static("/v1/events?limit=1")).is_err());
        assert!(since(&Uri::from_static("/v1/dead?since=7d")).is_err());
        assert!(since(&Uri::from_static("/v1/dead?type=t")).is_err());
        assert!(none(&Uri::from_static("/v1/queues?a=b")).is_err());
    }
}
