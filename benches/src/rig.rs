//! The servers of a bench.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_nats::jetstream;
use futures_util::TryStreamExt;
use goflow::{TaskStore, nats, postgres};
use goflow_test_servers::{Nats, Postgres};

use crate::payload::Payload;

/// Publishes a client of the bench may have under way.
const MAX_UNDER_WAY: usize = 1 << 16;

/// How long the server may take to answer a publish, a request to make a stream, or the like.
const PATIENCE: Duration = Duration::from_secs(30);

/// NATS and Postgres with durable defaults, empty, and ended when this is dropped.
#[derive(Debug)]
pub struct Rig {
    nats: Nats,
    postgres: Postgres,
}

/// A database of a single run. Dropped with all it holds when this is.
#[derive(Debug)]
pub struct Database<'a> {
    rig: &'a Rig,
    url: String,
}

impl Rig {
    /// Starts both servers.
    ///
    /// # Errors
    /// When one is missing or does not start.
    pub fn start() -> Result<Self> {
        Ok(Self {
            nats: Nats::start()?,
            postgres: Postgres::start()?,
        })
    }

    /// Starts both servers, with statistics of statements in Postgres.
    ///
    /// # Errors
    /// As [`start`](Self::start); when Postgres has no `pg_stat_statements`.
    pub fn start_with_statistics() -> Result<Self> {
        let mut rig = Self::start()?;
        for setting in [
            "shared_preload_libraries = 'pg_stat_statements'",
            "track_io_timing = on",
        ] {
            let sql = format!("alter system set {setting}");
            rig.postgres.execute(rig.postgres.url(), &sql)?;
        }
        rig.postgres.restart()?;
        let extension = "create extension pg_stat_statements";
        rig.postgres.execute(rig.postgres.url(), extension)?;
        Ok(rig)
    }

    /// Where NATS is.
    pub fn nats_url(&self) -> &str {
        self.nats.url()
    }

    /// Process ids of the servers, by name.
    pub(crate) fn servers(&self) -> [(&'static str, u32); 2] {
        [
            ("nats-server", self.nats.pid()),
            ("postgres", self.postgres.pid()),
        ]
    }

    /// Runs SQL in the server's own database.
    ///
    /// # Errors
    /// What `psql` says.
    pub fn administrate(&self, sql: &str) -> Result<String> {
        self.postgres.execute(self.postgres.url(), sql)
    }

    /// A connection to JetStream of its own.
    ///
    /// # Errors
    /// When it cannot be had.
    pub(crate) async fn jetstream(&self) -> Result<jetstream::Context> {
        let client = async_nats::ConnectOptions::new()
            .subscription_capacity(MAX_UNDER_WAY)
            .client_capacity(MAX_UNDER_WAY / 4)
            .connect(self.nats.url())
            .await
            .context("connect to NATS")?;
        Ok(jetstream::context::ContextBuilder::new()
            .max_ack_inflight(MAX_UNDER_WAY)
            .timeout(PATIENCE)
            .build(client))
    }

    /// Makes the broker a new one for goflow: it belongs to one store, and each run has its own.
    ///
    /// # Errors
    /// What the server says.
    pub(crate) async fn reset_broker(&self) -> Result<()> {
        let context = self.jetstream().await?;
        let names: Vec<String> = context.stream_names().try_collect().await?;
        for name in names.iter().filter(|name| name.starts_with("GF_")) {
            context.delete_stream(name).await?;
        }
        Ok(())
    }

    /// An empty database. What earlier runs wrote is on disk by then: nobody pays for another's checkpoint.
    ///
    /// # Errors
    /// What Postgres says.
    pub fn database(&self) -> Result<Database<'_>> {
        let url = self.postgres.create_database()?;
        self.administrate("checkpoint")?;
        Ok(Database { rig: self, url })
    }
}

impl Database<'_> {
    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs SQL in it.
    ///
    /// # Errors
    /// What `psql` says.
    pub fn execute(&self, sql: &str) -> Result<String> {
        self.rig.postgres.execute(&self.url, sql)
    }

    /// A store of goflow's in it, as an engine wants it: with the schema, and without a limit on what waits.
    ///
    /// # Errors
    /// What Postgres says.
    pub(crate) async fn store(&self) -> Result<Arc<dyn TaskStore>> {
        postgres::migrate(&self.url).await?;
        let options = postgres::Options {
            max_live: usize::MAX / 2,
            ..postgres::Options::new(&self.url)
        };
        Ok(Arc::new(postgres::connect(options).await?))
    }

    /// Checks that the table holds `tasks` right results, each task's once, and nothing else.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn check(&self, table: &str, payload: Payload, tasks: usize) -> Result<()> {
        let counts = self.execute(&payload.count_sql(table, tasks))?;
        if counts != format!("{tasks}|{tasks}") {
            bail!("{table} should hold {tasks} rows and as many right results, but has {counts}");
        }
        Ok(())
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        let Some(name) = self.url.rsplit('/').next() else {
            return;
        };
        let drop = format!("drop database {name} with (force)");
        if let Err(error) = self.rig.administrate(&drop) {
            eprintln!("{error:#}");
        }
    }
}

/// How goflow is to connect to the broker: with the defaults, but for the limit on what waits.
pub(crate) fn broker_options(url: &str) -> nats::Options {
    nats::Options {
        max_queue_messages: 0,
        max_result_messages: 0,
        ..nats::Options::new(url)
    }
}
