//! Pushing: checks, room, deadlines, and the names of repeatable pushes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{AGES, Engine, Record, accept};
use crate::backoff::Backoff;
use crate::broker;
use crate::error::Error;
use crate::faults::{self, Bug};
use crate::id::TaskId;
use crate::limits;
use crate::store::{self, IdempotencyKey, NewTasks};
use crate::task::{Deadline, Start, Task, TaskSpec};
use crate::unique::Unique;

/// How long a push may take, room aside.
const PUSH_DEADLINE: Duration = Duration::from_secs(5);

/// How often a push that waits for room looks again, for tasks that finish in other engines.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

impl Engine {
    /// Pushes a task, waiting for room for `patience`.
    pub(crate) async fn push(&self, task: Task, patience: Duration) -> Result<TaskId, Error> {
        limits::check(&task.spec)?;
        let Task {
            spec,
            idempotency_key,
        } = task;
        if self.core.record == Record::Outcome && !spec.needs_row() && idempotency_key.is_none() {
            return self.publish(spec).await;
        }
        if idempotency_key.is_none()
            && let Some(accepted) = self.accept_at_once(&spec).await
        {
            return accepted;
        }
        let key = idempotency_key
            .filter(|_| !faults::planted(Bug::PushNotIdempotent))
            .map(|key| idempotency(key, &spec))
            .transpose()?;
        let ids = self
            .accept_in_time(
                NewTasks {
                    tasks: vec![spec],
                    key,
                },
                patience,
            )
            .await?;
        ids.first()
            .copied()
            .ok_or_else(|| Error::invalid("the store gave no id"))
    }

    /// Pushes many tasks, all or none, waiting for room for `patience`.
    pub(crate) async fn push_many(
        &self,
        tasks: Vec<Task>,
        patience: Duration,
    ) -> Result<Vec<TaskId>, Error> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        check_batch(&tasks)?;
        let tasks = tasks.into_iter().map(|task| task.spec).collect();
        self.accept_in_time(NewTasks { tasks, key: None }, patience)
            .await
    }

    async fn accept_in_time(
        &self,
        mut tasks: NewTasks,
        patience: Duration,
    ) -> Result<Vec<TaskId>, Error> {
        let mut deadline = None;
        loop {
            let room = self.core.room.notified();
            let full = match self.accept(tasks).await? {
                Ok(ids) => return Ok(ids),
                Err(refused) if matches!(refused.error, Error::QueueFull { .. }) => refused,
                Err(refused) => return Err(refused.error),
            };
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + patience.min(AGES));
            let look_again = deadline.min(Instant::now() + LOOK_AGAIN);
            tokio::select! { () = room => {}, () = tokio::time::sleep_until(look_again) => {} }
            if Instant::now() >= deadline {
                return Err(full.error);
            }
            tasks = full.tasks;
        }
    }

    /// Accepts a task where store and broker do so at once; none if it takes more than that.
    async fn accept_at_once(&self, spec: &Arc<TaskSpec>) -> Option<Result<TaskId, Error>> {
        self.core.store.at_once()?;
        if let Err(error) = self.begin_at_once().await {
            return Some(Err(error));
        }
        match accept::accept_plain(&self.core, spec)? {
            Ok(()) => Some(self.check_running().map(|()| spec.id)),
            // There is a way that waits for room.
            Err(store::Error::Full { .. }) => None,
            Err(error) => Some(Err(error.into())),
        }
    }

    /// Checks that tasks may be accepted. Gives others their turn before: nothing else yields where all is answered at once,
    /// and who pushes in a loop must not keep a thread to itself.
    async fn begin_at_once(&self) -> Result<(), Error> {
        tokio::task::coop::consume_budget().await;
        self.core.check_claim()?;
        self.check_running()
    }

    /// Checks that the engine does not stop. What was accepted at once by then may be behind the count of what is to be
    /// finished, so it is asked for again afterwards: nobody promises that such a task runs.
    fn check_running(&self) -> Result<(), Error> {
        if self.is_stopping() {
            return Err(Error::NotStarted);
        }
        Ok(())
    }

    async fn accept(&self, tasks: NewTasks) -> Result<Result<Vec<TaskId>, accept::Refused>, Error> {
        if self.core.store.at_once().is_some() {
            self.begin_at_once().await?;
            let accepted = accept::accept_alone(&self.core, tasks).await;
            return self.check_running().map(|()| accepted);
        }
        self.core.check_claim()?;
        let (reply, answer) = oneshot::channel();
        let unique = tasks.tasks.iter().any(|spec| spec.unique.is_some());
        let accept = if unique {
            &self.accept_unique
        } else {
            &self.accept
        };
        let accepted = async {
            accept
                .send(accept::Request { tasks, reply })
                .await
                .map_err(|_| Error::NotStarted)?;
            answer.await.map_err(|_| Error::NotStarted)
        };
        let late = |_| Err(store::Error::unavailable("push", "no commit within 5 s").into());
        tokio::time::timeout(PUSH_DEADLINE, accepted)
            .await
            .unwrap_or_else(late)
    }

    async fn publish(&self, spec: Arc<TaskSpec>) -> Result<TaskId, Error> {
        self.core.check_claim()?;
        let (reply, answer) = oneshot::channel();
        let published = async {
            self.publish
                .send(accept::Publish { spec, reply })
                .await
                .map_err(|_| Error::NotStarted)?;
            answer.await.map_err(|_| Error::NotStarted)?
        };
        let late = |_| Err(broker::Error::unavailable("push", "not published within 5 s").into());
        tokio::time::timeout(PUSH_DEADLINE, published)
            .await
            .unwrap_or_else(late)
    }
}

