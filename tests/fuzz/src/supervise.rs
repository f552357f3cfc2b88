//! A process for each target, so that one that dies or hangs can be told of.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use goflow_fuzz::Target;

use crate::fuzz::Tally;

/// The exit code of a process whose input takes too long.
pub(crate) const HUNG: i32 = 3;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fuzz")
}

/// Where a process notes the input at hand.
pub(crate) fn current(target: &Target) -> PathBuf {
    root().join(format!("{}.current", target.name))
}

/// Keeps an input in a directory, under a name made of what it is.
pub(crate) fn keep(directory: &Path, input: &[u8]) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    hasher.write(input);
    let name = format!("{:016x}", hasher.finish());
    let path = directory.join(name);
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(&path, input))
        .with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// Fuzzes targets, as many at once as there are cores, and says what came of each.
pub(crate) fn all(targets: &[&Target], time: Duration, seed: u64, grow: bool) -> Result<ExitCode> {
    let (seconds, count) = (time.as_secs(), targets.len());
    eprintln!("{count} targets, {seconds} s each, seed {seed}");
    let queue = Mutex::new(targets.iter().copied());
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    let one = |target: &Target| {
        let ended = Ended::of(target, time, seed, grow)?;
        eprintln!("{}", ended.line(target));
        Ok::<_, anyhow::Error>(ended.failure)
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let failures = thread::scope(|scope| {
        let threads: Vec<_> = (0..cores.min(count))
            .map(|_| {
                scope.spawn(|| {
                    let mut failures = Vec::new();
                    while let Some(target) = next() {
                        failures.extend(one(target)?);
                    }
                    Ok::<_, anyhow::Error>(failures)
                })
            })
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended
            .map(|ended| ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Result<Vec<_>>>()
    })?
    .concat();
    let broken = failures.len();
    println!("{} passed, {broken} failed", count - broken);
    for failure in &failures {
        println!("{failure}");
    }
    Ok(ExitCode::from(u8::from(broken > 0)))
}

/// How a process ended.
struct Ended {
    tally: Option<Tally>,
    /// What is to be told at the end.
    failure: Option<String>,
}

impl Ended {
    fn of(target: &Target, time: Duration, seed: u64, grow: bool) -> Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(program);
        command
            .args([target.name, &time.as_secs().to_string(), "--alone"])
            .args(["--seed", &seed.to_string()])
            .args(grow.then_some("--grow"))
            // What a program is told by its surroundings is not the input.
            .envs([("RUST_BACKTRACE", "0")])
            .stdout(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GF_") {
                command.env_remove(name);
            }
        }
        let output = command.spawn().and_then(|child| child.wait_with_output());
        let output = output.with_context(|| format!("run {}", target.name))?;
        let tally: Option<Tally> = serde_json::from_slice(&output.stdout).ok();
        let said = match (&tally, output.status.code()) {
            (Some(tally), _) => tally.failure.clone(),
            (None, Some(HUNG)) => Some("takes too long".to_owned()),
            (None, _) => Some(format!("the process died: {}", output.status)),
        };
        let failure = said.map(|said| Self::kept(target, &said)).transpose()?;
        Ok(Self { tally, failure })
    }

    fn kept(target: &Target, said: &str) -> Result<String> {
        let name = target.name;
        let input = fs::read(current(target)).context("read the input that was at hand")?;
        let path = keep(&root().join(name), &input)?;
        let path = fs::canonicalize(&path).unwrap_or(path);
        let shown = path.display();
        Ok(format!(
            "\n{name}: {said}\n  input   {shown} ({} bytes)\n  repeat  scripts/fuzz {name} --repeat {shown}\n  \
             keep    cp {shown} tests/fuzz/corpus/{name}/",
            input.len()
        ))
    }

    fn line(&self, target: &Target) -> String {
        let verdict = if self.failure.is_some() {
            "FAILED"
        } else {
            "ok"
        };
        let name = target.name;
        match &self.tally {
            None => format!("{name:<14}{verdict}"),
            Some(tally) => {
                let (seconds, runs) = (tally.seconds, tally.runs);
                let (branches, inputs) = (tally.branches, tally.inputs);
                format!(
                    "{name:<14}{seconds:>5.0} s  {runs:>10} runs  {branches} branches, {inputs} inputs  {verdict}"
                )
            }
        }
    }
}
