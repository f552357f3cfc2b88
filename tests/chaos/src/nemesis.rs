//! The nemesis: does to the processes of a run what its seed says, and writes down when it did what.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::runtime::Handle;

use crate::broker;
use crate::clock::{self, Micros};
use crate::disk::Disk;
use crate::member::Far;
use crate::proxy::Weather;
use crate::system::{System, lock};

mod storm;

pub use storm::{Planned, Storm, Target};

/// How often it is looked whether a process has ended.
const WATCH_EVERY: Duration = Duration::from_millis(20);

/// What was done to something, or befell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// SIGKILL.
    Kill,
    /// Killed, and started so that it kills itself at a point in its code.
    KillPoint,
    /// It ended without anybody's doing: a point was reached, a handler aborted, its servers were away.
    Died,
    /// SIGSTOP, then SIGCONT.
    Pause,
    /// SIGTERM, and started again.
    Roll,
    /// Its connections to a server were reset.
    Cut,
    /// It could not connect to a server, and what it had was reset.
    Partition,
    /// Nothing got through between it and a server, and nobody was told.
    Dark,
    /// It did not hear a server, which heard it.
    Deaf,
    /// What went between it and a server took long.
    Slow,
    /// All that the broker had stored was gone.
    Wipe,
    /// The leader of a queue's stream stepped down.
    StepDown,
    /// The disk of a server was full.
    DiskFull,
    /// Tables of the store were locked.
    TableLock,
    /// What is no message was published into the streams.
    Garbage,
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deed {
    /// When it began.
    pub from: Micros,
    /// When it was over.
    pub to: Option<Micros>,
    /// What.
    pub fault: Fault,
    /// To whom.
    pub target: Arc<str>,
    /// Its process id then, if it is a goflow process.
    pub pid: Option<u32>,
    /// More about it.
    pub note: String,
}

/// The nemesis of a run. Dropping it ends what it does, and undoes nothing.
#[derive(Debug)]
pub struct Nemesis {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    system: Arc<System>,
    deeds: Mutex<Vec<Deed>>,
    errors: Mutex<Vec<String>>,
    stop: AtomicBool,
    done: AtomicBool,
}

impl Nemesis {
    /// Begins: from now on ended processes are started again. Each deed is said on stderr.
    pub fn start(system: Arc<System>) -> Self {
        let shared = Arc::new(Shared {
            system,
            deeds: Mutex::default(),
            errors: Mutex::default(),
            stop: AtomicBool::new(false),
            done: AtomicBool::new(true),
        });
        let watching = shared.clone();
        let threads = vec![thread::spawn(move || watching.watch())];
        Self { shared, threads }
    }

    /// Does what is planned, from now on.
    pub fn rage(&mut self, planned: Vec<Planned>) {
        let (shared, runtime) = (self.shared.clone(), Handle::current());
        shared.done.store(false, Ordering::Relaxed);
        self.threads.push(thread::spawn(move || {
            let _runtime = runtime.enter();
            shared.rage(&planned, &runtime);
            shared.done.store(true, Ordering::Relaxed);
        }));
    }

    /// Whether all that was planned has been done.
    pub fn is_done(&self) -> bool {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// Starts anew what would still kill itself.
    pub fn disarm(&self) {
        for mut member in self.shared.system.each() {
            if member.is_armed() {
                let deed =
                    self.shared
                        .begin(Fault::Kill, &member.name, Some(member.pid()), "disarmed");
                self.shared.check(member.disarm());
                self.shared.end(deed);
            }
        }
    }

    /// What was done so far.
    pub fn deeds(&self) -> Vec<Deed> {
        lock(&self.shared.deeds).clone()
    }

    /// What could not be done.
    pub fn errors(&self) -> Vec<String> {
        lock(&self.shared.errors).clone()
    }
}

impl Drop for Nemesis {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("the nemesis panicked");
            }
        }
    }
}

