//! A goflow process of a run: it may be killed, cut off and paused, and is started again when it has ended.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use goflow_test_servers::Process;
use serde::Serialize;

use crate::clock::{self, Micros, micros};
use crate::proxy::Proxy;

/// The variable of a process that names where it kills itself.
const KILL_AT: &str = "GF_KILL_AT";

/// After a start, this long passes before the next.
const SHORTEST_LIFE: Duration = Duration::from_millis(500);

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `gf-gateway`.
    Gateway,
    /// The harness's own worker, whose handlers run in its process.
    Worker,
    /// `gf-worker` with an executable handler.
    StockWorker,
}

impl Kind {
    /// Whether it runs tasks.
    pub fn runs_tasks(self) -> bool {
        self != Self::Gateway
    }
}

/// The server at the far end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Far {
    /// A NATS server.
    Nats,
    /// Postgres.
    Postgres,
}

/// The network between a member and a server.
#[derive(Debug)]
pub struct Link {
    /// The server.
    pub far: Far,
    /// What stands for the network.
    pub proxy: Proxy,
}

impl Link {
    /// A link to the server at this address.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn to(far: Far, address: SocketAddr) -> Result<Self> {
        let proxy = Proxy::start(address).await?;
        Ok(Self { far, proxy })
    }
}

/// One life of a member, from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Life {
    /// Its process id.
    pub pid: u32,
    /// When it was started.
    pub from: Micros,
    /// When it was known to have ended.
    pub to: Option<Micros>,
}

/// A goflow process of a run.
#[derive(Debug)]
pub struct Member {
    /// Its name in the report: `gateway-1`.
    pub name: Arc<str>,
    /// What it is.
    pub kind: Kind,
    /// The network between it and the servers.
    pub links: Vec<Link>,
    /// Tasks it runs at once.
    pub slots: usize,
    /// Every life so far.
    pub lives: Vec<Life>,
    process: Process,
    /// It is to stay down.
    down: bool,
    /// It is going to kill itself.
    armed: bool,
}

impl Member {
    /// A member whose process has just been started.
    pub fn new(name: String, kind: Kind, links: Vec<Link>, slots: usize, process: Process) -> Self {
        let life = Life {
            pid: process.pid(),
            from: clock::now(),
            to: None,
        };
        Self {
            name: name.into(),
            kind,
            links,
            slots,
            lives: vec![life],
            process,
            down: false,
            armed: false,
        }
    }

    /// Where a gateway listens.
    pub fn url(&self) -> &str {
        self.process.url()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// All it has written to stderr.
    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// SIGKILL; it stays down until [`up`](Self::up).
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn kill(&mut self) -> Result<()> {
        self.down = true;
        self.process.kill()?;
        self.note_end();
        Ok(())
    }

    /// SIGTERM; it is started again once it has ended.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn terminate(&mut self) -> Result<()> {
        self.process.terminate()
    }

    /// SIGSTOP.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn pause(&mut self) -> Result<()> {
        self.process.pause()
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn resume(&mut self) -> Result<()> {
        self.process.resume()
    }

    /// Has it kill itself at this point (`before-ack:3`): kills it now, and starts it so.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn kill_at(&mut self, point: &str) -> Result<()> {
        self.process.set_env(KILL_AT, Some(OsStr::new(point)));
        self.kill()?;
        self.armed = true;
        self.up()
    }

    /// Whether it is going to kill itself at a point that it has not come by yet.
    pub fn is_armed(&self) -> bool {
        self.armed
    }

    /// Starts it anew, so that it does not kill itself.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn disarm(&mut self) -> Result<()> {
        self.process.set_env(KILL_AT, None);
        self.armed = false;
        self.kill()?;
        self.up()
    }

    /// Lets it run again, after [`kill`](Self::kill).
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn up(&mut self) -> Result<()> {
        self.down = false;
        self.start_again()
    }

    /// Starts it again if it has ended although it is not to be down. Says how it ended.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn supervise(&mut self) -> Result<Option<String>> {
        let Some(status) = self.process.exited()?.filter(|_| !self.down) else {
            return Ok(None);
        };
        self.note_end();
        // As any supervisor: what cannot start is not started all the time.
        let started = self.lives.last().map_or(0, |life| life.from);
        if clock::now() < started + micros(SHORTEST_LIFE) {
            return Ok(None);
        }
        // A point that was reached is not to be reached again.
        self.process.set_env(KILL_AT, None);
        self.armed = false;
        self.start_again()?;
        Ok(Some(match status.signal() {
            Some(signal) => format!("signal {signal}"),
            None => format!("exit status {}", status.code().unwrap_or(-1)),
        }))
    }

    fn start_again(&mut self) -> Result<()> {
        let started = self.process.start_again_unready();
        started.with_context(|| format!("start {} again", self.name))?;
        self.lives.push(Life {
            pid: self.process.pid(),
            from: clock::now(),
            to: None,
        });
        Ok(())
    }

    fn note_end(&mut self) {
        if let Some(life) = self.lives.last_mut() {
            life.to.get_or_insert_with(clock::now);
        }
    }
}
