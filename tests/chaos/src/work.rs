//! What each task of a run is: a pure function of the seed and the task's number.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The type of tasks that the harness's own worker runs in its process.
pub const IN_PROCESS: &str = "mark";

/// The type of tasks, and the queue, that stock workers run through an executable.
pub const EXECUTABLE: &str = "mark_executable";

/// How long a hung handler is let run.
pub const HANG_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a snoozing handler sleeps between its two runs.
pub const SNOOZE: Duration = Duration::from_millis(500);

/// Attempts a task has in all, unless it is planned otherwise.
const MAX_ATTEMPTS: u32 = 3;

/// What a handler does when it is called with a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Returns its result.
    Return,
    /// Fails up to this attempt, then returns.
    FailUntil(u32),
    /// Fails for good.
    Permanent,
    /// Panics in the first attempt, then returns. An executable one ends by a signal.
    Panic,
    /// Aborts its process in the first run of all, then returns.
    Abort,
    /// Hangs in the first attempt until its timeout, then returns.
    Hang,
    /// Takes 64 MiB of memory and returns.
    Memory,
    /// Snoozes in the first run of all, then returns.
    Snooze,
    /// Returns more than a result may hold.
    Huge,
}

/// The payload of a task: all that its handler goes by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The seed of the run, which tells its tasks from anybody else's.
    pub seed: u64,
    /// The number of the task.
    pub n: u32,
    /// What to do.
    pub act: Act,
    /// How long to take, in milliseconds.
    pub ms: u64,
}

/// The result of a task: what it was, and which run of its handler returned it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The number of the task.
    pub n: u32,
    /// [`Job::proof`].
    pub proof: u64,
    /// The run, as the ledger names it.
    pub run: String,
}

/// How one attempt ends by plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// With a result.
    Returns,
    /// With an error that contains this.
    Fails(&'static str),
    /// With an error that contains this, for good.
    FailsForGood(&'static str),
}

impl Job {
    /// A number that only whoever read this very payload can know.
    pub fn proof(&self) -> u64 {
        mix(self.seed ^ mix(u64::from(self.n)))
    }

    /// How an attempt ends when nothing disturbs it.
    pub fn attempt(&self, attempt: u32) -> AttemptEnd {
        match self.act {
            Act::FailUntil(last) if attempt <= last => AttemptEnd::Fails("planned failure"),
            Act::Permanent => AttemptEnd::FailsForGood("planned failure"),
            Act::Panic if attempt == 1 => AttemptEnd::Fails(""),
            Act::Hang if attempt == 1 => AttemptEnd::Fails("timed out"),
            Act::Huge => AttemptEnd::FailsForGood("result "),
            _ => AttemptEnd::Returns,
        }
    }
}

/// When a task may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At once.
    Now,
    /// This long after its push.
    Delay(Duration),
    /// At a time this long after its push was written.
    RunAt(Duration),
}

/// What a client does with a task besides pushing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Client {
    /// Pushes with an idempotency key, which lets it push again whatever became of a push.
    pub keyed: bool,
    /// Pushes twice at once with the key, at two gateways.
    pub twice: bool,
    /// Pushes again with the key after this long.
    pub again_after: Option<Duration>,
    /// Cancels it after this long.
    pub cancel_after: Option<Duration>,
    /// Waits for its end.
    pub waits: bool,
    /// Reads it after this long, and once more when it has ended.
    pub read_after: Option<Duration>,
    /// Has it tried once more when it has failed.
    pub retries: bool,
}

/// A task of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The payload.
    pub job: Job,
    /// Whether a stock worker runs it through an executable.
    pub executable: bool,
    /// When it may start.
    pub start: Start,
    /// Its priority, 0 to 3.
    pub priority: u32,
    /// Attempts it has.
    pub max_attempts: u32,
    /// The wait after a failed attempt.
    pub backoff: Duration,
    /// When it expires, after its push.
    pub deadline: Option<Duration>,
    /// What its client does.
    pub client: Client,
}

/// How often the rarer kinds of tasks come, in so many of 100,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    /// Run through an executable.
    pub executable: u32,
    /// Fail and are tried again.
    pub fail: u32,
    /// Take longer than two leases.
    pub long: u32,
    /// Abort their process.
    pub abort: u32,
    /// Hang, take memory, return too much, snooze, panic: each.
    pub odd: u32,
    /// Wait for their time.
    pub wait: u32,
    /// Cancelled by their client.
    pub cancel: u32,
    /// Pushed with a key.
    pub keyed: u32,
    /// Read or waited for by their client: each.
    pub read: u32,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            executable: 1_500,
            fail: 5_000,
            long: 300,
            abort: 15,
            odd: 100,
            wait: 2_000,
            cancel: 2_000,
            keyed: 20_000,
            read: 8_000,
        }
    }
}

impl Work {
    /// The task with this number. `lease` is how long the longest ones have to outlast.
    pub fn of(seed: u64, n: u32, mix_of: &Mix, lease: Duration) -> Self {
        let rng = &mut StdRng::seed_from_u64(mix(seed).wrapping_add(mix(u64::from(n) + 1)));
        let executable = one_in(rng, mix_of.executable);
        let act = act(rng, mix_of, executable);
        let long = one_in(rng, mix_of.long) && act == Act::Return && !executable;
        let ms = match act {
            _ if long => {
                u64::try_from(lease.as_millis()).unwrap_or(u64::MAX) * 2
                    + rng.random_range(0..1_500)
            }
            // Mostly short ones, as in any queue.
            _ if one_in(rng, 80_000) => rng.random_range(0..6),
            _ => rng.random_range(0..60),
        };
        let start = if !one_in(rng, mix_of.wait) {
            Start::Now
        } else if rng.random_bool(0.7) {
            Start::Delay(millis(rng, 300..4_000))
        } else {
            Start::RunAt(millis(rng, 300..4_000))
        };
        let dies = matches!(act, Act::FailUntil(last) if last >= MAX_ATTEMPTS);
        Self {
            job: Job { seed, n, act, ms },
            executable,
            start,
            priority: if one_in(rng, 30_000) {
                rng.random_range(0..4)
            } else {
                1
            },
            max_attempts: MAX_ATTEMPTS,
            backoff: millis(rng, 100..1_000),
            deadline: one_in(rng, mix_of.odd).then(|| millis(rng, 500..3_000)),
            client: client(rng, mix_of, dies),
        }
    }

