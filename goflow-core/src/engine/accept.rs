//! Group commit: what is pushed while a commit is under way goes into the next one. A lone push commits at once. A store
//! that answers at once has no commits to share: each push goes to it by itself.

use std::slice;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use super::{Core, dispatch};
use crate::error::Error;
use crate::faults::{self, Point};
use crate::id::TaskId;
use crate::store::{self, Accepted, Dispatch, NewTasks};
use crate::task::{Start, TaskMessage, TaskSpec};

/// Most rows of one commit, unless a single request has more.
const MAX_ROWS: usize = 500;

/// Groups without rows that are published at once: the next one is on its way while the broker confirms the last one.
const MAX_UNDER_WAY: usize = 2;

/// Requests that may wait for a commit before pushes wait themselves.
pub(super) const BACKLOG: usize = 4_096;

/// A push on its way into the store.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) tasks: NewTasks,
    pub(super) reply: oneshot::Sender<Result<Vec<TaskId>, Refused>>,
}

/// Why tasks were not accepted, and the tasks.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) error: Error,
    pub(super) tasks: NewTasks,
}

/// Accepts requests until every sender is gone. Each is answered once it is committed.
pub(super) async fn run(core: Arc<Core>, mut requests: mpsc::Receiver<Request>) {
    let mut left_over = None;
    loop {
        let first = match left_over.take() {
            Some(request) => request,
            None => match next(&core, &mut requests).await {
                Some(request) => request,
                None => return,
            },
        };
        let mut rows = first.tasks.tasks.len();
        let mut group = vec![first];
        while let Ok(request) = requests.try_recv() {
            rows += request.tasks.tasks.len();
            if rows > MAX_ROWS {
                left_over = Some(request);
                break;
            }
            group.push(request);
        }
        commit(&core, group).await;
    }
}

/// The next request; once the engine stops, only those that are there.
async fn next<T>(core: &Core, requests: &mut mpsc::Receiver<T>) -> Option<T> {
    tokio::select! {
        biased;
        request = requests.recv() => request,
        () = core.stopping.cancelled() => {
            requests.close();
            requests.recv().await
        }
    }
}

async fn commit(core: &Core, group: Vec<Request>) {
    let (tasks, replies): (Vec<_>, Vec<_>) = group.into_iter().map(|r| (r.tasks, r.reply)).unzip();
    let accepted = core.store.accept(&tasks).await;
    faults::point(Point::AfterAccept);
    let mut dispatches = Vec::new();
    for ((reply, tasks), accepted) in replies.into_iter().zip(tasks).zip(accepted) {
        // Nobody may be waiting any more: what is committed is committed.
        drop(reply.send(settle(core, tasks, accepted, &mut dispatches)));
    }
    dispatch::hand_over(core, dispatches).await;
}

/// Accepts a task and has it published, where store and broker both answer at once and that is all there is to do; none
/// otherwise.
pub(super) fn accept_plain(core: &Core, spec: &Arc<TaskSpec>) -> Option<Result<(), store::Error>> {
    let store = core.store.at_once()?;
    let broker = core.connection.tasks.at_once()?;
    if spec.needs_row() {
        return None;
    }
    let id = core.prepared.broker_with(&spec.queue)?;
    let mut publish = || {
        let first = Dispatch {
            spec: spec.clone(),
            attempt: 1,
            dispatch: 1,
        };
        let published = broker.submit_one(dispatch::message(core, first));
        if let Err(error) = &published {
            warn!(%error, "cannot dispatch now, trying again");
        }
        published.is_ok()
    };
    Some(store.accept_one(spec, id, &mut publish))
}

/// Accepts a push by itself, for a store that answers at once.
pub(super) async fn accept_alone(core: &Core, tasks: NewTasks) -> Result<Vec<TaskId>, Refused> {
    let accepted = core.store.accept(slice::from_ref(&tasks)).await.pop();
    let accepted = accepted.unwrap_or_else(|| Err(store::Error::unavailable("push", "no answer")));
    let mut dispatches = Vec::with_capacity(tasks.tasks.len());
    let answer = settle(core, tasks, accepted, &mut dispatches);
    dispatch::hand_over(core, dispatches).await;
    answer
}

/// What the caller is told of a request, and what follows from it.
fn settle(
    core: &Core,
    tasks: NewTasks,
    accepted: Result<Vec<Accepted>, store::Error>,
    dispatches: &mut Vec<Dispatch>,
) -> Result<Vec<TaskId>, Refused> {
    let accepted = match accepted {
        Ok(accepted) => accepted,
        Err(error) => {
            let error = error.into();
            return Err(Refused { error, tasks });
        }
    };
    for (spec, accepted) in tasks.tasks.into_iter().zip(&accepted) {
        if accepted.dispatch_now {
            dispatches.push(Dispatch {
                spec,
                attempt: 1,
                dispatch: 1,
            });
        } else if let Start::After(delay) = spec.start {
            core.schedule.wake_in(delay);
        }
    }
    Ok(accepted.iter().map(|accepted| accepted.id).collect())
}

/// A push without a row on its way to the broker.
#[derive(Debug)]
pub(super) struct Publish {
    pub(super) spec: Arc<TaskSpec>,
    pub(super) reply: oneshot::Sender<Result<TaskId, Error>>,
}

/// Publishes tasks without a row until every sender is gone. Each is answered once the broker has it.
pub(super) async fn publish(core: Arc<Core>, requests: mpsc::Receiver<Publish>) {
    let core = &*core;
    let groups = stream::unfold(requests, async |mut requests| {
        let mut group = vec![next(core, &mut requests).await?];
        while group.len() < MAX_ROWS
            && let Ok(request) = requests.try_recv()
        {
            group.push(request);
        }
        Some((group, requests))
    });
    let each = |group| publish_group(core, group);
    groups.for_each_concurrent(MAX_UNDER_WAY, each).await;
}

async fn publish_group(core: &Core, group: Vec<Publish>) {
    let (messages, replies): (Vec<_>, Vec<_>) = group
        .into_iter()
        .map(|Publish { spec, reply }| {
            let id = spec.id;
            let message = TaskMessage {
                spec,
                attempt: 1,
                dispatch: 1,
                route: core.route.clone(),
                recorded: false,
            };
            (Arc::new(message), (id, reply))
        })
        .unzip();
    let submitted = core.submit(messages).await;
    for ((id, reply), submitted) in replies.into_iter().zip(submitted) {
        let answer = submitted.map(|()| id).map_err(Error::from);
        if reply.send(answer).is_err() {
            debug!(task.id = %id, "the pusher is gone");
        }
    }
}
