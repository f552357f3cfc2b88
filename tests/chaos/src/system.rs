//! What is under test: real servers, gateways and workers, with a network of proxies between them.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use goflow_core::engine::Record;
use goflow_core::faults::Bug;
use goflow_test_servers::{Nats, Postgres, Process, binary};

use crate::broker;
use crate::disk::Disk;
use crate::member::{Far, Kind, Link, Member};
use crate::work::EXECUTABLE;

/// The lease that all workers ask for, unless a run says otherwise.
pub const LEASE: Duration = Duration::from_secs(2);

/// How long a worker or gateway may take to end after SIGTERM.
const GRACE: &str = "2s";

/// What keeps Postgres from filling a small disk by itself.
const SMALL_DISK: [&str; 2] = ["max_wal_size=256MB", "min_wal_size=80MB"];

const MIGRATE_PATIENCE: Duration = Duration::from_secs(60);

/// How much of everything there is.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Gateways.
    pub gateways: usize,
    /// Workers of the harness.
    pub workers: usize,
    /// Stock workers.
    pub stock_workers: usize,
    /// Tasks each of the harness's workers runs at once.
    pub slots: usize,
    /// The lease of the queues.
    pub lease: Duration,
    /// Servers of the broker: 1, or 3 with three copies of everything.
    pub nats: usize,
    /// The sizes of small disks for broker and store, in MiB; none if the disks of the machine are used.
    pub disks: Option<(u64, u64)>,
    /// A bug planted in gateways and workers.
    pub plant: Option<Bug>,
    /// When tasks get a row.
    pub record: Record,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            gateways: 2,
            workers: 3,
            stock_workers: 2,
            slots: 16,
            lease: LEASE,
            nats: 1,
            disks: None,
            plant: None,
            record: Record::Full,
        }
    }
}

/// Everything that runs.
#[derive(Debug)]
pub struct System {
    /// Gateways, then workers. Before the servers: fields are dropped in this order.
    pub members: Vec<Mutex<Member>>,
    /// The servers of the broker.
    pub nats: Vec<Mutex<Nats>>,
    /// The store's server.
    pub postgres: Mutex<Postgres>,
    /// The disk of the broker and that of the store's server, if they have disks of their own.
    pub disks: Option<(Disk, Disk)>,
    /// The store, not through any proxy.
    pub store: String,
    /// What the handlers write.
    pub ledger: PathBuf,
}

impl System {
    /// Starts everything, in `dir`, which is there and empty.
    ///
    /// # Errors
    /// When something does not start; the error shows its output.
    pub async fn start(setup: &Setup, dir: &Path) -> Result<Self> {
        let disks = match setup.disks {
            Some((nats, postgres)) => Some((
                Disk::mount(&dir.join("nats"), nats)?,
                Disk::mount(&dir.join("postgres"), postgres)?,
            )),
            None => None,
        };
        let temporary = std::env::temp_dir();
        let (nats_in, postgres_in) = match &disks {
            Some((nats, postgres)) => (nats.path(), postgres.path()),
            None => (&*temporary, &*temporary),
        };
        let nats = match setup.nats {
            1 => vec![Nats::start_in(nats_in)?],
            servers => Nats::start_cluster(nats_in, servers)?,
        };
        let settings: &[&str] = if disks.is_some() { &SMALL_DISK } else { &[] };
        let postgres = Postgres::start_in(postgres_in, settings)?;
        let store = postgres.create_database()?;
        let mut migrate = Process::gf(["migrate", "--store", &store])?;
        let migrated = migrate.wait_exit(MIGRATE_PATIENCE).await?;
        ensure!(migrated.success(), "gf migrate: {}", migrate.stderr());

        let place = Place::make(dir)?;
        let ledger = place.ledger.clone();
        let builder = Builder {
            setup,
            place,
            nats: nats
                .iter()
                .map(|nats| address(nats.url()))
                .collect::<Result<_>>()?,
            postgres: address(&store)?,
            store: &store,
        };
        broker::wait_ready(nats[0].url()).await?;
        let mut members = Vec::new();
        for number in 1..=setup.gateways {
            members.push(builder.gateway(number).await?);
        }
        for number in 1..=setup.workers {
            members.push(builder.worker(number).await?);
        }
        for number in 1..=setup.stock_workers {
            members.push(builder.stock_worker(number).await?);
        }
        Ok(Self {
            members: members.into_iter().map(Mutex::new).collect(),
            nats: nats.into_iter().map(Mutex::new).collect(),
            postgres: Mutex::new(postgres),
            disks,
            store,
            ledger,
        })
    }

    /// A member, for oneself.
    pub fn member(&self, at: usize) -> MutexGuard<'_, Member> {
        lock(&self.members[at])
    }

    /// All members, each for oneself while it is looked at.
    pub fn each(&self) -> impl Iterator<Item = MutexGuard<'_, Member>> {
        self.members.iter().map(lock)
    }

    /// Every process with its name: gateways and workers, the servers of the broker, the store's server.
    pub fn processes(&self) -> Vec<(Arc<str>, u32)> {
        let mut all: Vec<_> = self
            .each()
            .map(|member| (member.name.clone(), member.pid()))
            .collect();
        for (number, nats) in (1..).zip(&self.nats) {
            all.push((format!("nats-{number}").into(), lock(nats).pid()));
        }
        all.push(("postgres".into(), lock(&self.postgres).pid()));
        all
    }

    /// The versions of what runs.
    ///
    /// # Errors
    /// When a server does not say.
    pub fn versions(&self) -> Result<Vec<String>> {
        let postgres = lock(&self.postgres).execute(&self.store, "show server_version")?;
        Ok(vec![
            format!("goflow {}", env!("CARGO_PKG_VERSION")),
            lock(&self.nats[0]).version()?,
            format!("Postgres {postgres}"),
        ])
    }

    /// Where the gateways listen.
    pub fn gateways(&self) -> Vec<String> {
        let gateways = self.each().filter(|member| member.kind == Kind::Gateway);
        gateways.map(|member| member.url().to_owned()).collect()
    }
}

