//! The servers behind a gateway, asked directly.

use std::time::Duration;

use anyhow::{Context, Result};
use gf_process::adapters::{OLDEST_SERVER, ServerVersion};
use gf_process::{BrokerUrl, StoreOptions, StoreUrl, adapters};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Found, Report};

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The oldest NATS this version is made for.
const NATS_FLOOR: (u64, u64, u64) = (2, 14, 5);

/// What a NATS server says of itself to whoever connects.
#[derive(Debug, Deserialize)]
struct Info {
    version: String,
    #[serde(default)]
    jetstream: bool,
}

/// The part of a NATS server's monitoring that tells how JetStream writes.
#[derive(Debug, Deserialize)]
struct Varz {
    jetstream: Option<VarzJetStream>,
}

#[derive(Debug, Deserialize)]
struct VarzJetStream {
    config: Option<VarzConfig>,
}

#[derive(Debug, Deserialize)]
struct VarzConfig {
    /// In nanoseconds.
    #[serde(default)]
    sync_interval: u64,
    #[serde(default)]
    sync_always: bool,
}

/// Checks a NATS server.
pub(super) async fn broker(
    url: &BrokerUrl,
    monitor: Option<&str>,
    record: Option<&str>,
    report: &mut Report,
) -> Result<()> {
    for address in addresses(&url.to_string()) {
        match info(&address).await {
            Ok(info) => about(&address, &info, report)?,
            Err(error) => {
                let says = format_args!("{address}: {error:#}; see that nats-server runs there");
                report.note(Found::Fail, "nats", says)?;
                return Ok(());
            }
        }
    }
    match adapters::broker(url).await {
        Ok(connection) => {
            match connection.control.ping().await {
                Ok(()) => report.note(
                    Found::Ok,
                    "nats",
                    "takes our credentials, JetStream answers",
                )?,
                Err(error) => report.note(Found::Fail, "nats", error)?,
            }
            connection.control.close().await;
        }
        Err(error) => report.note(Found::Fail, "nats", format_args!("{error:#}"))?,
    }
    let (found, says) = match monitor {
        Some(monitor) => match varz(monitor).await {
            Ok(varz) => sync(varz.jetstream.and_then(|jetstream| jetstream.config), record),
            Err(error) => (Found::Warn, format!("{monitor}: {error:#}")),
        },
        None => (unsynced(record), "sync_interval unknown: --nats-monitor http://HOST:8222 lets it be checked; by default NATS writes to disk every 2 minutes".to_owned()),
    };
    report.note(found, "nats sync", says)
}

fn about(address: &str, info: &Info, report: &mut Report) -> Result<()> {
    let mut numbers = info
        .version
        .split(['.', '-'])
        .map_while(|number| number.parse::<u64>().ok());
    let mut next = || numbers.next().unwrap_or(0);
    let version = (next(), next(), next());
    if version < NATS_FLOOR {
        let (major, minor, patch) = NATS_FLOOR;
        let says = format_args!(
            "{address}: version {}, too old: use {major}.{minor}.{patch} or later",
            info.version
        );
        report.note(Found::Fail, "nats", says)?;
    } else {
        report.note(
            Found::Ok,
            "nats",
            format_args!("{address}: version {}", info.version),
        )?;
    }
    if info.jetstream {
        Ok(())
    } else {
        let says = format_args!(
            "{address}: JetStream is off: start nats-server with -js, or jetstream {{}} in its configuration"
        );
        report.note(Found::Fail, "nats", says)
    }
}

/// What a lazy write to disk means: in record mode full the store holds every accepted task.
fn unsynced(record: Option<&str>) -> Found {
    if record == Some("outcome") {
        Found::Warn
    } else {
        Found::Ok
    }
}

fn sync(config: Option<VarzConfig>, record: Option<&str>) -> (Found, String) {
    let Some(config) = config else {
        return (
            Found::Warn,
            "the server tells nothing of JetStream".to_owned(),
        );
    };
    if config.sync_always {
        return (
            Found::Ok,
            "sync_interval always: confirmed messages are on disk".to_owned(),
        );
    }
    let interval =
        humantime::format_duration(Duration::from_nanos(config.sync_interval)).to_string();
    match unsynced(record) {
        Found::Ok => (
            Found::Ok,
            format!("sync_interval {interval}: fine, the store holds every accepted task"),
        ),
        found => (
            found,
            format!(
                "sync_interval {interval}: a power failure loses accepted tasks of that time; use 3 replicas, sync_interval: always, or record mode full"
            ),
        ),
    }
}