impl Shared {
    /// Starts again whatever has ended.
    fn watch(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            for mut member in self.system.each() {
                let (name, pid) = (member.name.clone(), member.pid());
                match member.supervise() {
                    Ok(None) => {}
                    Ok(Some(how)) => {
                        let deed = self.begin(Fault::Died, &name, Some(pid), &how);
                        self.end(deed);
                    }
                    Err(error) => self.check(Err(error)),
                }
            }
            thread::sleep(WATCH_EVERY);
        }
    }

    fn rage(&self, planned: &[Planned], runtime: &Handle) {
        let began = Instant::now();
        // Beginnings and ends in the order of their times; ends only of what has begun.
        let mut steps: Vec<(Duration, usize, bool)> = Vec::new();
        for (at, deed) in planned.iter().enumerate() {
            steps.push((deed.at, at, true));
            steps.push((deed.at + deed.lasts, at, false));
        }
        steps.sort_by_key(|(when, at, begins)| (*when, *at, !begins));
        let mut under_way: Vec<Option<usize>> = vec![None; planned.len()];
        for (when, at, begins) in steps {
            let due = began + when;
            while Instant::now() < due && !self.stop.load(Ordering::Relaxed) {
                thread::sleep(WATCH_EVERY.min(due.saturating_duration_since(Instant::now())));
            }
            let stopped = self.stop.load(Ordering::Relaxed);
            let deed = &planned[at];
            if begins && !stopped {
                let (target, pid) = self.target(deed);
                under_way[at] = Some(self.begin(deed.fault, &target, pid, &deed.note()));
                self.check(self.do_it(deed, runtime));
            } else if let Some(begun) = under_way[at].take() {
                self.check(self.undo(deed));
                self.end(begun);
            }
        }
    }

    fn target(&self, deed: &Planned) -> (Arc<str>, Option<u32>) {
        match deed.target {
            Target::Member(at) => {
                let member = self.system.member(at);
                (member.name.clone(), Some(member.pid()))
            }
            Target::Nats(at) => (format!("nats-{}", at + 1).into(), None),
            Target::Postgres => ("postgres".into(), None),
        }
    }

    fn do_it(&self, deed: &Planned, runtime: &Handle) -> Result<()> {
        match (deed.target, deed.fault) {
            (Target::Member(at), Fault::Kill) => self.system.member(at).kill(),
            (Target::Member(at), Fault::KillPoint) => {
                let point = deed.point.context("a point")?;
                self.system.member(at).kill_at(&point.to_string())
            }
            (Target::Member(at), Fault::Roll) => self.system.member(at).terminate(),
            (Target::Member(at), Fault::Pause) => self.system.member(at).pause(),
            (Target::Member(at), fault) => {
                let weather = match fault {
                    Fault::Partition => Weather::Closed,
                    Fault::Dark => Weather::Dark,
                    Fault::Deaf => Weather::Deaf,
                    Fault::Slow => Weather::Slow(Duration::from_millis(100)),
                    _ => Weather::Clear,
                };
                self.weather(at, deed.far, weather, fault == Fault::Cut);
                Ok(())
            }
            (Target::Nats(at), fault) => self.hurt_nats(at, fault, deed, runtime),
            (Target::Postgres, Fault::Kill) => lock(&self.system.postgres).kill_immediate(),
            (Target::Postgres, Fault::TableLock) => self.lock_tables(deed.lasts),
            (Target::Postgres, Fault::DiskFull) => self.disks()?.1.fill(),
            (target, fault) => anyhow::bail!("nobody knows how to do {fault:?} to {target:?}"),
        }
    }

    fn undo(&self, deed: &Planned) -> Result<()> {
        match (deed.target, deed.fault) {
            (Target::Member(at), Fault::Kill) => self.system.member(at).up(),
            (Target::Member(at), Fault::Pause) => self.system.member(at).resume(),
            (Target::Member(_), Fault::KillPoint | Fault::Roll) => Ok(()),
            (Target::Member(at), _) => {
                self.weather(at, deed.far, Weather::Clear, false);
                Ok(())
            }
            (Target::Nats(at), fault) => self.heal_nats(at, fault),
            (Target::Postgres, Fault::DiskFull) => {
                self.disks()?.1.empty()?;
                // It may have ended for want of room for its log.
                lock(&self.system.postgres).start_if_ended()
            }
            (Target::Postgres, Fault::Kill) => lock(&self.system.postgres).start_again(),
            _ => Ok(()),
        }
    }

    fn hurt_nats(&self, at: usize, fault: Fault, deed: &Planned, runtime: &Handle) -> Result<()> {
        let nats = &self.system.nats[at];
        let url = lock(nats).url().to_owned();
        match fault {
            Fault::Kill | Fault::Wipe => lock(nats).kill(),
            Fault::Pause => lock(nats).pause(),
            Fault::Garbage => runtime.block_on(broker::publish_garbage(&url, deed.number)),
            Fault::StepDown => runtime.block_on(broker::step_down(&url)),
            Fault::DiskFull => self.disks()?.0.fill(),
            fault => anyhow::bail!("nobody knows how to do {fault:?} to the broker"),
        }
    }

    fn heal_nats(&self, at: usize, fault: Fault) -> Result<()> {
        let nats = &self.system.nats[at];
        match fault {
            Fault::Kill => lock(nats).start_again(),
            Fault::Pause => lock(nats).resume(),
            Fault::Wipe => lock(nats).wipe_and_restart(),
            Fault::DiskFull => {
                self.disks()?.0.empty()?;
                // A server that found no room does without JetStream from then on.
                lock(nats).restart()
            }
            _ => Ok(()),
        }
    }

    fn disks(&self) -> Result<&(Disk, Disk)> {
        let disks = self.system.disks.as_ref();
        disks.context("the servers have no disks of their own")
    }

    fn weather(&self, at: usize, far: Option<Far>, weather: Weather, cut: bool) {
        let member = self.system.member(at);
        for link in member
            .links
            .iter()
            .filter(|link| far.is_none_or(|far| far == link.far))
        {
            link.proxy.set(weather);
            if cut {
                link.proxy.cut();
            }
        }
    }

    /// Locks what every push, dispatch and outcome needs, in a session of its own.
    fn lock_tables(&self, lasts: Duration) -> Result<()> {
        let sql = format!(
            "begin; lock table gf_task in access exclusive mode; select pg_sleep({}); commit",
            lasts.as_secs_f64()
        );
        let mut psql = lock(&self.system.postgres).psql(&self.system.store, &sql);
        // It ends by itself; nobody waits for it.
        let mut locking = psql.stdout(Stdio::null()).spawn().context("run psql")?;
        thread::spawn(move || drop(locking.wait()));
        Ok(())
    }

    fn begin(&self, fault: Fault, target: &Arc<str>, pid: Option<u32>, note: &str) -> usize {
        eprintln!("  {fault:?} {target} {note}");
        let mut deeds = lock(&self.deeds);
        deeds.push(Deed {
            from: clock::now(),
            to: None,
            fault,
            target: target.clone(),
            pid,
            note: note.to_owned(),
        });
        deeds.len() - 1
    }

    fn end(&self, deed: usize) {
        if let Some(deed) = lock(&self.deeds).get_mut(deed) {
            deed.to = Some(clock::now());
        }
    }

    fn check(&self, done: Result<()>) {
        if let Err(error) = done {
            eprintln!("  nemesis: {error:#}");
            lock(&self.errors).push(format!("{error:#}"));
        }
    }
}
