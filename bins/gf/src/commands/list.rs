//! `gf list`.

use anyhow::Result;
use goflow_core::record::MAX_PAGE;
use reqwest::Method;
use serde_json::value::RawValue;

use crate::args::{List, OutputFormat};
use crate::client::{Client, parse};
use crate::commands::filters;
use crate::output::{self, Table};
use crate::task::{Page, Task};

/// Lists tasks, in as many pages as it takes.
pub(super) async fn run(client: &Client, list: List, format: OutputFormat) -> Result<u8> {
    let mut query = filters::pairs(&list.filters)?;
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
