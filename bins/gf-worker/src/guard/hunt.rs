//! What the guard does: waits for the worker's end, then kills what it started, and tidies up after it.

use std::env;
use std::fs;
use std::io::{self, Read};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use super::{VARIABLE, prefix};

/// Nothing is left when this many scans in a row have found nothing: a process may be between fork and exec, when
/// it does not carry the token yet.
const CLEAN_SCANS: u32 = 10;
const SCAN_PAUSE: Duration = Duration::from_millis(100);
const KILL_PAUSE: Duration = Duration::from_millis(10);
/// A process that SIGKILL has not ended by then hangs in the kernel, and will never run again.
const LONGEST_HUNT: Duration = Duration::from_secs(60);

/// Waits until the worker is gone, hunts what carries `token`, and ends the process.
pub(super) fn serve(token: &str) -> ! {
    // Signals that a supervisor sends to everything it has started must not end the guard before the worker. They
    // are listened to, which keeps them from doing anything, and never read.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build();
    let _inside = runtime.as_ref().map(tokio::runtime::Runtime::enter);
    let kinds = [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
    ];
    let _ignored: Vec<_> = kinds
        .into_iter()
        .filter(|_| runtime.is_ok())
        .map(signal)
        .collect();
    wait_for_end();
    hunt(token);
    tidy(&prefix(token));
    process::exit(0)
}

/// The worker never writes; the pipe ends with it.
fn wait_for_end() {
    let mut buffer = [0; 64];
    loop {
        match io::stdin().read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

fn hunt(token: &str) {
    let end = Instant::now() + LONGEST_HUNT;
    let mut clean = 0;
    while clean < CLEAN_SCANS && Instant::now() < end {
        if kill_all(token) == 0 {
            clean += 1;
            thread::sleep(SCAN_PAUSE);
        } else {
            clean = 0;
            thread::sleep(KILL_PAUSE);
        }
    }
}

/// Removes what the worker would have, had it not been killed.
fn tidy(prefix: &str) {
    let entries = fs::read_dir(env::temp_dir())
        .into_iter()
        .flatten()
        .flatten();
    for entry in entries {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            // Nobody is there any more to be told of a failure.
            _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Kills every process that carries the token; gives how many there were.
fn kill_all(token: &str) -> usize {
    let Ok(processes) = fs::read_dir("/proc") else {
        return 0;
    };
    let own = process::id();
    let ids = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| *id != own)
        .filter(|id| {
            fs::read(format!("/proc/{id}/environ"))
                .is_ok_and(|environment| carries(&environment, token))
        })
        .filter_map(|id| Pid::from_raw(i32::try_from(id).ok()?))
        .filter(|pid| kill_process(*pid, Signal::KILL).is_ok())
        .count()
}

/// Whether an environment, as `/proc` shows it, has the token among those in [`VARIABLE`].
fn carries(environment: &[u8], token: &str) -> bool {
    environment
        .split(|byte| *byte == 0)
        .filter_map(|variable| {
            variable
                .strip_prefix(VARIABLE.as_bytes())?
                .strip_prefix(b"=")
        })
        .any(|tokens| {
            tokens
                .split(|byte| *byte == b',')
                .any(|one| one == token.as_bytes())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_among_others() {
        assert!(carries(b"PATH=/bin\0GF_GUARD=abc\0HOME=/\0", "abc"));
        assert!(carries(b"GF_GUARD=outer,abc\0", "abc"));
        assert!(!carries(
            b"GF_GUARD=abcd\0GF_GUARDS=abc\0X=GF_GUARD=abc\0",
            "abc"
        ));
        assert!(!carries(b"", "abc"));
    }
}
