//! Brokers and stores by URL. No message and no log line in here holds a password.

use std::sync::Arc;

use anyhow::{Context, Result};
use goflow_core::TaskStore;
use goflow_core::broker::{self, Connection};
use goflow_core::store::memory::{self, MemoryStore};
pub use goflow_postgres::{MigrationReport, OLDEST_SERVER, ServerVersion};

use crate::exit::Usage;
use crate::store::StoreOptions;
use crate::url::{Broker, BrokerUrl, Store, StoreUrl};

/// Connects to the broker at `url`. Memory is always there, and a new one each time.
///
/// # Errors
/// When there is no such kind of broker, nobody answers within seconds, or it refuses us.
pub async fn broker(url: &BrokerUrl) -> Result<Connection> {
    match url.kind() {
        Some(Broker::Memory) => Ok(broker::memory::connect(broker::memory::Options::default())),
        Some(Broker::Nats { servers, replicas }) => {
            let options = goflow_nats::Options {
                servers,
                replicas,
                ..Default::default()
            };
            goflow_nats::connect(options)
                .await
                .with_context(|| format!("connect to the broker {url}"))
        }
        None => Err(unknown(
            "broker",
            url,
            "memory:, nats://HOST:PORT or tls://HOST:PORT",
        )),
    }
}

/// Connects to a store. Memory is always there, and a new one each time.
///
/// # Errors
/// When there is no such kind of store, nobody answers within seconds, it refuses us, or its schema is not up to
/// date.
pub async fn store(options: &StoreOptions) -> Result<Arc<dyn TaskStore>> {
    let url = &options.url;
    match url.kind() {
        Some(Store::Memory) => Ok(Arc::new(MemoryStore::new(memory::Options {
            max_live: options.max_undispatched,
            keep_finished: options.keep_finished,
            keep_for: options.keep_for,
        }))),
        Some(Store::Postgres(raw)) => {
            let store = goflow_postgres::connect(postgres(raw, options)).await;
            Ok(Arc::new(
                store.with_context(|| format!("connect to the store {url}"))?,
            ))
        }
        None => Err(unknown_store(url)),
    }
}

/// Brings the schema of the store at `url` up to date; `None` for memory, which has none.
///
/// # Errors
/// When there is no such kind of store, nobody answers within seconds, or a migration fails.
pub async fn migrate(url: &StoreUrl) -> Result<Option<MigrationReport>> {
    let Some(raw) = postgres_url(url)? else {
        return Ok(None);
    };
    let report = goflow_postgres::migrate(&raw).await;
    report
        .map(Some)
        .with_context(|| format!("migrate the store {url}"))
}

/// The version of the Postgres at `url`; `None` for memory, which has none.
///
/// # Errors
/// When there is no such kind of store, nobody answers within seconds, or it refuses us.
pub async fn store_version(url: &StoreUrl) -> Result<Option<ServerVersion>> {
    let Some(raw) = postgres_url(url)? else {
        return Ok(None);
    };
    let version = goflow_postgres::server_version(&raw).await;
    version
        .map(Some)
        .with_context(|| format!("connect to the store {url}"))
}

/// The URL with its secrets, if it is a Postgres.
fn postgres_url(url: &StoreUrl) -> Result<Option<String>> {
    match url.kind() {
        Some(Store::Memory) => Ok(None),
        Some(Store::Postgres(raw)) => Ok(Some(raw)),
        None => Err(unknown_store(url)),
    }
}

fn postgres(url: String, options: &StoreOptions) -> goflow_postgres::Options {
    goflow_postgres::Options {
        max_live: options.max_undispatched,
        ..goflow_postgres::Options::new(url)
    }
}

fn unknown_store(url: &StoreUrl) -> anyhow::Error {
    unknown(
        "store",
        url,
        "memory: or postgres://USER@HOST:PORT/DATABASE",
    )
}

fn unknown(what: &str, url: &dyn std::fmt::Display, use_these: &str) -> anyhow::Error {
    Usage(format!("no {what} is known for {url}: use {use_these}")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_is_always_there() {
        broker(&"memory:".parse().unwrap()).await.unwrap();
        store(&StoreOptions::default()).await.unwrap();
        assert_eq!(migrate(&StoreUrl::memory()).await.unwrap(), None);
        assert_eq!(store_version(&StoreUrl::memory()).await.unwrap(), None);
    }

    #[test]
    fn every_kind_of_store_gets_its_limit() {
        let options = StoreOptions {
            max_undispatched: 7,
            ..StoreOptions::default()
        };
        let options = postgres("postgres://a/b".to_owned(), &options);
        assert_eq!(
            (options.max_live, options.url.as_str()),
            (7, "postgres://a/b")
        );
    }

    #[tokio::test]
    async fn other_schemes_are_refused_without_their_secrets() {
        let error = broker(&"redis://me:secret@a".parse().unwrap())
            .await
            .unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "no broker is known for redis://***@a: use memory:, nats://HOST:PORT or tls://HOST:PORT"
        );
        let url: StoreUrl = "mysql://me:secret@a/b".parse().unwrap();
        let error = store(&StoreOptions::new(url.clone())).await.unwrap_err();
        assert!(error.downcast_ref::<Usage>().is_some());
        assert!(!format!("{error:#}").contains("secret"));
        migrate(&url).await.unwrap_err();
        store_version(&url).await.unwrap_err();
    }

    /// Port 1 of loopback refuses at once.
    #[tokio::test]
    async fn a_server_that_is_away_is_named_without_its_secrets() {
        let error = broker(&"nats://me:secret@127.0.0.1:1".parse().unwrap())
            .await
            .unwrap_err();
        let line = format!("{error:#}");
        assert!(
            line.contains("127.0.0.1:1") && !line.contains("secret"),
            "{line}"
        );
        let url = "postgres://me:secret@127.0.0.1:1/a".parse().unwrap();
        let error = store(&StoreOptions::new(url)).await.unwrap_err();
        let line = format!("{error:#}");
        assert!(
            line.contains("127.0.0.1:1") && !line.contains("secret"),
            "{line}"
        );
    }
}
