//! The switches behind the hooks: by the environment for a process, by a guard for a thread.

use std::cell::Cell;
use std::marker::PhantomData;
use std::process::exit;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};
use tracing::warn;

use super::{Bug, Point, UnknownFault};

/// Names of bugs, separated by commas.
const BUGS: &str = "GF_FAULTS";

/// A point and how many times it is passed, the last time included: `after-commit:3`.
const KILL_AT: &str = "GF_KILL_AT";

static OF_PROCESS: LazyLock<u8> = LazyLock::new(|| from_environment(BUGS, bugs).unwrap_or(0));

static DEATH: LazyLock<Option<Death>> = LazyLock::new(|| from_environment(KILL_AT, death));

thread_local! {
    static OF_THREAD: Cell<Option<u8>> = const { Cell::new(None) };
}

/// Where this process is to be killed.
#[derive(Debug)]
struct Death {
    point: Point,
    /// How many more times it is passed until then.
    left: AtomicU64,
}

/// Whether this bug is planted.
pub fn planted(bug: Bug) -> bool {
    OF_THREAD.get().unwrap_or_else(|| *OF_PROCESS) & bit(bug) != 0
}

/// Kills this process if it was asked to die here, and now.
pub fn point(point: Point) {
    let Some(death) = DEATH.as_ref().filter(|death| death.point == point) else {
        return;
    };
    if death.left.fetch_sub(1, Ordering::Relaxed) == 1 {
        eprintln!("{KILL_AT}: killed at {point}");
        // Not even a destructor is to run, nor another thread to go on.
        _ = kill_process(getpid(), Signal::KILL);
        std::process::abort();
    }
}

/// Plants these bugs, and no others, in whatever runs on this thread until the guard is dropped: engines and workers
/// that are to have them must run on it too.
pub fn plant(bugs: impl IntoIterator<Item = Bug>) -> Planted {
    let planted = bugs.into_iter().map(bit).fold(0, |all, one| all | one);
    Planted {
        before: OF_THREAD.replace(Some(planted)),
        of_thread: PhantomData,
    }
}

/// Bugs planted on this thread; dropping it brings back what was planted before.
#[derive(Debug)]
#[must_use = "the bugs go with it"]
pub struct Planted {
    before: Option<u8>,
    of_thread: PhantomData<*const ()>,
}

impl Drop for Planted {
    fn drop(&mut self) {
        OF_THREAD.set(self.before);
    }
}

fn bit(bug: Bug) -> u8 {
    1 << bug as u8
}

/// What a variable asks for. A process that was asked for something else than it knows ends: a harness must not
/// take it for one that does as it was told.
fn from_environment<T>(name: &str, read: fn(&str) -> Result<T, UnknownFault>) -> Option<T> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    match read(&text) {
        Ok(value) => {
            warn!("{name}={text}: this process misbehaves on purpose");
            Some(value)
        }
        Err(error) => {
            eprintln!("{name}={text}: {error}");
            exit(2);
        }
    }
}

fn bugs(text: &str) -> Result<u8, UnknownFault> {
    let mut bugs = text.split(',').map(|name| name.trim().parse().map(bit));
    bugs.try_fold(0, |all, one| Ok(all | one?))
}

fn death(text: &str) -> Result<Death, UnknownFault> {
    let (name, times) = text.split_once(':').unwrap_or((text, "1"));
    let times: Option<u64> = times.parse().ok().filter(|times| *times > 0);
    Ok(Death {
        point: name.parse()?,
        left: AtomicU64::new(times.ok_or_else(|| UnknownFault {
            name: text.to_owned(),
            known: "point:N, N from 1".to_owned(),
        })?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bugs_are_planted_for_as_long_as_the_guard_lives() {
        assert!(!planted(Bug::ReconcileOff));
        let guard = plant([Bug::ReconcileOff, Bug::UnfencedOutcome]);
        assert!(planted(Bug::ReconcileOff) && planted(Bug::UnfencedOutcome));
        assert!(!planted(Bug::AckBeforeCommit));
        drop(plant([]));
        assert!(planted(Bug::ReconcileOff));
        let elsewhere = std::thread::spawn(|| planted(Bug::ReconcileOff));
        assert!(!elsewhere.join().unwrap());
        drop(guard);
        assert!(!planted(Bug::ReconcileOff));
    }

    #[test]
    fn the_environment_is_read_strictly() {
        assert_eq!(
            bugs("reconcile-off, ack-before-commit"),
            Ok(bit(Bug::ReconcileOff) | bit(Bug::AckBeforeCommit))
        );
        assert!(bugs("reconcile-on").is_err());
        let at = death("before-ack:7").unwrap();
        assert_eq!((at.point, at.left.into_inner()), (Point::BeforeAck, 7));
        assert_eq!(death("before-ack").unwrap().left.into_inner(), 1);
        for wrong in ["before-ack:0", "before-ack:x", "after-lunch:1", ":"] {
            assert!(death(wrong).is_err(), "{wrong}");
        }
    }
}
