//! The first connection: it comes about within seconds, or fails with one clear line.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{ConnectOptions, Event, ServerAddr};
use goflow_core::broker::{Connection, Error};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api;
use crate::broker::NatsBroker;
use crate::control::NatsControl;
use crate::error;
use crate::link::{Life, Link, Owner};
use crate::options::Options;
use crate::topology::Address;

/// The oldest server that keeps what this adapter promises.
const OLDEST_SERVER: (u64, u64, u64) = (2, 14, 5);

/// The JetStream question at the start may be forbidden to workers, who then wait for this long.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

const PING_INTERVAL: Duration = Duration::from_secs(10);
const LONGEST_RECONNECT_DELAY: Duration = Duration::from_secs(2);

/// Connects. Once it has succeeded, the connection restores itself for as long as it takes.
///
/// # Errors
/// [`Error::Unavailable`] when no server answers in time; [`Error::Refused`] when one does but has no JetStream, is
/// older than 2.14.5, or does not let us in. Each says so in one line.
pub async fn connect(options: Options) -> Result<Connection, Error> {
    let stopped = CancellationToken::new();
    let owner = Owner(stopped.clone());
    let io = start_io(stopped.clone()).await?;
    let (life, lives) = watch::channel(Life::default());
    let servers = options.shown_servers();
    let limit = options.connect_timeout;
    let spawner = io.clone();
    let establishing = async move {
        let establishing = establish(options, spawner, stopped, life, lives);
        tokio::time::timeout(limit + PROBE_TIMEOUT, establishing).await
    };
    // On its own thread from the start: the client's task stays where it was spawned.
    let established = io.spawn(establishing).await;
    let link = established
        .map_err(|ended| Error::unavailable("connect", ended))?
        .map_err(|_| error::unreachable(&servers, "timed out"))??;
    let owner = Arc::new(owner);
    let context = {
        // It spawns a task of its own where it is made.
        let _io = io.enter();
        async_nats::jetstream::new(link.client().clone())
    };
    Ok(Connection {
        tasks: Arc::new(NatsBroker::new(
            link.clone(),
            owner.clone(),
            context.clone(),
            Address::of_lane,
        )),
        results: Arc::new(NatsBroker::new(
            link.clone(),
            owner.clone(),
            context,
            Address::of_route,
        )),
        control: Arc::new(NatsControl::new(link, owner)),
    })
}

/// Starts the thread that all traffic runs on. It ends with `stopped`.
async fn start_io(stopped: CancellationToken) -> Result<Handle, Error> {
    let (started, starting) = oneshot::channel();
    let run = move || match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            if started.send(Ok(runtime.handle().clone())).is_ok() {
                runtime.block_on(stopped.cancelled());
            }
        }
        Err(error) => drop(started.send(Err(error))),
    };
    let failed = |error: std::io::Error| Error::unavailable("start the network thread", error);
    std::thread::Builder::new()
        .name("goflow-nats".into())
        .spawn(run)
        .map_err(failed)?;
    match starting.await {
        Ok(started) => started.map_err(failed),
        Err(_) => Err(Error::Closed),
    }
}

async fn establish(
    options: Options,
    io: Handle,
    stopped: CancellationToken,
    life: watch::Sender<Life>,
    lives: watch::Receiver<Life>,
) -> Result<Link, Error> {
    let servers = options.shown_servers();
    let life = Arc::new(life);
    let driver = driver_options(&options, life.clone()).await?;
    let addresses = addresses(&options)?;
    let connecting = tokio::time::timeout(options.connect_timeout, driver.connect(addresses));
    let client = match connecting.await {
        Ok(Ok(client)) => client,
        Ok(Err(failed)) => return Err(error::connect(&servers, &failed)),
        Err(_) => return Err(error::unreachable(&servers, "timed out")),
    };
    // The event of the first connection may still be on its way.
    life.send_modify(|life| life.connected = true);
    let info = client.server_info();
    check_version(&servers, &info.version)?;
    let link = Link::new(client, options, io, stopped, lives);
    match api::probe(&link, Instant::now() + PROBE_TIMEOUT).await {
        api::Probe::Answers => {}
        api::Probe::NoJetStream => {
            return Err(Error::Refused {
                reason: format!("NATS at {servers} has no JetStream: start nats-server with -js"),
            });
        }
        api::Probe::NoAnswer => {
            tracing::warn!(
                servers,
                "JetStream did not say whether it is there; is $JS.API.INFO permitted?"
            );
        }
    }
    tracing::info!(
        servers,
        server = info.server_name,
        version = info.version,
        "connected to NATS"
    );
    Ok(link)
}

