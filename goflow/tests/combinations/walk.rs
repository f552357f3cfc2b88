//! Random sequences of what clients can ask for, on whole engines: no invariant breaks, and in the end everything has
//! ended.
//!
//! `GF_SEED` repeats the operations of a walk. What runs between them is up to the machine.

use std::collections::BTreeSet;
use std::time::Duration;

use goflow::record::{Filter, PageRequest, TaskRecord, TaskResult};
use goflow::{QueueName, State, TaskId, TaskSpec};
use goflow_conformance::dice::Dice;
use goflow_conformance::invariants::{Violation, Watch};
use goflow_test_servers::eventually;
use time::OffsetDateTime;

use crate::PATIENCE;
use crate::deployment::{Combination, Deployment};

mod operations;
mod pushes;
mod script;

use script::Ledger;

on_every_combination! { random_walk }

/// Operations of a walk.
const STEPS: usize = 100;

/// How long everything has to end once nothing is in its way: what a killed engine had in its hands comes back within
/// 10 s, and then it has to be run.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// The type of the tasks that workers serve.
const SERVED: &str = "script";

/// The type of those that they do not.
const UNSERVED: &str = "nobody";

struct Walk {
    flow: Deployment,
    dice: Dice,
    watch: Watch,
    ledger: Ledger,
    /// The tasks that are there, oldest first.
    ids: Vec<TaskId>,
    paused: BTreeSet<&'static str>,
    /// Where it is, for whoever has to find out why it failed.
    place: String,
}

async fn random_walk(on: Combination) {
    let dice = Dice::seeded();
    let seed = dice.seed();
    let mut walk = Walk {
        flow: Deployment::start(on, 4).await,
        dice,
        watch: Watch::default(),
        ledger: Ledger::default(),
        ids: Vec::new(),
        paused: BTreeSet::new(),
        place: String::new(),
    };
    walk.register();
    for step in 0..STEPS {
        walk.place = format!("GF_SEED={seed}, step {step}");
        walk.step().await;
        walk.hear();
    }
    walk.place = format!("GF_SEED={seed}, in the end");
    walk.heal().await;
    walk.drain().await;
    walk.flow.close().await;
}

impl Walk {
    fn register(&self) {
        self.flow.register_handler(SERVED, self.ledger.handler());
    }

    fn legal(&self, checked: Result<(), Violation>) {
        if let Err(violation) = checked {
            panic!("{}: {violation}", self.place);
        }
    }

    /// Tells the watch what handlers noted since the last time.
    fn hear(&mut self) {
        for run in self.ledger.news() {
            let checked = self.watch.started(run.task, run.attempt, run.at);
            self.legal(checked);
        }
    }

    async fn read(&mut self, id: TaskId) -> TaskRecord {
        let record = self.flow.get(id).await.unwrap();
        let checked = self.watch.read(&record);
        self.legal(checked);
        record
    }

    /// Takes everything out of the tasks' way and waits until all have ended.
    async fn heal(&mut self) {
        for queue in std::mem::take(&mut self.paused) {
            let queue = QueueName::new(queue).unwrap();
            self.flow.resume_queue(&queue).await.unwrap();
        }
        let healed = OffsetDateTime::now_utc();
        loop {
            let mut left = 0;
            for id in self.watch.unfinished() {
                let record = self.read(id).await;
                left += usize::from(is_served(&record.spec) && !record.state.is_terminal());
            }
            self.hear();
            let now = OffsetDateTime::now_utc();
            let late = self
                .watch
                .unfinished_after_heal(healed, now, ENDS_WITHIN, is_served);
            assert!(late.is_empty(), "{}: {late:?}", self.place);
            if left == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Nothing is left but what nobody serves; then not even that, and all that was read stays as it was.
    async fn drain(&mut self) {
        let unfinished = Filter {
            states: vec![State::Scheduled, State::Queued, State::Retrying],
            ..Filter::default()
        };
        let page = PageRequest {
            limit: 500,
            ..PageRequest::default()
        };
        let left = self.flow.list(&unfinished, page).await.unwrap().tasks;
        let checked = self.watch.drained(&left);
        self.legal(checked);
        assert!(!left.iter().any(|record| is_served(&record.spec)));
        for record in left {
            let cancelled = self.flow.cancel(record.spec.id).await.unwrap();
            self.cancelled(&cancelled);
        }
        eventually(PATIENCE, async || {
            let queues = self.flow.queues().await.unwrap();
            let depths = queues.iter().map(|queue| queue.depth.unwrap());
            let messages: Vec<_> = depths.map(|depth| (depth.waiting, depth.leased)).collect();
            let is_empty = messages.iter().all(|messages| *messages == (0, 0));
            is_empty.then_some(()).ok_or(format!("{messages:?}"))
        })
        .await
        .unwrap();
        self.hear();
        for id in self.ids.clone() {
            let record = self.read(id).await;
            assert!(record.state.is_terminal(), "{}: {id}", self.place);
            if record.state == State::Succeeded {
                let run = TaskResult::from(record).json().unwrap();
                let rightly = self.ledger.went_well(id, run);
                assert!(rightly, "{}: {id} succeeded by run {run}", self.place);
            }
        }
    }
}

fn is_served(spec: &TaskSpec) -> bool {
    spec.task_type.as_str() == SERVED
}
