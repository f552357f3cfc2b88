//! Where the servers and the goflow binaries are.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What `scripts/install-test-servers` unpacks below the workspace.
const UNPACKED_NATS_SERVER: &str = ".servers/nats-server-2.15.1/nats-server";

pub(crate) fn nats_server() -> Result<PathBuf> {
    if let Some(path) = env::var_os("GF_TEST_NATS_SERVER") {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!(
                "GF_TEST_NATS_SERVER names {}, which is no file",
                path.display()
            );
        }
        return Ok(path);
    }
    if let Some(path) = in_path("nats-server") {
        return Ok(path);
    }
    let unpacked = workspace().join(UNPACKED_NATS_SERVER);
    if unpacked.is_file() {
        return Ok(unpacked);
    }
    bail!(
        "no nats-server in GF_TEST_NATS_SERVER, PATH or {}: run scripts/test",
        unpacked.display()
    );
}

/// The directory with `initdb`, `postgres` and `psql`.
pub(crate) fn postgres_bin() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("GF_TEST_PG_BIN") {
        let dir = PathBuf::from(dir);
        if !is_postgres_bin(&dir) {
            bail!(
                "GF_TEST_PG_BIN names {}, which has no initdb and postgres",
                dir.display()
            );
        }
        return Ok(dir);
    }
    // Debian installs pg_config for clients too, so its directory counts only when a server is in it.
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        let dir = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        if is_postgres_bin(&dir) {
            return Ok(dir);
        }
    }
    let newest = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse::<u32>().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, bin)| is_postgres_bin(bin))
        .max();
    match newest {
        Some((_, bin)) => Ok(bin),
        None => bail!(
            "no Postgres in GF_TEST_PG_BIN, `pg_config --bindir` or /usr/lib/postgresql: run scripts/test"
        ),
    }
}

/// The path of a goflow binary (`gf`, `gf-gateway`, `gf-worker`), built with the same profile as the test.
///
/// # Errors
/// When it has not been built.
pub fn binary(name: &str) -> Result<PathBuf> {
    beside(Path::new(name), "cargo build --workspace --bins")
}

/// The path of an example, built with the same profile as the test.
pub(crate) fn example(name: &str) -> Result<PathBuf> {
    let build = "cargo build --workspace --all-features --examples";
    beside(&Path::new("examples").join(name), build)
}

fn beside(path: &Path, build: &str) -> Result<PathBuf> {
    let test = env::current_exe().context("find the test's own executable")?;
    // target/<profile>/deps/<test>, or target/<profile>/<binary> when a binary uses this crate.
    let mut candidates = test.ancestors().skip(1).take(2).map(|dir| dir.join(path));
    match candidates.find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!(
            "{} is not built beside {}: run `{build}`",
            path.display(),
            test.display()
        ),
    }
}

fn is_postgres_bin(dir: &Path) -> bool {
    dir.join("initdb").is_file() && dir.join("postgres").is_file()
}

fn in_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
