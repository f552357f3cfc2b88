//! `gf list`.

use anyhow::Result;
use goflow_core::record::MAX_PAGE;
use reqwest::Method;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::args::{List, OutputFormat};
use crate::client::{Client, parse};
use crate::failure::Failure;
use crate::output::{self, Table};
use crate::task::{Page, Task};

/// Lists tasks, in as many pages as it takes.
pub(super) async fn run(client: &Client, list: List, format: OutputFormat) -> Result<u8> {
    let mut query = filters(&list)?;
    let mut left = if list.all { u64::MAX } else { list.limit };
    let mut table = Table::new([
        "ID", "TYPE", "QUEUE", "STATE", "ATTEMPT", "CREATED", "FINISHED", "ERROR",
    ]);
    loop {
        let limit = left.min(MAX_PAGE as u64);
        let request = client
            .request(Method::GET, "v1/tasks")?
            .query(&query)
            .query(&[("limit", limit)]);
        let page: Page = parse(&client.send(request).await?)?;
        left = left.saturating_sub(page.tasks.len() as u64);
        for task in &page.tasks {
            match format {
                OutputFormat::Json => output::json(task.get())?,
                OutputFormat::Table => row(&mut table, task)?,
            }
        }
        match page.next_cursor {
            Some(cursor) if left > 0 => {
                query.retain(|(name, _)| *name != "cursor");
                query.push(("cursor", cursor));
            }
            _ => break,
        }
    }
    if format == OutputFormat::Table {
        table.print()?;
    }
    Ok(0)
}

fn filters(list: &List) -> Result<Vec<(&'static str, String)>> {
    let mut query = Vec::new();
    query.extend(list.state.iter().map(|state| ("state", state.to_string())));
    query.extend(
        list.task_type
            .iter()
            .map(|task_type| ("type", task_type.clone())),
    );
    query.extend(list.queue.iter().map(|queue| ("queue", queue.clone())));
    for (name, text) in [("since", &list.since), ("until", &list.until)] {
        if let Some(text) = text {
            query.push((name, moment(name, text)?));
        }
    }
    Ok(query)
}

/// A time, or how long ago it was.
fn moment(name: &str, text: &str) -> Result<String> {
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

fn row(table: &mut Table, task: &RawValue) -> Result<()> {
    let task: Task = parse(task.get())?;
    table.row([
        task.id,
        task.r#type,
        task.queue,
        task.state.to_string(),
        format!("{}/{}", task.attempt, task.max_attempts),
        output::time(Some(task.created_at)),
        output::time(task.finished_at),
        task.error.unwrap_or_default(),
    ]);
    Ok(())
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