    /// The queue it is pushed into.
    pub fn queue(&self) -> &'static str {
        if self.executable {
            EXECUTABLE
        } else {
            "default"
        }
    }

    /// The body of its push, written at `now`.
    pub fn body(&self, now: OffsetDateTime) -> Value {
        let mut body = Map::new();
        let task_type = if self.executable {
            EXECUTABLE
        } else {
            IN_PROCESS
        };
        body.insert("type".into(), task_type.into());
        body.insert("queue".into(), self.queue().into());
        body.insert("payload".into(), json!(self.job));
        body.insert("max_attempts".into(), self.max_attempts.into());
        body.insert(
            "backoff".into(),
            json!({ "fixed": self.backoff.as_secs_f64() }),
        );
        if self.priority != 1 {
            body.insert("priority".into(), self.priority.into());
        }
        if self.job.act == Act::Hang {
            body.insert("timeout".into(), HANG_TIMEOUT.as_secs_f64().into());
        }
        match self.start {
            Start::Now => {}
            Start::Delay(delay) => _ = body.insert("delay".into(), delay.as_secs_f64().into()),
            Start::RunAt(wait) => {
                // RFC 3339 tells every time there is now.
                let time = (now + wait).format(&Rfc3339).unwrap_or_default();
                body.insert("run_at".into(), time.into());
            }
        }
        if let Some(deadline) = self.deadline {
            body.insert("deadline".into(), deadline.as_secs_f64().into());
        }
        Value::Object(body)
    }

    /// Its idempotency key, if it is pushed with one.
    pub fn key(&self) -> Option<String> {
        let Job { seed, n, .. } = self.job;
        self.client.keyed.then(|| format!("chaos-{seed:x}-{n}"))
    }
}

fn act(rng: &mut StdRng, mix_of: &Mix, executable: bool) -> Act {
    if one_in(rng, mix_of.fail) {
        return Act::FailUntil(rng.random_range(1..=MAX_ATTEMPTS));
    }
    // An executable's process ends with each of its runs: there, aborting and panicking are the same.
    let odd = [Act::Permanent, Act::Panic, Act::Hang, Act::Huge];
    let in_process = [Act::Memory, Act::Snooze];
    let all = odd.iter().chain(in_process.iter().filter(|_| !executable));
    for act in all {
        if one_in(rng, mix_of.odd) {
            return *act;
        }
    }
    if !executable && one_in(rng, mix_of.abort) {
        return Act::Abort;
    }
    Act::Return
}

fn client(rng: &mut StdRng, mix_of: &Mix, dies: bool) -> Client {
    let keyed = one_in(rng, mix_of.keyed);
    Client {
        keyed,
        twice: keyed && rng.random_bool(0.2),
        again_after: (keyed && rng.random_bool(0.2)).then(|| millis(rng, 0..2_000)),
        cancel_after: one_in(rng, mix_of.cancel).then(|| millis(rng, 0..800)),
        waits: one_in(rng, mix_of.read),
        read_after: one_in(rng, mix_of.read).then(|| millis(rng, 0..3_000)),
        retries: dies && rng.random_bool(0.5),
    }
}

fn one_in(rng: &mut StdRng, of_100_000: u32) -> bool {
    rng.random_range(0..100_000) < of_100_000
}

fn millis(rng: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range))
}

/// Spreads a number over all 64 bits (the finalizer of SplitMix64).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(2);

    #[test]
    fn a_task_depends_on_seed_and_number_only() {
        let of = |seed, n| Work::of(seed, n, &Mix::default(), LEASE);
        assert_eq!(of(1, 7), of(1, 7));
        assert_ne!(of(1, 7), of(2, 7));
        assert_ne!(of(1, 7).job.proof(), of(1, 8).job.proof());
    }

    #[test]
    fn every_kind_of_task_comes() {
        let works: Vec<_> = (0..20_000)
            .map(|n| Work::of(3, n, &Mix::default(), LEASE))
            .collect();
        let count = |kind: fn(&Work) -> bool| works.iter().filter(|work| kind(work)).count();
        for (what, few) in [
            ("executable", count(|w| w.executable)),
            ("fails", count(|w| matches!(w.job.act, Act::FailUntil(_)))),
            ("aborts", count(|w| w.job.act == Act::Abort)),
            ("hangs", count(|w| w.job.act == Act::Hang)),
            ("snoozes", count(|w| w.job.act == Act::Snooze)),
            ("long", count(|w| w.job.ms >= 4_000)),
            ("waits", count(|w| w.start != Start::Now)),
            ("cancelled", count(|w| w.client.cancel_after.is_some())),
            ("keyed", count(|w| w.client.keyed)),
            ("retried", count(|w| w.client.retries)),
            ("expires", count(|w| w.deadline.is_some())),
        ] {
            assert!((1..8_000).contains(&few), "{what}: {few} of 20,000");
        }
    }
}
