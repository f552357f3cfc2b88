//! What a nemesis is going to do: a pure function of the seed.

use std::fmt;
use std::time::Duration;

use goflow_core::faults::Point;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::Fault;
use crate::member::Far;
use crate::system::Setup;

/// Between two things that are done to one target.
const APART: Duration = Duration::from_millis(1_500);

/// To whom something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// A member of the system, by its place.
    Member(usize),
    /// A server of the broker, by its place.
    Nats(usize),
    /// The store's server.
    Postgres,
}

/// Something that is going to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// When, from the beginning.
    pub at: Duration,
    /// For how long.
    pub lasts: Duration,
    /// What.
    pub fault: Fault,
    /// To whom.
    pub target: Target,
    /// Which of its links; all if it does not say.
    pub far: Option<Far>,
    /// Where it kills itself.
    pub point: Option<KillAt>,
    /// Tells it apart from others.
    pub number: u64,
}

/// Where a process kills itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KillAt {
    /// The point in its code.
    pub point: Point,
    /// At which of its passings, from 1.
    pub passing: u32,
}

impl fmt::Display for KillAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.point, self.passing)
    }
}

impl Planned {
    /// What the log says of it besides fault and target.
    pub fn note(&self) -> String {
        let mut notes = Vec::new();
        if !self.lasts.is_zero() {
            notes.push(format!("for {:?}", self.lasts));
        }
        if let Some(far) = self.far {
            notes.push(format!("from {far:?}").to_lowercase());
        }
        if let Some(point) = self.point {
            notes.push(format!("at {point}"));
        }
        notes.join(" ")
    }
}

/// How much of what is done over a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Storm {
    /// Kills of workers, half of them at points in their code.
    pub worker_kills: usize,
    /// Kills of stock workers.
    pub stock_worker_kills: usize,
    /// Kills of gateways, half of them at points in their code.
    pub gateway_kills: usize,
    /// Kills of a server of the broker.
    pub nats_kills: usize,
    /// The leader of a queue's stream steps down; only in a cluster.
    pub step_downs: usize,
    /// Immediate ends of Postgres.
    pub postgres_kills: usize,
    /// Connections reset, of one member to one server.
    pub cuts: usize,
    /// One member kept from one server: refused, dark or deaf.
    pub partitions: usize,
    /// A slow link between one member and one server.
    pub slow_links: usize,
    /// Workers stopped for longer than a lease.
    pub worker_pauses: usize,
    /// Gateways stopped for a while.
    pub gateway_pauses: usize,
    /// A server of the broker stopped for a while.
    pub nats_pauses: usize,
    /// Members ended in good order and started again.
    pub rolls: usize,
    /// The broker's store wiped.
    pub wipes: usize,
    /// The disk of the broker full.
    pub nats_disk_full: usize,
    /// The disk of the store's server full.
    pub postgres_disk_full: usize,
    /// Tables locked for 10 s.
    pub table_locks: usize,
    /// Garbage in the streams.
    pub garbage: usize,
}

impl Storm {
    /// Kills of any kind.
    pub fn kills(&self) -> usize {
        let Self {
            worker_kills,
            stock_worker_kills,
            gateway_kills,
            nats_kills,
            postgres_kills,
            ..
        } = self;
        worker_kills + stock_worker_kills + gateway_kills + nats_kills + postgres_kills
    }

    /// What is done, spread over this time, in the order of their beginnings.
    pub fn plan(&self, seed: u64, over: Duration, setup: &Setup) -> Vec<Planned> {
        let mut draw = Draw {
            rng: StdRng::seed_from_u64(seed ^ 0x6e65_6d65_7369_7321),
            setup,
            number: 0,
        };
        let mut all = Vec::new();
        let kinds: [(usize, Kind); 18] = [
            (self.worker_kills, |draw| draw.worker_kill()),
            (self.stock_worker_kills, |draw| draw.stock_worker_kill()),
            (self.gateway_kills, |draw| draw.gateway_kill()),
            (self.nats_kills, |draw| draw.nats(Fault::Kill, 100..3_000)),
            (self.step_downs, |draw| draw.nats(Fault::StepDown, 0..1)),
            (self.postgres_kills, |draw| {
                draw.postgres(Fault::Kill, 0..2_000)
            }),
            (self.cuts, |draw| draw.network(&[Fault::Cut])),
            (self.partitions, |draw| {
                draw.network(&[Fault::Partition, Fault::Dark, Fault::Deaf])
            }),
            (self.slow_links, |draw| draw.network(&[Fault::Slow])),
            (self.worker_pauses, |draw| draw.worker_pause()),
            (self.gateway_pauses, |draw| draw.gateway_pause()),
            (self.nats_pauses, |draw| draw.nats(Fault::Pause, 500..4_000)),
            (self.rolls, |draw| draw.roll()),
            (self.wipes, |draw| draw.nats(Fault::Wipe, 100..3_000)),
            (self.nats_disk_full, |draw| {
                draw.nats(Fault::DiskFull, 1_000..6_000)
            }),
            (self.postgres_disk_full, |draw| {
                draw.postgres(Fault::DiskFull, 1_000..6_000)
            }),
            (self.table_locks, |draw| {
                draw.postgres(Fault::TableLock, 10_000..10_001)
            }),
            (self.garbage, |draw| draw.nats(Fault::Garbage, 0..1)),
        ];
        for (count, kind) in kinds {
            all.extend((0..count).map(|_| kind(&mut draw)));
        }
        all.shuffle(&mut draw.rng);
        draw.spread(&mut all, over);
        all
    }
}