/// Locks what no panic can have left half done.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The files of a run.
struct Place {
    ledger: PathBuf,
    marks: PathBuf,
    handlers: PathBuf,
}

impl Place {
    fn make(dir: &Path) -> Result<Self> {
        let place = Self {
            ledger: dir.join("ledger"),
            marks: dir.join("marks"),
            handlers: dir.join("handlers"),
        };
        fs::create_dir(&place.marks).context("make a directory for marks")?;
        fs::create_dir(&place.handlers).context("make a directory for handlers")?;
        let handler = place.handlers.join(EXECUTABLE);
        let script = format!(
            "#!/bin/sh\nexec {} handle {} {}\n",
            binary("chaos-worker")?.display(),
            place.ledger.display(),
            place.marks.display()
        );
        fs::write(&handler, script).context("write the executable handler")?;
        fs::set_permissions(&handler, fs::Permissions::from_mode(0o755))?;
        Ok(place)
    }
}

struct Builder<'a> {
    setup: &'a Setup,
    place: Place,
    nats: Vec<SocketAddr>,
    postgres: SocketAddr,
    store: &'a str,
}

impl Builder<'_> {
    async fn gateway(&self, number: usize) -> Result<Member> {
        let mut links = self.nats_links().await?;
        let postgres = Link::to(Far::Postgres, self.postgres).await?;
        let store = self.store.replace(
            &self.postgres.to_string(),
            &postgres.proxy.address().to_string(),
        );
        let args = [
            "--broker",
            &url(&links),
            "--store",
            &store,
            "--grace",
            GRACE,
            "--record",
            match self.setup.record {
                Record::Full => "full",
                Record::Outcome => "outcome",
            },
        ];
        let process = Process::gateway_with(args, &self.env())?;
        let name = format!("gateway-{number}");
        links.push(postgres);
        Ok(Member::new(name, Kind::Gateway, links, 0, process))
    }

    async fn worker(&self, number: usize) -> Result<Member> {
        let links = self.nats_links().await?;
        let mut args = self.worker_args(&links, self.setup.slots);
        args.extend(["--ledger".into(), self.place.ledger.clone().into()]);
        args.extend(["--marks".into(), self.place.marks.clone().into()]);
        let process = Process::program("chaos-worker", args, &self.env())?;
        let name = format!("worker-{number}");
        Ok(Member::new(
            name,
            Kind::Worker,
            links,
            self.setup.slots,
            process,
        ))
    }

    async fn stock_worker(&self, number: usize) -> Result<Member> {
        const SLOTS: usize = 4;
        let links = self.nats_links().await?;
        let mut args = vec!["stock".into()];
        args.extend(self.worker_args(&links, SLOTS));
        args.extend(["--queues".into(), EXECUTABLE.into()]);
        args.extend(["--handlers-path".into(), self.place.handlers.clone().into()]);
        let process = Process::program("chaos-worker", args, &self.env())?;
        let name = format!("stock-worker-{number}");
        Ok(Member::new(name, Kind::StockWorker, links, SLOTS, process))
    }

    /// A link to each server of the broker.
    async fn nats_links(&self) -> Result<Vec<Link>> {
        let mut links = Vec::new();
        for address in &self.nats {
            links.push(Link::to(Far::Nats, *address).await?);
        }
        Ok(links)
    }

    fn worker_args(&self, nats: &[Link], slots: usize) -> Vec<OsString> {
        let lease = format!("{}ms", self.setup.lease.as_millis());
        let (broker, slots) = (url(nats), slots.to_string());
        [
            "--broker",
            &broker,
            "--num-workers",
            &slots,
            "--lease",
            &lease,
            "--grace",
            GRACE,
        ]
        .map(Into::into)
        .into()
    }

    fn env(&self) -> Vec<(&'static str, &'static OsStr)> {
        // A backtrace of the first panic takes a hundred megabytes for its symbols, for good.
        let backtrace = ("RUST_BACKTRACE", OsStr::new("0"));
        let plant = self
            .setup
            .plant
            .map(|bug| ("GF_FAULTS", OsStr::new(bug.as_str())));
        std::iter::once(backtrace).chain(plant).collect()
    }
}

/// The broker at the near end of these links.
fn url(nats: &[Link]) -> String {
    let servers: Vec<_> = nats
        .iter()
        .map(|link| format!("nats://{}", link.proxy.address()))
        .collect();
    let replicas = if servers.len() > 1 {
        format!("?replicas={}", servers.len())
    } else {
        String::new()
    };
    servers.join(",") + &replicas
}

/// The loopback address in a URL of a server.
fn address(url: &str) -> Result<SocketAddr> {
    let port = url
        .rsplit_once(':')
        .and_then(|(_, rest)| rest.split('/').next()?.parse().ok());
    let port: u16 = port.with_context(|| format!("no port in {url}"))?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}