/// Host and port of every server in a shown URL.
fn addresses(shown: &str) -> Vec<String> {
    let each = shown.split(',').map(|server| {
        let rest = server
            .trim()
            .split_once("://")
            .map_or(server.trim(), |(_, rest)| rest);
        let rest = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
        let address = rest.split(['/', '?']).next().unwrap_or(rest);
        let has_port = address
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if has_port {
            address.to_owned()
        } else {
            format!("{address}:4222")
        }
    });
    each.collect()
}

async fn info(address: &str) -> Result<Info> {
    let asked = async {
        let stream = TcpStream::connect(address).await.context("connect")?;
        let mut line = String::new();
        BufReader::new(stream)
            .read_line(&mut line)
            .await
            .context("read its greeting")?;
        let json = line
            .strip_prefix("INFO ")
            .context("it does not speak the NATS protocol")?;
        serde_json::from_str(json).context("read its greeting")
    };
    timeout(PATIENCE, asked)
        .await
        .unwrap_or_else(|_| Err(anyhow::anyhow!("it does not answer")))
}

async fn varz(monitor: &str) -> Result<Varz> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()?;
    let answer = http
        .get(format!("{}/varz", monitor.trim_end_matches('/')))
        .send()
        .await?;
    Ok(serde_json::from_str(&answer.text().await?)?)
}

/// Checks a Postgres.
pub(super) async fn store(url: &StoreUrl, report: &mut Report) -> Result<()> {
    match adapters::store_version(url).await {
        Ok(Some(version)) => about_postgres(version, report)?,
        Ok(None) => {}
        Err(error) => return report.note(Found::Fail, "postgres", format_args!("{error:#}")),
    }
    match adapters::store(&StoreOptions::new(url.clone())).await {
        Ok(store) => {
            match store.ping().await {
                Ok(()) => {
                    report.note(Found::Ok, "postgres", "answers, its schema is up to date")?
                }
                Err(error) => report.note(Found::Fail, "postgres", error)?,
            }
            store.close().await;
            Ok(())
        }
        Err(error) => report.note(Found::Fail, "postgres", format_args!("{error:#}")),
    }
}

fn about_postgres(version: ServerVersion, report: &mut Report) -> Result<()> {
    if version.is_supported() {
        return report.note(Found::Ok, "postgres", format_args!("version {version}"));
    }
    let says = format_args!("version {version}, too old: use {OLDEST_SERVER} or later");
    report.note(Found::Fail, "postgres", says)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_in_urls() {
        assert_eq!(addresses("nats://a:1,tls://b"), ["a:1", "b:4222"]);
        assert_eq!(addresses("nats://***@c:2"), ["c:2"]);
        assert_eq!(addresses("nats://[::1]:4222"), ["[::1]:4222"]);
    }

    #[test]
    fn lazy_writes_matter_in_outcome_mode() {
        let lazy = || {
            Some(VarzConfig {
                sync_interval: 120_000_000_000,
                sync_always: false,
            })
        };
        assert_eq!(sync(lazy(), Some("full")).0, Found::Ok);
        let (found, says) = sync(lazy(), Some("outcome"));
        assert!(found == Found::Warn && says.contains("2m"), "{says}");
        assert_eq!(
            sync(
                Some(VarzConfig {
                    sync_interval: 0,
                    sync_always: true
                }),
                Some("outcome")
            )
            .0,
            Found::Ok
        );
    }

    #[tokio::test]
    async fn old_servers_without_jetstream_fail() {
        let mut report = Report::default();
        let info: Info = serde_json::from_str(r#"{"version":"2.15.1","jetstream":true}"#).unwrap();
        about("a:1", &info, &mut report).unwrap();
        assert!(!report.failed);
        let info: Info = serde_json::from_str(r#"{"version":"2.9.10"}"#).unwrap();
        about("a:1", &info, &mut report).unwrap();
        assert!(report.failed);
    }

    #[test]
    fn an_old_postgres_fails() {
        let mut report = Report::default();
        let version = |major| ServerVersion { major, minor: 2 };
        about_postgres(version(OLDEST_SERVER), &mut report).unwrap();
        assert!(!report.failed);
        about_postgres(version(OLDEST_SERVER - 1), &mut report).unwrap();
        assert!(report.failed);
    }
}
