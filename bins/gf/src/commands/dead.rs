//! `gf dead`.

use anyhow::Result;
use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use crate::args::{Dead, OutputFormat};
use crate::client::{Client, parse};
use crate::commands::filters::moment;
use crate::output::{self, Table};

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Group {
    r#type: String,
    state: String,
    error: String,
    count: u64,
    newest: String,
    #[serde(with = "time::serde::rfc3339")]
    last_finished_at: OffsetDateTime,
}

/// Shows what failed, crashed or expired, the most frequent first.
pub(super) async fn run(client: &Client, dead: Dead, format: OutputFormat) -> Result<u8> {
    let since = moment("since", &dead.since)?;
    let request = client
        .request(Method::GET, "v1/dead")?
        .query(&[("since", since)]);
    let groups: Groups = parse(&client.send(request).await?)?;
    let mut table = Table::new(["COUNT", "TYPE", "STATE", "LAST", "NEWEST", "ERROR"]);
    for text in groups.groups {
        if format == OutputFormat::Json {
            output::json(text.get())?;
            continue;
        }
        let group: Group = parse(text.get())?;
        table.row([
            group.count.to_string(),
            group.r#type,
            group.state,
            output::time(Some(group.last_finished_at)),
            group.newest,
            group.error,
        ]);
    }
    if format == OutputFormat::Table {
        table.print()?;
    }
    Ok(0)
}