/// Draws one of a kind.
type Kind = fn(&mut Draw<'_>) -> Planned;

struct Draw<'a> {
    rng: StdRng,
    setup: &'a Setup,
    number: u64,
}

impl Draw<'_> {
    fn planned(&mut self, fault: Fault, target: Target, lasts: std::ops::Range<u64>) -> Planned {
        self.number += 1;
        Planned {
            at: Duration::ZERO,
            lasts: Duration::from_millis(self.rng.random_range(lasts)),
            fault,
            target,
            far: None,
            point: None,
            number: self.number,
        }
    }

    fn nats(&mut self, fault: Fault, lasts: std::ops::Range<u64>) -> Planned {
        let target = Target::Nats(self.rng.random_range(0..self.setup.nats));
        self.planned(fault, target, lasts)
    }

    fn postgres(&mut self, fault: Fault, lasts: std::ops::Range<u64>) -> Planned {
        self.planned(fault, Target::Postgres, lasts)
    }

    fn gateway(&mut self) -> Target {
        Target::Member(self.rng.random_range(0..self.setup.gateways))
    }

    fn worker(&mut self) -> Target {
        let workers = self.setup.gateways..self.setup.gateways + self.setup.workers;
        Target::Member(self.rng.random_range(workers))
    }

    fn stock_worker(&mut self) -> Target {
        let first = self.setup.gateways + self.setup.workers;
        Target::Member(
            self.rng
                .random_range(first..first + self.setup.stock_workers),
        )
    }

    fn worker_kill(&mut self) -> Planned {
        let target = self.worker();
        self.kill(target, &[Point::AfterHandler, Point::AfterOutcomeConfirmed])
    }

    fn stock_worker_kill(&mut self) -> Planned {
        let target = self.stock_worker();
        self.planned(Fault::Kill, target, 100..3_000)
    }

    fn gateway_kill(&mut self) -> Planned {
        let target = self.gateway();
        self.kill(
            target,
            &[Point::AfterAccept, Point::AfterCommit, Point::BeforeAck],
        )
    }

    /// Killed at any time, or at a point in its code.
    fn kill(&mut self, target: Target, points: &[Point]) -> Planned {
        if self.rng.random_bool(0.5) {
            return self.planned(Fault::Kill, target, 100..3_000);
        }
        let point = points[self.rng.random_range(0..points.len())];
        let passing = self.rng.random_range(1..60);
        let planned = self.planned(Fault::KillPoint, target, 0..1);
        Planned {
            point: Some(KillAt { point, passing }),
            ..planned
        }
    }

    fn network(&mut self, faults: &[Fault]) -> Planned {
        let fault = faults[self.rng.random_range(0..faults.len())];
        let (target, far) = match self.rng.random_range(0..3) {
            0 => (self.gateway(), Far::Nats),
            1 => (self.gateway(), Far::Postgres),
            _ => (self.worker(), Far::Nats),
        };
        let lasts = if fault == Fault::Cut {
            0..1
        } else {
            500..6_000
        };
        let planned = self.planned(fault, target, lasts);
        Planned {
            far: Some(far),
            ..planned
        }
    }

    fn worker_pause(&mut self) -> Planned {
        let lease = u64::try_from(self.setup.lease.as_millis()).unwrap_or(u64::MAX);
        let target = self.worker();
        self.planned(Fault::Pause, target, lease + 500..lease * 3)
    }

    fn gateway_pause(&mut self) -> Planned {
        let target = self.gateway();
        self.planned(Fault::Pause, target, 1_000..6_000)
    }

    fn roll(&mut self) -> Planned {
        let target = match self.rng.random_range(0..5) {
            0 | 1 => self.gateway(),
            2 | 3 => self.worker(),
            _ => self.stock_worker(),
        };
        self.planned(Fault::Roll, target, 0..1)
    }

    /// Gives each its time: evenly, with some disorder, and never two at once to one target.
    fn spread(&mut self, all: &mut [Planned], over: Duration) {
        let count = u32::try_from(all.len()).unwrap_or(u32::MAX).max(1);
        let each = over / count;
        let mut free: std::collections::HashMap<Target, Duration> = Default::default();
        for (at, planned) in (0_u32..).zip(all.iter_mut()) {
            let due = each * at + each.mul_f64(self.rng.random_range(0.0..1.0));
            let free = free.entry(planned.target).or_default();
            planned.at = due.max(*free);
            *free = planned.at + planned.lasts + APART;
        }
        all.sort_by_key(|planned| planned.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_depends_on_its_seed_only_and_leaves_no_target_to_two() {
        let storm = Storm {
            worker_kills: 9,
            stock_worker_kills: 2,
            gateway_kills: 6,
            nats_kills: 2,
            postgres_kills: 1,
            cuts: 3,
            partitions: 6,
            slow_links: 2,
            worker_pauses: 2,
            gateway_pauses: 2,
            nats_pauses: 2,
            rolls: 4,
            wipes: 2,
            table_locks: 1,
            garbage: 2,
            ..Storm::default()
        };
        assert_eq!(storm.kills(), 20);
        let plan = |seed| storm.plan(seed, Duration::from_secs(60), &Setup::default());
        let one = plan(1);
        assert_eq!(one, plan(1));
        assert_ne!(one, plan(2));
        assert_eq!(one.len(), 20 + 3 + 6 + 2 + 6 + 4 + 2 + 1 + 2);
        for (at, first) in one.iter().enumerate() {
            for second in &one[at + 1..] {
                if first.target == second.target {
                    assert!(second.at >= first.at + first.lasts, "{first:?} {second:?}");
                }
            }
        }
    }
}
