//! Changing many tasks: which ones, and what came of it.

use std::fmt;

use goflow_core::State;
use goflow_core::engine::Bulk;
use goflow_core::record::Filter;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize as Read, Serialize};

use crate::json::parse;
use crate::json::span::Moment;
use crate::problem::{Code, Problem};

/// How many tasks are changed when nobody says.
pub(crate) const DEFAULT_LIMIT: usize = 1_000;

#[derive(Debug, Read)]
#[serde(deny_unknown_fields)]
struct BulkBody {
    filter: FilterBody,
    limit: Option<usize>,
}

#[derive(Debug, Read)]
#[serde(deny_unknown_fields)]
struct FilterBody {
    state: Option<States>,
    r#type: Option<String>,
    queue: Option<String>,
    since: Option<Moment>,
    until: Option<Moment>,
}

/// Reads the body of a bulk change: which tasks, and how many at most.
pub(crate) fn read(body: &[u8]) -> Result<(Filter, usize), Problem> {
    let BulkBody { filter, limit } = parse(body)?;
    let filter = Filter {
        states: filter
            .state
            .map(|States(states)| states)
            .unwrap_or_default(),
        task_type: filter.r#type.map(|name| name.parse()).transpose()?,
        queue: filter.queue.map(|name| name.parse()).transpose()?,
        since: filter.since.map(|Moment(time)| time),
        until: filter.until.map(|Moment(time)| time),
        ..Filter::default()
    };
    check(&filter)?;
    Ok((filter, limit.unwrap_or(DEFAULT_LIMIT)))
}

/// Refuses a filter that lets everything pass: that is a mistake more often than a wish.
pub(crate) fn check(filter: &Filter) -> Result<(), Problem> {
    if *filter == Filter::default() {
        let detail = "filter: give at least one of state, type, queue, since, until";
        return Err(Problem::new(Code::Invalid, detail));
    }
    Ok(())
}

/// States: one text, parted by commas, or a list of texts.
#[derive(Debug)]
struct States(Vec<State>);

impl<'de> Deserialize<'de> for States {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StatesVisitor)
    }
}

struct StatesVisitor;

impl StatesVisitor {
    fn read<E: Error>(text: &str, into: &mut Vec<State>) -> Result<(), E> {
        for state in text.split(',') {
            into.push(state.trim().parse().map_err(E::custom)?);
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for StatesVisitor {
    type Value = States;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a state or a list of states")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<States, E> {
        let mut states = Vec::new();
        Self::read(text, &mut states)?;
        Ok(States(states))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<States, A::Error> {
        let mut states = Vec::new();
        while let Some(text) = texts.next_element::<String>()? {
            Self::read(&text, &mut states)?;
        }
        Ok(States(states))
    }
}

/// What a bulk change did.
#[derive(Debug, Serialize)]
pub(crate) struct BulkJson {
    changed: u64,
    skipped: u64,
    more: bool,
}

impl From<Bulk> for BulkJson {
    fn from(bulk: Bulk) -> Self {
        Self {
            changed: bulk.changed,
            skipped: bulk.skipped,
            more: bulk.more,
        }
    }
}

/// Reads the body of a purge: the queue's name once more.
pub(crate) fn confirmation(body: &[u8]) -> Result<String, Problem> {
    #[derive(Read)]
    #[serde(deny_unknown_fields)]
    struct PurgeBody {
        confirm: String,
    }
    Ok(parse::<PurgeBody>(body)?.confirm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read() {
        let (filter, limit) =
            read(br#"{"filter":{"state":"failed, crashed","type":"t","queue":"q"}}"#).unwrap();
        assert_eq!(filter.states, [State::Failed, State::Crashed]);
        assert_eq!(limit, DEFAULT_LIMIT);
        let body = br#"{"filter":{"state":["failed"],"since":"2030-01-01T00:00:00Z"},"limit":5}"#;
        let (filter, limit) = read(body).unwrap();
        assert_eq!((filter.states, limit), (vec![State::Failed], 5));
        assert!(filter.since.is_some());
    }

    #[test]
    fn mistakes_are_named() {
        for (body, named) in [
            ("", "invalid_body"),
            ("{}", "filter"),
            (r#"{"filter":{}}"#, "at least one"),
            (r#"{"filter":{"state":[]}}"#, "at least one"),
            (r#"{"filter":{"state":"done"}}"#, "filter.state"),
            (r#"{"filter":{"state":""}}"#, "filter.state"),
            (r#"{"filter":{"state":7}}"#, "filter.state"),
            (r#"{"filter":{"type":"a.b"}}"#, "invalid_name"),
            (r#"{"filter":{"queue":">"}}"#, "invalid_name"),
            (r#"{"filter":{"since":"1h"}}"#, "filter.since"),
            (r#"{"filter":{"colour":"red"}}"#, "colour"),
            (r#"{"filter":{"type":"t"},"limit":-1}"#, "limit"),
        ] {
            let problem = String::from_utf8(read(body.as_bytes()).unwrap_err().body()).unwrap();
            assert!(problem.contains(named), "{body}: {problem}");
        }
        assert!(confirmation(b"{}").is_err());
        assert_eq!(confirmation(br#"{"confirm":"q"}"#).unwrap(), "q");
    }
}
