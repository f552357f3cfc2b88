//! `gf cancel` and `gf retry` by filter: many tasks, round by round.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Result;
use goflow_core::State;
use goflow_core::record::MAX_PAGE;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use crate::args::{Change, OutputFormat};
use crate::client::{Client, parse};
use crate::commands::filters;
use crate::confirm::confirm;
use crate::output;
use crate::task::Page;

/// Tasks changed by one request.
const ROUND: u64 = 1_000;

/// How long the gateway may take over one.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// What is done to the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Cancel,
    Retry,
}

impl Action {
    /// The last part of the route, and what a person would say.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Retry => "retry",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Cancel => "cancelled",
            Self::Retry => "reopened",
        }
    }

    /// The states of tasks it can be done to.
    fn states(self) -> &'static [State] {
        match self {
            Self::Cancel => &[State::Scheduled, State::Queued, State::Retrying],
            Self::Retry => &[
                State::Failed,
                State::Crashed,
                State::Expired,
                State::Cancelled,
            ],
        }
    }
}

/// What came of one request.
#[derive(Debug, Deserialize)]
pub(super) struct Changed {
    changed: u64,
    skipped: u64,
    more: bool,
}

/// What came of all so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    changed: u64,
    skipped: u64,
    more: bool,
    /// Whether a line of progress waits for its end.
    on_line: bool,
}

impl Tally {
    /// Adds a round; whether another one is to follow.
    pub(super) fn add(&mut self, round: &Changed, done: &str) -> bool {
        self.changed += round.changed;
        self.skipped += round.skipped;
        self.more = round.more;
        if round.more {
            self.show_progress(done);
        }
        round.more
    }

    /// On a terminal one line that changes; elsewhere a line a round.
    fn show_progress(&mut self, done: &str) {
        self.on_line = std::io::stderr().is_terminal();
        let (start, end) = if self.on_line { ("\r", "") } else { ("", "\n") };
        eprint!("{start}{} {done} so far{end}", self.changed);
    }

    /// Prints what came of it.
    pub(super) fn print(&self, done: &str, format: OutputFormat) -> Result<()> {
        if self.on_line {
            eprintln!();
        }
        if format == OutputFormat::Json {
            let (changed, skipped, more) = (self.changed, self.skipped, self.more);
            let json = json!({"changed": changed, "skipped": skipped, "more": more});
            return output::json(&json.to_string());
        }
        let skipped = match self.skipped {
            0 => String::new(),
            skipped => format!(", {skipped} left alone: they had changed meanwhile"),
        };
        let more = if self.more {
            ", and there are more"
        } else {
            ""
        };
        output::line(&format!("{} {done}{skipped}{more}", self.changed))
    }
}

/// Changes all tasks that pass, after having asked.
pub(super) async fn run(
    client: &Client,
    action: Action,
    mut change: Change,
    format: OutputFormat,
) -> Result<u8> {
    if change.filters.state.is_empty() {
        change.filters.state = action.states().to_vec();
    }
    let pairs = filters::pairs(&change.filters)?;
    let mut left = change.limit.unwrap_or(u64::MAX);
    if !change.yes {
        let matching = count(client, &pairs, left).await?;
        if matching.is_none() {
            output::line("no task matches")?;
            return Ok(0);
        }
        let tasks = matching.unwrap_or_default();
        if !confirm(&format!("{} {tasks}", action.verb()))? {
            return Ok(1);
        }
    }
    let states: Vec<_> = change.filters.state.iter().map(State::to_string).collect();
    let mut filter = json!({ "state": states });
    for (name, value) in pairs.into_iter().filter(|(name, _)| *name != "state") {
        filter[name] = value.into();
    }
    let path = format!("v1/tasks/{}", action.verb());
    let mut tally = Tally::default();
    loop {
        let body = json!({"filter": filter, "limit": left.min(ROUND)});
        let request = client.request(Method::POST, &path)?.timeout(PATIENCE);
        let round: Changed = parse(&client.send(request.json(&body)).await?)?;
        left = left.saturating_sub(round.changed + round.skipped);
        if !tally.add(&round, action.done()) || left == 0 {
            break;
        }
    }
    tally.print(action.done(), format)?;
    Ok(0)
}

/// How many tasks match, a page at most, in words; none when none does.
async fn count(
    client: &Client,
    pairs: &[(&'static str, String)],
    limit: u64,
) -> Result<Option<String>> {
    let request = client.request(Method::GET, "v1/tasks")?.query(pairs);
    let request = request.query(&[("limit", limit.min(MAX_PAGE as u64))]);
    let page: Page = parse(&client.send(request).await?)?;
    let found = page.tasks.len();
    let more = page.next_cursor.is_some() && found as u64 != limit;
    Ok(match (found, more) {
        (0, _) => None,
        (1, false) => Some("1 task".to_owned()),
        (found, false) => Some(format!("{found} tasks")),
        (found, true) => Some(format!("{found} tasks or more")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_add_up() {
        let mut tally = Tally::default();
        let round = |changed, skipped, more| Changed {
            changed,
            skipped,
            more,
        };
        assert!(tally.add(&round(10, 1, true), "cancelled"));
        assert!(!tally.add(&round(5, 0, false), "cancelled"));
        assert_eq!((tally.changed, tally.skipped, tally.more), (15, 1, false));
    }
}
