//! Makes a plan from a seed.

use std::time::Duration;

use goflow_core::{Backoff, Priority};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::actor::Actor;
use crate::plan::{End, Fault, Op, Plan, Step, TaskPlan, What, Which};

/// Calls of a worker that can go wrong, and how often it makes them early on.
const OF_WORKER: [(Op, u32); 7] = [
    (Op::Dequeue, 6),
    (Op::Ack, 5),
    (Op::Extend, 6),
    (Op::Nack, 2),
    (Op::SubmitOutcomes, 5),
    (Op::Signal, 5),
    (Op::Tombstones, 1),
];

/// The same of an engine.
const OF_ENGINE: [(Op, u32); 14] = [
    (Op::Submit, 6),
    (Op::DequeueOutcomes, 5),
    (Op::AckOutcomes, 5),
    (Op::Depth, 10),
    (Op::Prepare, 6),
    (Op::Signal, 5),
    (Op::Entomb, 2),
    (Op::Bind, 2),
    (Op::Accept, 4),
    (Op::Apply, 6),
    (Op::ClaimDue, 16),
    (Op::ConfirmDispatched, 2),
    (Op::Cancel, 1),
    (Op::Retry, 1),
];

impl Plan {
    /// The plan that this seed gives.
    pub fn of(seed: u64) -> Self {
        let mut chance = Chance(StdRng::seed_from_u64(seed));
        let engines = chance.of([1, 2, 2, 2]);
        let workers = chance.of([1, 2, 2]);
        let tasks = chance.number(2, 7);
        let tasks = (0..tasks)
            .map(|number| chance.task(number, engines))
            .collect();
        let faults = chance.of([0, 1, 1, 2, 3, 4, 6, 8]);
        let faults = (0..faults)
            .map(|number| (number, chance.fault(engines, workers)))
            .collect();
        Self {
            seed,
            engines,
            workers,
            slots: chance.of([1, 2, 3]),
            lease: Duration::from_secs(chance.of([1, 1, 2, 3])),
            tasks,
            faults,
        }
    }
}

struct Chance(StdRng);

impl Chance {
    fn of<T: Copy, const N: usize>(&mut self, all: [T; N]) -> T {
        all[self.0.random_range(0..N)]
    }

    fn number(&mut self, least: usize, most: usize) -> usize {
        self.0.random_range(least..=most)
    }

    fn is(&mut self, percent: u32) -> bool {
        self.0.random_range(0..100) < percent
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.0.random_range(least..=most))
    }

    /// Something in so many cases of a hundred.
    fn maybe<T>(&mut self, percent: u32, some: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.is(percent).then(|| some(self))
    }

    fn task(&mut self, number: usize, engines: usize) -> TaskPlan {
        let keyed = self.is(30);
        let pushes = if keyed { self.number(1, 3) } else { 1 };
        let mut at = self.millis(0, 2_500);
        let pushes = (0..pushes)
            .map(|_| {
                let push = (at, self.number(0, engines - 1));
                at += self.millis(0, 1_500);
                push
            })
            .collect::<Vec<_>>();
        let first = pushes[0].0;
        let attempts = self.number(1, 4);
        let steps: Vec<_> = (0..attempts).map(|_| self.step()).collect();
        let hangs = steps
            .iter()
            .any(|step| matches!(step.end, End::UntilTold | End::Never));
        TaskPlan {
            number,
            keyed,
            pushes,
            unique: self.maybe(12, |chance| chance.of([0, 1])),
            delay: self.maybe(25, |chance| chance.millis(1, 2_000)),
            by_time: self.is(30),
            max_attempts: self.of([1, 2, 3, 3, 4]),
            backoff: Backoff::Fixed(self.millis(0, 400)),
            timeout: self.maybe(if hangs { 100 } else { 20 }, |chance| {
                chance.millis(200, 1_500)
            }),
            deadline: self.maybe(8, |chance| chance.millis(500, 5_000)),
            priority: self.of(Priority::ALL),
            elsewhere: self.is(20),
            rare: self.is(15),
            steps,
            cancel: self.maybe(12, |chance| first + chance.millis(0, 3_000)),
            retry: self.maybe(15, |chance| first + chance.millis(500, 5_000)),
        }
    }

    fn step(&mut self) -> Step {
        let takes = if self.is(25) {
            self.millis(1_000, 4_500)
        } else {
            self.millis(0, 200)
        };
        let snooze = End::Snooze(self.millis(1, 1_200));
        let end = match self.number(0, 99) {
            0..=54 => End::Succeed,
            55..=74 => End::Fail,
            75..=79 => End::FailForGood,
            80..=87 => snooze,
            88..=92 => End::Panic,
            93..=97 => End::UntilTold,
            _ => End::Never,
        };
        Step { takes, end }
    }

    fn fault(&mut self, engines: usize, workers: usize) -> Fault {
        let engine = Actor::Engine(self.number(0, engines - 1));
        let worker = Actor::Worker(self.number(0, workers - 1));
        let actor = if self.is(50) { engine } else { worker };
        let at = self.millis(0, 5_000);
        let lasts = self.millis(100, 4_500);
        match self.number(0, 99) {
            0..=17 => Fault::Kill {
                actor,
                at,
                down: lasts,
            },
            18..=24 => Fault::Pause { actor, at, lasts },
            25..=31 => Fault::Wipe { at },
            32..=36 => Fault::Away {
                server: Which::Store,
                at,
                lasts,
            },
            37..=41 => Fault::Away {
                server: Which::Broker,
                at,
                lasts,
            },
            42..=44 => Fault::PausedQueue { at, lasts },
            _ => self.call(engine, worker),
        }
    }

    fn call(&mut self, engine: Actor, worker: Actor) -> Fault {
        let (actor, (op, often)) = if self.is(50) {
            (engine, self.of(OF_ENGINE))
        } else {
            (worker, self.of(OF_WORKER))
        };
        let down = self.millis(100, 3_000);
        let late = self.millis(1, 4_000);
        let is_delivery = matches!(op, Op::Dequeue | Op::DequeueOutcomes | Op::Signal);
        let what = match self.number(0, 99) {
            0..=39 if is_delivery => self.of([What::Twice, What::Twice, What::Reversed]),
            0..=24 => What::FailBefore,
            25..=54 => What::FailAfter,
            55..=69 => What::Late(late),
            70..=82 => What::DieBefore(down),
            _ => What::DieAfter(down),
        };
        let nth = self.0.random_range(1..=often);
        Fault::Call {
            actor,
            op,
            nth,
            what,
        }
    }
}
