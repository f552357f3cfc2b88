//! Making the connections.

use std::time::Duration;

use goflow_core::StoreId;
use goflow_core::store::Error;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::error::{translate, unreachable, within};
use crate::options::Options;
use crate::store::{Pools, PostgresStore};
use crate::{migrate, sql};

/// How long the first connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(4_500);

/// How long a call waits for a connection: shorter than its deadline, so that it can say what it waited for.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(4);

/// A connection that lay idle this long is tried out before it is used.
pub(crate) const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// Connects to a database whose schema is up to date.
///
/// # Errors
/// Within 5 s, each with a single line: [`Error::Unavailable`] when the server cannot be reached,
/// [`Error::Refused`] when it does not let the user in, has no such database, or has a schema of a later
/// version, [`Error::Outdated`] when the schema is older than this version needs.
pub async fn connect(options: Options) -> Result<PostgresStore, Error> {
    let connect_options = parse(&options.url)?.statement_cache_capacity(options.statement_cache);
    // A pool would try again until its timeout and then not know why.
    let mut first = open(&connect_options).await?;
    let id = within(CONNECT_TIMEOUT, "connect", async {
        migrate::check(&mut first).await?;
        let id = sqlx::query_scalar(sql::STORE_ID)
            .fetch_one(&mut first)
            .await;
        id.map(StoreId).map_err(|error| translate("connect", error))
    })
    .await?;
    first.close().await.ok();
    let share = |part: u32| (options.max_connections / part).max(1);
    let pools = Pools {
        writes: pool(share(2), &connect_options, sql::KEYED_SESSION),
        lookups: pool(share(4), &connect_options, sql::KEYED_SESSION),
        queries: pool(share(4), &connect_options, sql::QUERY_SESSION),
    };
    tracing::debug!(store = %id, "connected to postgres");
    Ok(PostgresStore::new(id, options, pools))
}

pub(crate) fn parse(url: &str) -> Result<PgConnectOptions, Error> {
    let options: PgConnectOptions = url.parse().map_err(|error: sqlx::Error| Error::Refused {
        // The URL itself may hold a password.
        reason: format!("not a postgres URL: {}", crate::error::reason(&error)),
    })?;
    Ok(options
        .application_name("goflow")
        .disable_statement_logging())
}

/// One connection outside of any pool.
pub(crate) async fn open(options: &PgConnectOptions) -> Result<PgConnection, Error> {
    match tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await {
        Ok(connected) => connected.map_err(|error| unreachable(options, &error)),
        Err(_) => {
            let silent = std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer");
            Err(unreachable(options, &sqlx::Error::Io(silent)))
        }
    }
}

fn pool(connections: u32, options: &PgConnectOptions, session: &'static str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(
                async move { Ok(meta.idle_for < TRUSTED_FOR || connection.ping().await.is_ok()) },
            )
        })
        .after_connect(move |connection, _| {
            Box::pin(async move {
                sqlx::raw_sql(session).execute(connection).await?;
                Ok(())
            })
        })
        .connect_lazy_with(options.clone())
}
