//! The runs that there are: what is pushed, and what is done to the system meanwhile.

use std::time::Duration;

use goflow_core::engine::Record;
use goflow_core::faults::Bug;

use crate::nemesis::Storm;
use crate::run::{DRAIN_WITHIN, Scenario};
use crate::system::Setup;
use crate::work::Mix;

/// The seeds that are always run before a change is taken in.
pub const CI_SEEDS: [u64; 3] = [1, 2, 3];

/// The bugs that are planted before a change is taken in: one in workers and one in gateways.
pub const CI_PLANTS: [Bug; 2] = [Bug::LeaseNotExtended, Bug::CrashCountedAsSuccess];

/// Tasks a second in the long run and the soak.
const LONG_RATE: u32 = 500;
const SOAK_RATE: u32 = 100;

/// Batches: the share of pushes, and the largest.
const BATCHES: (f64, u32) = (0.2, 50);

/// Room for a million tasks, and for what waits of them in the broker, in MiB.
const DISKS: (u64, u64) = (3_072, 6_144);

/// 20,000 tasks, 20 kills and 3 cuts in three quarters of a minute.
pub fn ci(seed: u64) -> Scenario {
    Scenario {
        seed,
        tasks: 20_000,
        over: Duration::from_secs(45),
        storm: Storm {
            worker_kills: 8,
            stock_worker_kills: 2,
            gateway_kills: 6,
            nats_kills: 2,
            postgres_kills: 2,
            cuts: 3,
            partitions: 2,
            slow_links: 1,
            worker_pauses: 1,
            rolls: 2,
            garbage: 1,
            ..Storm::default()
        },
        mix: Mix::default(),
        batches: BATCHES,
        setup: Setup::default(),
        patience: DRAIN_WITHIN,
    }
}

/// The same with tasks that have no row before their end, unless they ask for what takes one.
pub fn ci_outcome(seed: u64) -> Scenario {
    let ci = ci(seed);
    Scenario {
        setup: Setup {
            record: Record::Outcome,
            ..ci.setup
        },
        ..ci
    }
}

/// The same on three servers of NATS that keep three copies; their leaders are killed and step down.
pub fn cluster(seed: u64) -> Scenario {
    let ci = ci(seed);
    Scenario {
        storm: Storm {
            nats_kills: 6,
            worker_kills: 5,
            gateway_kills: 5,
            step_downs: 3,
            nats_pauses: 2,
            ..ci.storm
        },
        setup: Setup {
            nats: 3,
            ..ci.setup
        },
        ..ci
    }
}

/// So many tasks (a million say everything that is promised) with everything there is done to the system: over 100
/// kills, 20 partitions, 10 pauses, 5 full disks and 5 wiped brokers for each million.
pub fn long(seed: u64, tasks: u32) -> Scenario {
    let share = f64::from(tasks) / 1e6;
    let times = |per_million: u32| (f64::from(per_million) * share).ceil() as usize;
    Scenario {
        tasks,
        over: Duration::from_secs(u64::from(tasks / LONG_RATE)),
        storm: Storm {
            worker_kills: times(50),
            stock_worker_kills: times(10),
            gateway_kills: times(30),
            nats_kills: times(14),
            postgres_kills: times(10),
            step_downs: 0,
            cuts: times(20),
            partitions: times(24),
            slow_links: times(6),
            worker_pauses: times(8),
            gateway_pauses: times(3),
            nats_pauses: times(2),
            rolls: times(10),
            wipes: times(5),
            nats_disk_full: times(3),
            postgres_disk_full: times(3),
            table_locks: times(3),
            garbage: times(5),
        },
        mix: Mix {
            executable: 400,
            abort: 5,
            odd: 40,
            read: 2_000,
            keyed: 5_000,
            ..Mix::default()
        },
        setup: Setup {
            disks: Some(DISKS),
            ..Setup::default()
        },
        ..ci(seed)
    }
}

/// A mixed load for so long, with little done to the system, so that processes grow old.
pub fn soak(seed: u64, over: Duration) -> Scenario {
    let hours = over.as_secs_f64() / 3_600.0;
    let times = |an_hour: f64| (an_hour * hours).ceil() as usize;
    Scenario {
        tasks: u32::try_from(over.as_secs())
            .unwrap_or(u32::MAX)
            .saturating_mul(SOAK_RATE),
        over,
        storm: Storm {
            worker_kills: times(2.0),
            nats_kills: times(3.0),
            postgres_kills: times(3.0),
            cuts: times(20.0),
            partitions: times(15.0),
            slow_links: times(5.0),
            gateway_pauses: times(3.0),
            garbage: times(3.0),
            ..Storm::default()
        },
        mix: Mix {
            // Each is the end of a worker.
            abort: 0,
            ..Mix::default()
        },
        ..ci(seed)
    }
}

/// What brings a planted bug to light, in 3,000 tasks.
pub fn planted(bug: Bug, seed: u64) -> Scenario {
    let calm = Mix {
        abort: 0,
        ..Mix::default()
    };
    let (storm, mix) = match bug {
        // A worker dies with tasks that it has acknowledged.
        Bug::AckBeforeCommit => (
            Storm {
                worker_kills: 6,
                gateway_kills: 2,
                ..Storm::default()
            },
            calm,
        ),
        // Outcomes come twice, and late from workers that were paused.
        Bug::UnfencedOutcome => (
            Storm {
                worker_pauses: 4,
                gateway_kills: 12,
                ..Storm::default()
            },
            Mix {
                fail: 250_000,
                long: 3_000,
                ..calm
            },
        ),
        Bug::LeaseNotExtended => (
            Storm::default(),
            Mix {
                long: 2_000,
                ..calm
            },
        ),
        Bug::PushNotIdempotent => (
            Storm::default(),
            Mix {
                keyed: 60_000,
                ..calm
            },
        ),
        // The broker is wiped while much waits in it.
        Bug::ReconcileOff => (
            Storm {
                wipes: 1,
                ..Storm::default()
            },
            Mix {
                long: 20_000,
                ..calm
            },
        ),
        Bug::CrashCountedAsSuccess => (
            Storm {
                worker_kills: 6,
                ..Storm::default()
            },
            Mix {
                long: 3_000,
                ..calm
            },
        ),
    };
    Scenario {
        tasks: 3_000,
        over: Duration::from_secs(12),
        storm,
        mix,
        setup: Setup {
            plant: Some(bug),
            ..Setup::default()
        },
        // What was lost stays lost.
        patience: Duration::from_secs(25),
        ..ci(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tiers_are_what_they_are_called_for() {
        let ci = ci(1);
        assert_eq!((ci.tasks, ci.storm.kills(), ci.storm.cuts), (20_000, 20, 3));
        let long = long(1, 1_000_000);
        let Storm {
            partitions,
            worker_pauses,
            gateway_pauses,
            nats_pauses,
            wipes,
            nats_disk_full,
            postgres_disk_full,
            ..
        } = long.storm;
        assert!(long.storm.kills() >= 100 && partitions >= 20);
        assert!(worker_pauses + gateway_pauses + nats_pauses >= 10);
        assert!(nats_disk_full + postgres_disk_full >= 5 && wipes >= 5);
        for bug in Bug::ALL {
            assert!(planted(bug, 1).tasks <= 20_000);
        }
    }
}
