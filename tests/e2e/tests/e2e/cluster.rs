//! A cluster of the test's own: NATS, Postgres, gateways and workers.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use goflow_test_servers::{Nats, Postgres, Process, eventually};
use tempfile::TempDir;

/// Long enough for anything that should happen to happen on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The servers, and what is needed to start goflow on them.
pub(crate) struct Cluster {
    pub(crate) nats: Nats,
    pub(crate) postgres: Postgres,
    pub(crate) store: String,
    pub(crate) dir: TempDir,
}

impl Cluster {
    /// Starts the servers and makes a migrated database.
    pub(crate) async fn start() -> Result<Self> {
        let nats = Nats::start()?;
        let postgres = Postgres::start()?;
        let store = postgres.create_database()?;
        let dir = tempfile::Builder::new().prefix("goflow-e2e-").tempdir()?;
        fs::create_dir(dir.path().join("handlers"))?;
        let cluster = Self {
            nats,
            postgres,
            store,
            dir,
        };
        let mut migrate = Process::gf(["migrate", "--store", &cluster.store])?;
        ensure!(
            migrate.wait_exit(PATIENCE).await?.success(),
            "gf migrate: {}",
            migrate.stderr()
        );
        Ok(cluster)
    }

    /// A gateway on the servers.
    pub(crate) fn gateway(&self, args: &[&str]) -> Result<Process> {
        let mut all = vec!["--broker", self.nats.url(), "--store", &self.store];
        all.extend(args);
        Process::gateway(all)
    }

    /// A worker on the broker, with the handlers of the cluster and a lease of 2 s.
    pub(crate) fn worker(&self, args: &[&str]) -> Result<Process> {
        let handlers = self.handlers();
        let mut all: Vec<OsString> = ["--broker", self.nats.url(), "--handlers-path"]
            .map(Into::into)
            .into();
        all.push(handlers.into());
        if !args.contains(&"--lease") {
            all.extend(["--lease", "2s"].map(Into::into));
        }
        all.extend(args.iter().map(Into::into));
        Process::worker(all)
    }

    /// The directory of executable handlers.
    pub(crate) fn handlers(&self) -> PathBuf {
        self.dir.path().join("handlers")
    }

    /// Adds an executable handler.
    pub(crate) fn handler(&self, name: &str, script: &str) -> Result<()> {
        write_handler(&self.handlers(), name, script)
    }

    /// Adds the handler `mark`, which writes its payload into the ledger it gives and returns it.
    pub(crate) fn marking(&self) -> Result<PathBuf> {
        let ledger = self.dir.path().join("ledger");
        // One write, since several of them append at once.
        let script = format!(
            "payload=$(cat)\necho \"$payload\" >> {}\necho \"$payload\"",
            ledger.display()
        );
        self.handler("mark", &script)?;
        Ok(ledger)
    }

    /// Adds the handler `hold`, which runs until the second of these files is there, and notes its start and its end
    /// in the first.
    pub(crate) fn holding(&self) -> Result<(PathBuf, PathBuf)> {
        let (runs, go) = (self.dir.path().join("runs"), self.dir.path().join("go"));
        let script = format!(
            "echo start $GF_TASK_ID >> {0}\nwhile [ ! -e {1} ]; do sleep 0.05; done\n\
             echo end $GF_TASK_ID >> {0}\necho 1",
            runs.display(),
            go.display()
        );
        self.handler("hold", &script)?;
        Ok((runs, go))
    }

    /// Adds the handler `stubborn`: it runs until it is told to stop, notes when that was, and claims success all the same.
    pub(crate) fn stubborn(&self) -> Result<PathBuf> {
        let runs = self.dir.path().join("stubborn");
        let script = format!(
            "trap 'echo told $GF_TASK_ID $(date +%s.%N) >> {0}; echo 1; exit 0' TERM\n\
             echo start $GF_TASK_ID >> {0}\nsleep 600 & wait",
            runs.display()
        );
        self.handler("stubborn", &script)?;
        Ok(runs)
    }

    /// The streams of the broker, as any client of NATS sees them.
    pub(crate) async fn jetstream(&self) -> Result<async_nats::jetstream::Context> {
        let nats = async_nats::connect(self.nats.url()).await?;
        Ok(async_nats::jetstream::new(nats))
    }

    /// Waits until a stream of the broker holds `wanted` messages.
    pub(crate) async fn holds(&self, stream: &str, wanted: u64) -> Result<()> {
        let jetstream = self.jetstream().await?;
        eventually(PATIENCE, async || {
            let found = jetstream.get_stream(stream).await?;
            let messages = found.cached_info().state.messages;
            ensure!(messages == wanted, "{messages}, not {wanted}: {stream}");
            Ok(())
        })
        .await
    }

    /// Adds the example handlers.
    pub(crate) fn original_handlers(&self) -> Result<()> {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/handlers");
        for handler in fs::read_dir(&examples).context("examples/handlers")? {
            let from = handler?.path();
            let name = from.file_name().context("a handler has a name")?;
            fs::copy(&from, self.handlers().join(name))?;
        }
        Ok(())
    }

    /// A number that Postgres gives.
    pub(crate) fn count(&self, sql: &str) -> Result<i64> {
        let answer = self.postgres.execute(&self.store, sql)?;
        answer
            .trim()
            .parse()
            .with_context(|| format!("{sql}: {answer:?}"))
    }

    /// Waits until a number that Postgres gives is `wanted`.
    pub(crate) async fn counted(&self, sql: &str, wanted: i64, patience: Duration) -> Result<()> {
        eventually(patience, async || {
            let count = self.count(sql)?;
            ensure!(count == wanted, "{count}, not {wanted}: {sql}");
            Ok(())
        })
        .await
    }
}

/// Runs the command line to its end: its exit code, and what it printed to stdout and stderr.
pub(crate) async fn gf(args: &[&str]) -> Result<(i32, String, String)> {
    let mut process = Process::gf(args)?;
    let status = process.wait_exit(PATIENCE).await?;
    Ok((
        status.code().unwrap_or(-1),
        process.stdout(),
        process.stderr(),
    ))
}

/// Runs the command line against a gateway; what it prints. It has to succeed.
pub(crate) async fn gf_at(gateway: &Process, args: &[&str]) -> Result<String> {
    let args = [&["--server", gateway.url()], args].concat();
    let (code, out, err) = gf(&args).await?;
    ensure!(code == 0, "gf {args:?}: {code}\n{out}{err}");
    Ok(out)
}

/// Adds an executable handler to a directory.
pub(crate) fn write_handler(dir: &Path, name: &str, script: &str) -> Result<()> {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// The lines of a file that handlers append to: what was executed, outside both stores.
pub(crate) fn ledger(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
