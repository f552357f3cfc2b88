//! `gf migrate`.

use anyhow::Result;
use gf_process::adapters;

use crate::args::Migrate;
use crate::failure::Failure;
use crate::output;

/// Brings the schema of a store up to date.
pub(super) async fn run(migrate: Migrate) -> Result<u8> {
    let Some(report) = adapters::migrate(&migrate.store).await? else {
        let text =
            "a store in memory has no schema: say --store postgres://USER@HOST:PORT/DATABASE";
        return Err(Failure::Usage(text.to_owned()).into());
    };
    for migration in &report.applied {
        output::line(&format!("applied {migration}"))?;
    }
    output::line(&format!(
        "the schema is up to date, at version {}",
        report.version
    ))?;
    Ok(0)
}
