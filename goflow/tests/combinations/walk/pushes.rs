//! The pushes of a walk.

use std::time::Duration;

use goflow::{Backoff, Deadline, Error, OnConflict, Priority, Task, TaskId, TaskSpec, Unique};
use time::OffsetDateTime;

use super::script::Step;
use super::{SERVED, UNSERVED, Walk};
use crate::deployment::QUEUES;

impl Walk {
    fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(1 + self.dice.roll(most))
    }

    /// A task with any options.
    fn task(&mut self) -> Task {
        let steps = self.dice.roll(4);
        let script: Vec<_> = (0..steps).map(|_| Step::random(&mut self.dice)).collect();
        let is_served = !self.dice.one_in(12);
        let task_type = if is_served { SERVED } else { UNSERVED };
        let priority = Priority::try_from(self.dice.roll(4) as u8).unwrap();
        let mut task = Task::json(task_type, &script)
            .unwrap()
            .queue(self.dice.choose(&QUEUES))
            .unwrap()
            .priority(priority)
            .max_attempts(1 + self.dice.roll(3) as u32)
            .backoff(Backoff::Fixed(self.millis(50)))
            // A run that hangs has to end.
            .timeout(Duration::from_millis(150));
        task = match self.dice.roll(6) {
            0 => task.delay(self.millis(600)),
            1 => task.run_at(OffsetDateTime::now_utc() + self.millis(600)),
            2 => task.run_at(OffsetDateTime::now_utc() - self.millis(600)),
            _ => task,
        };
        if self.dice.one_in(6) {
            task = task.deadline(Deadline::After(self.millis(1_500)));
        }
        if self.dice.one_in(6) {
            task = task.heartbeat_timeout(Duration::from_millis(80));
        }
        if self.dice.one_in(5) {
            task = task.unique(self.unique());
        }
        task
    }

    fn unique(&mut self) -> Unique {
        let key = format!("key-{}", self.dice.roll(3));
        let unique = match self.dice.roll(3) {
            0 => Unique::within(key, self.millis(800)),
            _ => Unique::while_live(key),
        };
        if self.dice.one_in(2) {
            unique.or_reject()
        } else {
            unique
        }
    }

    pub(super) async fn push(&mut self) {
        let task = self.task();
        let spec = task.clone().into_spec().unwrap();
        self.watch.submitted(&spec);
        let pushed = self.flow.push(task).await;
        self.pushed(&[spec], pushed.map(|id| vec![id]));
    }

    pub(super) async fn push_many(&mut self) {
        let tasks: Vec<_> = (0..2 + self.dice.roll(5)).map(|_| self.task()).collect();
        let specs = tasks.iter().map(|task| task.clone().into_spec().unwrap());
        let specs: Vec<_> = specs.collect();
        specs.iter().for_each(|spec| self.watch.submitted(spec));
        let pushed = self.flow.push_many(tasks).await;
        self.pushed(&specs, pushed);
    }

    /// Pushes the one task that a key stands for.
    pub(super) async fn push_keyed(&mut self) {
        let key = format!("order-{}", self.dice.roll(4));
        let task = Task::json(SERVED, &Vec::<Step>::new()).unwrap();
        let spec = task.clone().into_spec().unwrap();
        self.watch.submitted(&spec);
        let id = self.flow.push(task.idempotency_key(&key)).await.unwrap();
        let checked = self.watch.keyed(&key, id);
        self.legal(checked);
        self.pushed(&[spec], Ok(vec![id]));
    }

    /// Takes in what a push was answered.
    fn pushed(&mut self, specs: &[TaskSpec], answer: Result<Vec<TaskId>, Error>) {
        let ids = match answer {
            Ok(ids) => ids,
            Err(Error::Duplicate(holder)) => {
                let uniques = specs.iter().filter_map(|spec| spec.unique.as_ref());
                let mut rejecting = uniques.filter(|one| one.on_conflict == OnConflict::Reject);
                let may = rejecting.next().is_some();
                assert!(may && self.is_there(holder, specs), "{}", self.place);
                specs.iter().for_each(|spec| self.watch.refused(spec.id));
                return;
            }
            Err(error) => panic!("{}: push: {error}", self.place),
        };
        assert_eq!(ids.len(), specs.len(), "{}", self.place);
        for (spec, id) in specs.iter().zip(ids) {
            if id == spec.id {
                self.watch.accepted(spec);
                self.ids.push(id);
            } else {
                assert!(self.is_there(id, specs), "{}: {id}", self.place);
                self.watch.refused(spec.id);
            }
        }
    }

    /// Whether an earlier push, or an earlier task of this one, has this id.
    fn is_there(&self, id: TaskId, specs: &[TaskSpec]) -> bool {
        self.ids.contains(&id) || specs.iter().any(|spec| spec.id == id)
    }

    pub(super) async fn run_again(&mut self, id: TaskId) {
        match self.flow.run_again(id).await {
            Ok(other) if self.ids.contains(&other) => {}
            Ok(new) => {
                let record = self.flow.get(new).await.unwrap();
                assert_eq!(record.spec.retry_of, Some(id), "{}", self.place);
                self.watch.accepted(&record.spec);
                self.ids.push(new);
                let checked = self.watch.read(&record);
                self.legal(checked);
            }
            Err(Error::Forbidden { state, .. }) => {
                assert!(!state.is_terminal(), "{}: {id} is {state}", self.place);
            }
            Err(Error::Duplicate(holder)) => assert!(self.is_there(holder, &[])),
            Err(error) => panic!("{}: run {id} again: {error}", self.place),
        }
    }
}
