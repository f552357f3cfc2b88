//! Bringing the schema up to date, and telling whether it is.

use goflow_core::store::Error;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection};

use crate::connect::{open, parse};
use crate::error::{Kind, kind, reason, translate};
use crate::sql;

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// What [`migrate`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationReport {
    /// The migrations that were applied now, in their order; empty when the schema was up to date.
    pub applied: Vec<String>,
    /// The version of the schema.
    pub version: i64,
}

/// Brings the schema of the database at `url` up to date. Several callers at once wait for each other.
///
/// # Errors
/// As [`connect`](crate::connect); [`Error::Refused`] when a migration does not apply, or was changed after it
/// had been applied, or the schema is of a later version.
pub async fn migrate(url: &str) -> Result<MigrationReport, Error> {
    let options = parse(url)?;
    let mut connection = open(&options).await?;
    let before = version(&mut connection).await?;
    // A pool, because the future of a migration over a plain connection cannot move between threads.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_lazy_with(options);
    let migrated = MIGRATIONS.run(&pool).await.map_err(refused);
    pool.close().await;
    migrated?;
    let made = sqlx::query(sql::MAKE_PARTITIONS)
        .bind(7_i32)
        .execute(&mut connection)
        .await;
    made.map_err(|error| translate("migrate", error))?;
    connection.close().await.ok();
    let new = MIGRATIONS
        .iter()
        .filter(|migration| before.is_none_or(|before| migration.version > before));
    Ok(MigrationReport {
        applied: new
            .map(|migration| format!("{:04}_{}", migration.version, migration.description))
            .collect(),
        version: newest(),
    })
}

/// Whether the schema is the one this version works with.
pub(crate) async fn check(connection: &mut PgConnection) -> Result<(), Error> {
    match version(connection).await? {
        Some(there) if there > newest() => Err(newer(there)),
        Some(there) if there == newest() => Ok(()),
        _ => Err(Error::Outdated),
    }
}

/// The version of the schema; none when there is no schema.
async fn version(connection: &mut PgConnection) -> Result<Option<i64>, Error> {
    match sqlx::query_scalar(sql::SCHEMA_VERSION)
        .fetch_one(connection)
        .await
    {
        Ok(version) => Ok(version),
        Err(error) if kind(&error) == Kind::Schema => Ok(None),
        Err(error) => Err(translate("read the schema version", error)),
    }
}

fn newest() -> i64 {
    MIGRATIONS
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or_default()
}

fn newer(there: i64) -> Error {
    Error::Refused {
        reason: format!(
            "the schema is of version {there}, newer than the {} this program knows: update the program",
            newest()
        ),
    }
}

fn refused(error: MigrateError) -> Error {
    match error {
        MigrateError::Execute(error) => translate("migrate", error),
        MigrateError::ExecuteMigration(error, version) if kind(&error) != Kind::Unavailable => {
            Error::Refused {
                reason: format!("migration {version}: {}", reason(&error)),
            }
        }
        MigrateError::ExecuteMigration(error, _) => translate("migrate", error),
        MigrateError::VersionMissing(there) => newer(there),
        other => Error::Refused {
            reason: other.to_string(),
        },
    }
}
