//! Looking up tasks by id. Those that are asked for while a look is under way are looked up together in the next one:
//! when a commit wakes all who wait for its tasks, it is their round trips that cost.

use std::sync::Arc;

use foldhash::HashMap;
use goflow_core::store::Error;
use goflow_core::{TaskId, TaskRecord};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgPool, Row};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::at_hand::AtHand;
use crate::error::{DEADLINE, translate, within};
use crate::read::finished_since;
use crate::rows::RecordRow;
use crate::sql;

const OPERATION: &str = "get";

/// Most tasks of one look: their payloads and results are in memory together.
const MAX_TASKS: usize = 50;

/// Looks under way at once: one for large tasks does not hold up all others.
const LOOKS: usize = 2;

/// Tasks that may wait to be looked up before those who ask wait themselves.
const BACKLOG: usize = 1_024;

type Answer = Result<Option<TaskRecord>, Error>;

#[derive(Debug)]
struct Request {
    id: TaskId,
    reply: oneshot::Sender<Answer>,
}

/// Where to ask for tasks.
#[derive(Debug)]
pub(crate) struct Lookups {
    requests: mpsc::Sender<Request>,
    at_hand: Arc<AtHand>,
    /// They end with it.
    _loops: JoinSet<()>,
}

impl Lookups {
    pub(crate) fn start(pool: &PgPool) -> Self {
        let (requests, receiver) = mpsc::channel(BACKLOG);
        let receiver = Arc::new(Mutex::new(receiver));
        let at_hand = Arc::new(AtHand::new(pool.clone()));
        let mut loops = JoinSet::new();
        for _ in 0..LOOKS {
            loops.spawn(run(at_hand.clone(), receiver.clone()));
        }
        Self {
            requests,
            at_hand,
            _loops: loops,
        }
    }

    /// Closes their pool.
    pub(crate) async fn close(&self) {
        self.at_hand.close().await;
    }

    /// A task, if there is one. Cancel-safe.
    pub(crate) async fn get(&self, id: TaskId) -> Answer {
        let gone = || Error::unavailable(OPERATION, "the store is closed");
        let (reply, answer) = oneshot::channel();
        let asked = self.requests.send(Request { id, reply }).await;
        asked.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// Looks tasks up until nobody can ask any more.
async fn run(at_hand: Arc<AtHand>, requests: Arc<Mutex<mpsc::Receiver<Request>>>) {
    let mut group = Vec::new();
    while requests.lock().await.recv_many(&mut group, MAX_TASKS).await > 0 {
        // Who has given up waiting is not looked up for.
        group.retain(|request| !request.reply.is_closed());
        let ids: Vec<_> = group.iter().map(|request| request.id).collect();
        // No longer than those who ask wait: a connection that is dead is left to the pool.
        let look = async { find_all(&at_hand, &ids).await.map_err(failed) };
        let found = within(DEADLINE, OPERATION, look).await;
        for Request { id, reply } in group.drain(..) {
            let answer = match &found {
                Ok(found) => found.get(&id).cloned().transpose(),
                Err(error) => Err(error.clone()),
            };
            drop(reply.send(answer));
        }
    }
}

/// Those of some tasks that there are. One that cannot be read is no reason not to read the others.
async fn find_all(
    at_hand: &AtHand,
    ids: &[TaskId],
) -> Result<HashMap<TaskId, Result<TaskRecord, Error>>, sqlx::Error> {
    let Some(first) = ids.iter().min() else {
        return Ok(HashMap::default());
    };
    let keys: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
    let mut taken = at_hand.take().await?;
    let rows = sqlx::query(sql::GET)
        .bind(keys)
        .bind(finished_since(*first))
        .fetch_all(taken.connection())
        .await?;
    at_hand.keep(taken);
    let read = |row: &PgRow| {
        let id: Uuid = row.try_get("id")?;
        let record = RecordRow::from_row(row).and_then(TaskRecord::try_from);
        Ok((id.into(), record.map_err(failed)))
    };
    rows.iter().map(read).collect()
}

fn failed(error: sqlx::Error) -> Error {
    translate(OPERATION, error)
}
