//! A NATS server with JetStream.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::child::Child;
use crate::install;

const PATIENCE: Duration = Duration::from_secs(20);

/// A NATS server of the test's own. It keeps its port over restarts.
#[derive(Debug)]
pub struct Nats {
    // Before the directory: fields are dropped in this order.
    child: Child,
    server: PathBuf,
    dir: TempDir,
    url: String,
    port: String,
    /// Arguments besides those that every server gets.
    more: Vec<String>,
}

impl Nats {
    /// Starts a server on a free loopback port with an empty JetStream store.
    ///
    /// # Errors
    /// When there is no `nats-server`, or it does not start; the error shows its log.
    pub fn start() -> Result<Self> {
        Self::start_in(&std::env::temp_dir())
    }

    /// The same, with its files in a directory of its own below `parent`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_in(parent: &Path) -> Result<Self> {
        Self::start_with(parent, Vec::new())
    }

    /// Starts the servers of a cluster, named `nats-1` and so on. They do not tell clients of each other, and may
    /// still be looking for a leader when this returns.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_cluster(parent: &Path, servers: usize) -> Result<Vec<Self>> {
        let ports = free_ports(servers)?;
        let route = |port: &u16| format!("nats://127.0.0.1:{port}");
        let routes = ports.iter().map(route).collect::<Vec<_>>().join(",");
        let start = |(number, port): (usize, &u16)| {
            let (name, own) = (format!("nats-{number}"), route(port));
            let more = [
                ["--name", &name],
                ["--cluster_name", "goflow"],
                ["--cluster", &own],
                ["--routes", &routes],
                ["--no_advertise=true", "--connect_retries=1000"],
            ];
            Self::start_with(
                parent,
                more.concat().into_iter().map(str::to_owned).collect(),
            )
        };
        (1..).zip(&ports).map(start).collect()
    }

    fn start_with(parent: &Path, more: Vec<String>) -> Result<Self> {
        let server = install::nats_server()?;
        let dir = tempfile::Builder::new()
            .prefix("goflow-nats-")
            .tempdir_in(parent)
            .context("make a directory for NATS")?;
        let (child, url) = spawn(&server, &dir, "-1", &more)?;
        let port = url.rsplit(':').next().unwrap_or_default().to_owned();
        Ok(Self {
            child,
            server,
            dir,
            url,
            port,
            more,
        })
    }

    /// What the server says of its version.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn version(&self) -> Result<String> {
        let output = Command::new(&self.server).arg("--version").output();
        let output = output.context("run nats-server --version")?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Stops it in good order and starts it on the same port and store.
    ///
    /// # Errors
    /// When it does not end or does not start.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.start_again()
    }

    /// Kills it (SIGKILL).
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()
    }

    /// Stops it in good order.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> Result<()> {
        self.child.end(Signal::TERM, PATIENCE)
    }

    /// Starts it again after [`kill`](Self::kill) or [`stop`](Self::stop), on the same port and store.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_again(&mut self) -> Result<()> {
        self.child.kill()?;
        (self.child, self.url) = spawn(&self.server, &self.dir, &self.port, &self.more)?;
        Ok(())
    }

    /// Kills it, removes all it has stored, and starts it on the same port.
    ///
    /// # Errors
    /// When it does not end or does not start.
    pub fn wipe_and_restart(&mut self) -> Result<()> {
        self.kill()?;
        fs::remove_dir_all(self.dir.path().join("store")).context("remove the JetStream store")?;
        self.start_again()
    }

    /// Stops it in its tracks (SIGSTOP): connections stay, nothing answers.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn pause(&mut self) -> Result<()> {
        self.child.signal(Signal::STOP)
    }

    /// Lets it go on after [`pause`](Self::pause).
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn resume(&mut self) -> Result<()> {
        self.child.signal(Signal::CONT)
    }
}

fn free_ports(count: usize) -> Result<Vec<u16>> {
    let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port");
    // All at once, so that they differ.
    let listeners: Vec<_> = (0..count).map(bind).collect::<Result<_>>()?;
    let port =
        |listener: &TcpListener| Ok(listener.local_addr().context("find a free port")?.port());
    listeners.iter().map(port).collect()
}

fn spawn(server: &PathBuf, dir: &TempDir, port: &str, more: &[String]) -> Result<(Child, String)> {
    let dir = dir.path();
    let mut command = Command::new(server);
    command.args(["-a", "127.0.0.1", "-p", port, "-js"]);
    command
        .arg("-sd")
        .arg(dir.join("store"))
        .arg("--ports_file_dir")
        .arg(dir)
        .args(more);
    let mut child = Child::spawn("nats-server", &mut command, dir)?;
    // A killed server leaves its ports file behind; only the one with this process's id counts.
    let file_name = format!(
        "{}_{}.ports",
        server.file_name().unwrap_or_default().to_string_lossy(),
        child.pid()
    );
    let ports = dir.join(file_name);
    let url = child.wait_ready(PATIENCE, |_| {
        // Not there, or half written: not ready.
        let ports: serde_json::Value = serde_json::from_slice(&fs::read(&ports).ok()?).ok()?;
        Some(ports.get("nats")?.get(0)?.as_str()?.to_owned())
    })?;
    Ok((child, url))
}
