//! What else a walk asks for.

use std::time::Duration;

use goflow::record::{Filter, PageRequest, TaskRecord};
use goflow::{Error, QueueName, State, TaskId};

use super::Walk;
use crate::deployment::QUEUES;

impl Walk {
    pub(super) async fn step(&mut self) {
        let roll = self.dice.roll(100);
        if self.ids.is_empty() || roll < 25 {
            return self.push().await;
        }
        let id = *self.dice.choose(&self.ids);
        match roll {
            25..30 => self.push_many().await,
            30..34 => self.push_keyed().await,
            34..46 => self.cancel(id).await,
            46..56 => self.retry(id).await,
            56..60 => self.run_again(id).await,
            60..62 => self.cancel_many().await,
            62..64 => self.retry_many().await,
            64..69 => self.pause_or_resume().await,
            69..84 => drop(self.read(id).await),
            84..88 => self.list().await,
            88..91 => self.wait(id).await,
            91..94 => self.restart().await,
            _ => tokio::time::sleep(Duration::from_millis(self.dice.roll(100))).await,
        }
    }

    async fn cancel(&mut self, id: TaskId) {
        match self.flow.cancel(id).await {
            Ok(record) => self.cancelled(&record),
            Err(Error::Forbidden { state, .. }) => {
                assert!(state.is_terminal(), "{}: {id} is {state}", self.place);
            }
            Err(error) => panic!("{}: cancel {id}: {error}", self.place),
        }
    }

    pub(super) fn cancelled(&mut self, record: &TaskRecord) {
        let checked = self.watch.cancelled(record.spec.id);
        self.legal(checked);
        let checked = self.watch.read(record);
        self.legal(checked);
    }

    async fn retry(&mut self, id: TaskId) {
        match self.flow.retry(id).await {
            Ok(record) => {
                let checked = self.watch.reopened(&record);
                self.legal(checked);
            }
            Err(Error::Forbidden { state, .. }) => {
                let may_not = !state.is_terminal() || state == State::Succeeded;
                assert!(may_not, "{}: {id} is {state}", self.place);
            }
            Err(Error::Duplicate(holder)) => assert!(self.ids.contains(&holder)),
            Err(error) => panic!("{}: retry {id}: {error}", self.place),
        }
    }

    /// The unfinished, or the dead, of one queue.
    fn some(&mut self) -> Filter {
        Filter {
            queue: Some(QueueName::new(self.dice.choose(&QUEUES)).unwrap()),
            ..Filter::default()
        }
    }

    async fn cancel_many(&mut self) {
        let filter = self.some();
        self.flow.cancel_many(&filter, 3).await.unwrap();
    }

    async fn retry_many(&mut self) {
        let filter = self.some();
        self.flow.retry_many(&filter, 3).await.unwrap();
        // It does not say which.
        for id in &self.ids {
            self.watch.perhaps_reopened(*id).unwrap();
        }
    }

    async fn pause_or_resume(&mut self) {
        let name = *self.dice.choose(&QUEUES);
        let queue = QueueName::new(name).unwrap();
        if self.paused.remove(name) {
            self.flow.resume_queue(&queue).await.unwrap();
        } else {
            self.paused.insert(name);
            self.flow.pause_queue(&queue).await.unwrap();
        }
    }

    async fn list(&mut self) {
        let page = PageRequest::default();
        let list = self.flow.list(&Filter::default(), page).await.unwrap();
        for record in list.tasks {
            let checked = self.watch.listed(&record);
            self.legal(checked);
        }
    }

    async fn wait(&mut self, id: TaskId) {
        let patience = Duration::from_millis(self.dice.roll(200));
        let record = self.flow.wait_record(id, patience).await.unwrap();
        let checked = self.watch.read(&record);
        self.legal(checked);
    }

    /// Starts the engine or the workers anew, where tasks outlive that.
    async fn restart(&mut self) {
        let (on_nats, lasting) = (
            self.flow.servers.has_nats(),
            self.flow.servers.keeps_records(),
        );
        let killed = self.dice.one_in(3);
        if on_nats && (!lasting || self.dice.one_in(2)) {
            self.flow.restart_workers(killed).await;
            self.register();
        } else if on_nats {
            self.flow.restart_engine(killed).await;
        } else if lasting {
            // A killed one would hold the store for some seconds more.
            self.flow.restart_engine(false).await;
            self.register();
        }
    }
}