fn check_batch(tasks: &[Task]) -> Result<(), Error> {
    if tasks.len() > limits::MAX_BATCH {
        return Err(Error::invalid(format!(
            "{} tasks, {} is the most",
            tasks.len(),
            limits::MAX_BATCH
        )));
    }
    let mut bytes = 0;
    for (index, task) in tasks.iter().enumerate() {
        limits::check(&task.spec)
            .map_err(|error| Error::invalid(format!("task {index}: {error}")))?;
        if task.idempotency_key.is_some() {
            return Err(Error::invalid(format!(
                "task {index}: an idempotency key needs a push of its own"
            )));
        }
        bytes += task.spec.payload.len();
    }
    if bytes > limits::MAX_BATCH_BYTES {
        return Err(Error::TooLarge {
            what: "batch",
            bytes,
            limit: limits::MAX_BATCH_BYTES,
        });
    }
    Ok(())
}

/// Names a push by its key and what it asks for.
fn idempotency(key: String, spec: &TaskSpec) -> Result<IdempotencyKey, Error> {
    limits::check_key("an idempotency key", &key)?;
    let asked = rmp_serde::to_vec_named(&Asked::of(spec));
    let asked = asked.map_err(|error| Error::invalid(error.to_string()))?;
    Ok(IdempotencyKey {
        key,
        body_hash: fnv1a(&asked),
    })
}

/// What a push asks for; the id aside, and the trace: one that is repeated has a span of its own each time, and stays the
/// same push. Written in a form of its own, for it may be repeated at an engine of another version, which has another one
/// for messages. An option that is not used is left out, so that another one can be added.
#[derive(Serialize)]
struct Asked<'a> {
    namespace: &'a str,
    queue: &'a str,
    task_type: &'a str,
    payload: &'a Bytes,
    content_type: &'a str,
    max_attempts: u32,
    priority: u8,
    headers: BTreeMap<&'a str, &'a str>,
    tags: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff: Option<&'a Backoff>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<Start>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<Deadline>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique: Option<&'a Unique>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat_timeout: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<TaskId>,
}

impl<'a> Asked<'a> {
    fn of(spec: &'a TaskSpec) -> Self {
        let TaskSpec {
            id: _,
            namespace,
            queue,
            task_type,
            payload,
            headers,
            tags,
            max_attempts,
            backoff,
            timeout,
            start,
            priority,
            deadline,
            unique,
            retention,
            heartbeat_timeout,
            retry_of,
        } = spec;
        let headers = headers.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        Self {
            namespace: namespace.as_str(),
            queue: queue.as_str(),
            task_type: task_type.as_str(),
            payload: &payload.bytes,
            content_type: &payload.content_type,
            max_attempts: *max_attempts,
            priority: priority.get(),
            headers: headers.filter(|(name, _)| *name != "traceparent").collect(),
            tags,
            backoff: Some(backoff).filter(|backoff| **backoff != Backoff::default()),
            timeout: *timeout,
            start: Some(*start).filter(|start| *start != Start::Now),
            deadline: *deadline,
            unique: unique.as_ref(),
            retention: *retention,
            heartbeat_timeout: *heartbeat_timeout,
            retry_of: *retry_of,
        }
    }
}

/// FNV-1a, 64 bits: the same in every version and process, which the standard hasher does not promise.
/// Constants from <http://www.isthe.com/chongo/tech/comp/fnv/>.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Content;

    fn hash(task: Task) -> u64 {
        idempotency("key".to_owned(), &task.spec).unwrap().body_hash
    }

    /// They are kept for a day, and compared with those of other versions: this one is never to change.
    #[test]
    fn what_a_push_asks_for_has_the_same_hash_in_every_version() {
        let plain = || Task::new("echo", Content::new("{}", "application/json")).unwrap();
        assert_eq!(hash(plain()), 18_333_311_406_980_242_703);
        assert_eq!(
            hash(plain().header("traceparent", "00-1-2-01")),
            hash(plain())
        );
        let others = [
            plain().header("a", "b"),
            plain().tag("a", "b"),
            plain().max_attempts(4),
            plain().timeout(Duration::from_secs(1)),
            plain().delay(Duration::from_secs(1)),
            plain().queue("other").unwrap(),
            Task::new("echo", Content::binary("{}")).unwrap(),
        ];
        for other in others {
            assert_ne!(hash(other), hash(plain()));
        }
    }
}
