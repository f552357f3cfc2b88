//! A Postgres server.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::child::Child;
use crate::install;

const PATIENCE: Duration = Duration::from_secs(60);
const USER: &str = "goflow";
/// Somebody else may take a free port before Postgres does.
const PORTS_TRIED: usize = 5;

/// A Postgres server of the test's own, with `fsync` on. It keeps its port over restarts.
#[derive(Debug)]
pub struct Postgres {
    // Before the directory: fields are dropped in this order.
    child: Child,
    cluster: Cluster,
    port: u16,
    url: String,
    databases: AtomicU32,
}

#[derive(Debug)]
struct Cluster {
    bin: PathBuf,
    dir: TempDir,
    /// Whom to be: Postgres refuses to be root.
    owner: Option<(u32, u32)>,
    /// What is set besides what every test needs.
    settings: Vec<String>,
}

impl Postgres {
    /// Makes a cluster and starts it on a free loopback port.
    ///
    /// # Errors
    /// When there is no Postgres, or it does not start; the error shows its log.
    pub fn start() -> Result<Self> {
        Self::start_in(&std::env::temp_dir(), &[])
    }

    /// The same, with its files in a directory of its own below `parent`, and with these settings (`name=value`).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_in(parent: &Path, settings: &[&str]) -> Result<Self> {
        let cluster = Cluster::init(parent, settings)?;
        let mut tried = 0;
        let (child, port) = loop {
            let port = free_port()?;
            tried += 1;
            match cluster.spawn(port) {
                Ok(child) => break (child, port),
                Err(error) if tried == PORTS_TRIED => return Err(error),
                Err(_) => {}
            }
        };
        let url = database_url(port, "postgres");
        Ok(Self {
            child,
            cluster,
            port,
            url,
            databases: AtomicU32::new(0),
        })
    }

    /// The URL of the server's first database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Makes an empty database and gives its URL.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create_database(&self) -> Result<String> {
        let name = format!(
            "test_{}",
            self.databases.fetch_add(1, Ordering::Relaxed) + 1
        );
        self.execute(&self.url, &format!("create database {name}"))?;
        Ok(database_url(self.port, &name))
    }

    /// Runs SQL with `psql` and gives what it prints: a line per row, columns parted by `|`.
    ///
    /// # Errors
    /// What `psql` says.
    pub fn execute(&self, url: &str, sql: &str) -> Result<String> {
        let output = self.psql(url, sql).output().context("run psql")?;
        if !output.status.success() {
            bail!("psql: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    }

    /// What runs SQL with `psql`, for whoever does not want to wait for its end.
    pub fn psql(&self, url: &str, sql: &str) -> Command {
        let mut command = Command::new(self.cluster.bin.join("psql"));
        command
            .args([
                "--no-psqlrc",
                "--quiet",
                "--no-align",
                "--tuples-only",
                "--set=ON_ERROR_STOP=1",
            ])
            .args(["--command", sql, url]);
        command
    }

    /// Stops it in good order, ending its connections, and starts it on the same port and data.
    ///
    /// # Errors
    /// When it does not end or does not start.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.start_again()
    }

    /// Ends it at once, without a checkpoint: it has to recover from its log at the next start.
    ///
    /// # Errors
    /// When it does not end.
    pub fn kill_immediate(&mut self) -> Result<()> {
        // Not SIGKILL: its backends would outlive it and hold the shared memory.
        self.child.end(Signal::QUIT, PATIENCE)
    }

    /// Stops it in good order, ending its connections.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> Result<()> {
        self.child.end(Signal::INT, PATIENCE)
    }

    /// Starts it again if it has ended by itself.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_if_ended(&mut self) -> Result<()> {
        match self.child.exited()? {
            Some(_) => self.start_again(),
            None => Ok(()),
        }
    }

    /// Starts it again after [`stop`](Self::stop) or [`kill_immediate`](Self::kill_immediate).
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_again(&mut self) -> Result<()> {
        self.child.end(Signal::QUIT, PATIENCE)?;
        self.child = self.cluster.spawn(self.port)?;
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The drop of the child would be a SIGKILL, which leaves backends behind for a while.
        if let Err(error) = self.child.end(Signal::QUIT, PATIENCE) {
            eprintln!("{error:#}");
        }
    }
}

impl Cluster {
    fn init(parent: &Path, settings: &[&str]) -> Result<Self> {
        let bin = install::postgres_bin()?;
        let dir = tempfile::Builder::new()
            .prefix("goflow-pg-")
            .tempdir_in(parent)
            .context("make a directory for Postgres")?;
        let owner = if rustix::process::geteuid().is_root() {
            Some(unprivileged()?)
        } else {
            None
        };
        if let Some((uid, gid)) = owner {
            chown(dir.path(), Some(uid), Some(gid))
                .context("give the directory to Postgres's user")?;
        }
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let cluster = Self {
            bin,
            dir,
            owner,
            settings,
        };
        // Not synced: that is about surviving a power failure during initdb only.
        let output = cluster
            .command("initdb")
            .args([
                "--username",
                USER,
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
            ])
            .args(["--no-sync", "--no-instructions", "--pgdata"])
            .arg(cluster.data())
            .output()
            .context("run initdb")?;
        if !output.status.success() {
            bail!("initdb: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(cluster)
    }

    fn spawn(&self, port: u16) -> Result<Child> {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args([
            "-h",
            "127.0.0.1",
            "-k",
            "",
            "-p",
            &port.to_string(),
        ]);
        let usual = ["fsync=on", "max_connections=200", "shared_buffers=64MB"];
        let settings = usual
            .into_iter()
            .chain(self.settings.iter().map(String::as_str));
        for setting in settings {
            command.args(["-c", setting]);
        }
        let mut child = Child::spawn("postgres", &mut command, self.dir.path())?;
        let status_file = self.data().join("postmaster.pid");
        child.wait_ready(PATIENCE, |child| {
            is_ready(&status_file, child.pid()).then_some(())
        })?;
        Ok(child)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        // Somewhere the user may be.
        command.current_dir(self.dir.path());
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }
}

/// Whether the server with this process id says so, the way `pg_ctl` looks: the first line of `postmaster.pid` is
/// the id, the eighth the status.
fn is_ready(status_file: &Path, pid: u32) -> bool {
    let text = fs::read_to_string(status_file).unwrap_or_default();
    let mut lines = text.lines();
    lines
        .next()
        .is_some_and(|line| line.trim() == pid.to_string())
        && lines.nth(6).is_some_and(|line| line.trim() == "ready")
}

/// User and group id of somebody Postgres is willing to be.
fn unprivileged() -> Result<(u32, u32)> {
    ["postgres", "nobody"]
        .into_iter()
        .find_map(|user| Some((id("-u", user)?, id("-g", user)?)))
        .context("Postgres does not run as root, and there is neither a user postgres nor nobody")
}

fn id(which: &str, user: &str) -> Option<u32> {
    let output = Command::new("id").args([which, user]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr().context("find a free port")?.port())
}

fn database_url(port: u16, name: &str) -> String {
    format!("postgres://{USER}@127.0.0.1:{port}/{name}")
}