async fn driver_options(
    options: &Options,
    life: Arc<watch::Sender<Life>>,
) -> Result<ConnectOptions, Error> {
    let mut driver = ConnectOptions::new()
        .name(&options.name)
        .connection_timeout(options.connect_timeout)
        .request_timeout(Some(options.request_timeout))
        .ping_interval(PING_INTERVAL)
        .require_tls(options.require_tls)
        .reconnect_delay_callback(|attempt| {
            let doubled = Duration::from_millis(50).saturating_mul(1 << attempt.min(10));
            if attempt <= 1 {
                Duration::ZERO
            } else {
                doubled.min(LONGEST_RECONNECT_DELAY)
            }
        })
        .event_callback(move |event| {
            note(&life, &event);
            std::future::ready(())
        });
    let in_url = |server: &String| {
        server
            .parse::<ServerAddr>()
            .ok()
            .filter(ServerAddr::has_user_pass)
    };
    if let Some((user, password)) = &options.user {
        driver = driver.user_and_password(user.clone(), password.clone());
    } else if let Some(token) = &options.token {
        driver = driver.token(token.clone());
    } else if let Some(address) = options.servers.iter().find_map(in_url) {
        let user = address.username().unwrap_or_default().to_owned();
        driver = match address.password() {
            Some(password) => driver.user_and_password(user, password.to_owned()),
            None => driver.token(user),
        };
    }
    if let Some(seed) = &options.nkey {
        driver = driver.nkey(seed.clone());
    }
    if let Some(path) = &options.credentials {
        driver = driver
            .credentials_file(path)
            .await
            .map_err(|error| Error::Refused {
                reason: format!(
                    "cannot read the credentials file {}: {error}",
                    path.display()
                ),
            })?;
    }
    if let Some(path) = &options.ca {
        driver = driver.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &options.client_certificate {
        driver = driver.add_client_certificate(certificate.clone(), key.clone());
    }
    if options.tls_first {
        driver = driver.tls_first();
    }
    if let Some(prefix) = &options.inbox_prefix {
        driver = driver.custom_inbox_prefix(prefix);
    }
    Ok(driver)
}

fn addresses(options: &Options) -> Result<Vec<ServerAddr>, Error> {
    let bad = |error: std::io::Error| Error::Refused {
        reason: format!("{} is not a NATS address: {error}", options.shown_servers()),
    };
    options
        .servers
        .iter()
        .map(|server| server.parse::<ServerAddr>().map_err(bad))
        .collect()
}

/// Keeps track of the connection and logs what would otherwise look like a timeout.
fn note(life: &watch::Sender<Life>, event: &Event) {
    match event {
        Event::Connected => {
            life.send_modify(|life| life.connected = true);
            tracing::debug!("NATS connection stands");
        }
        Event::Disconnected | Event::Closed => {
            life.send_modify(|life| {
                *life = Life {
                    connected: false,
                    number: life.number + 1,
                }
            });
            tracing::warn!("NATS connection lost");
        }
        Event::SlowConsumer(subscription) => {
            tracing::warn!(
                subscription,
                "NATS dropped messages that were not read fast enough"
            );
        }
        Event::ServerError(error) => tracing::error!(%error, "NATS server refused something"),
        Event::ClientError(error) => tracing::warn!(%error, "NATS client error"),
        event => tracing::info!(%event, "NATS connection"),
    }
}

fn check_version(servers: &str, version: &str) -> Result<(), Error> {
    let mut numbers = version
        .split(['.', '-', '+'])
        .map(|number| number.parse::<u64>().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    let found = (next(), next(), next());
    if found >= OLDEST_SERVER {
        return Ok(());
    }
    let (major, minor, patch) = OLDEST_SERVER;
    Err(Error::Refused {
        reason: format!(
            "NATS at {servers} is version {version}, {major}.{minor}.{patch} or newer is needed"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_refused() {
        for good in ["2.14.5", "2.15.1", "2.15.0-RC.1", "3.0.0"] {
            assert!(check_version("nats://a", good).is_ok(), "{good}");
        }
        for bad in ["2.9.10", "2.14.4", "1.0", "nonsense"] {
            let text = check_version("nats://a", bad).unwrap_err().to_string();
            assert!(text.contains(bad) && text.contains("2.14.5"), "{text}");
        }
    }
}
