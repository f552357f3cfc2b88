//! The store: each call of the port, within its deadline.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use goflow_core::broker::Identity;
use goflow_core::outcome::Outcome;
use goflow_core::record::{DeadGroup, Filter, Page, PageRequest, QueueCounts};
use goflow_core::state::Policy;
use goflow_core::store::{Accepted, Applied, Change, Claim, Due, Error, KvStore, NewTasks};
use goflow_core::{QueueName, StoreId, TaskId, TaskRecord, TaskStore, TaskType};
use sqlx::{PgPool, Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::at_hand::AtHand;
use crate::error::{DEADLINE, translate, within};
use crate::limit::LiveCount;
use crate::lookups::Lookups;
use crate::options::Options;
use crate::sql;

/// How long a health check or a farewell may take.
const SHORT: Duration = Duration::from_secs(2);

/// The record of every task in a Postgres database.
#[derive(Debug)]
pub struct PostgresStore {
    id: StoreId,
    pub(crate) options: Options,
    pub(crate) pools: Pools,
    /// Of the writes, for what each task takes.
    pub(crate) at_hand: AtHand,
    pub(crate) live: LiveCount,
    lookups: Lookups,
    /// The in-process broker that this store's claim was made for.
    pub(crate) claimed_for: Mutex<Option<Uuid>>,
    /// Whether rows may still have to be handed to a new broker.
    pub(crate) rebinding: AtomicBool,
}

/// The connections, by what they are for: none waits for those that take longer.
#[derive(Debug)]
pub(crate) struct Pools {
    /// Changes.
    pub(crate) writes: PgPool,
    /// Single tasks.
    pub(crate) lookups: PgPool,
    /// Lists and counts.
    pub(crate) queries: PgPool,
}

impl Pools {
    /// Begins a transaction for changes. Cancel-safe: it is begun in a task of its own, which nobody interrupts, and
    /// rolled back when nobody takes it. Interrupted, the driver forgets that it has begun one and gives the connection
    /// to the next who asks: what that one says is part of the transaction, and lost with it
    /// (<https://github.com/transact-rs/sqlx/issues/4393>, in sqlx 0.9.0). Its place in the queue for a connection is
    /// kept meanwhile, until it gets one or has waited for too long.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let pool = self.writes.clone();
        let begun = tokio::spawn(async move { pool.begin().await });
        begun
            .await
            .unwrap_or_else(|error| match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends.
                Err(_) => Err(sqlx::Error::WorkerCrashed),
            })
    }
}

impl PostgresStore {
    pub(crate) fn new(id: StoreId, options: Options, pools: Pools) -> Self {
        let live = LiveCount::new(options.max_live);
        Self {
            id,
            options,
            lookups: Lookups::start(&pools.lookups),
            at_hand: AtHand::new(pools.writes.clone()),
            pools,
            live,
            claimed_for: Mutex::new(None),
            rebinding: AtomicBool::new(false),
        }
    }
}

#[async_trait]
impl KvStore<TaskId, TaskRecord> for PostgresStore {
    async fn get(&self, key: &TaskId) -> Result<Option<TaskRecord>, Error> {
        within(DEADLINE, "get", self.lookups.get(*key)).await
    }
}

#[async_trait]
impl TaskStore for PostgresStore {
    fn id(&self) -> StoreId {
        self.id
    }

    fn is_durable(&self) -> bool {
        true
    }

    async fn bind(&self, broker: &Identity) -> Result<(), Error> {
        within(DEADLINE, "bind", self.bind_broker(broker)).await
    }

    async fn ping(&self) -> Result<(), Error> {
        within(SHORT, "ping", async {
            let answer = sqlx::query(sql::PING).execute(&self.pools.writes).await;
            answer.map(|_| ()).map_err(|error| translate("ping", error))
        })
        .await
    }

    async fn accept(&self, requests: &[NewTasks]) -> Vec<Result<Vec<Accepted>, Error>> {
        self.accept_requests(requests).await
    }

    async fn apply(&self, outcomes: &[&Outcome], policy: &Policy) -> Result<Vec<Applied>, Error> {
        within(DEADLINE, "apply", self.apply_outcomes(outcomes, policy)).await
    }

    async fn claim_due(&self, limit: usize, claim: Claim<'_>) -> Result<Due, Error> {
        within(DEADLINE, "claim due", self.claim(limit, claim)).await
    }

    async fn confirm_dispatched(
        &self,
        broker: Uuid,
        dispatches: &[(TaskId, u32)],
    ) -> Result<bool, Error> {
        within(
            DEADLINE,
            "confirm dispatched",
            self.confirm(broker, dispatches),
        )
        .await
    }

    async fn wake_unserved(&self, queue: &QueueName, types: &[TaskType]) -> Result<u64, Error> {
        within(DEADLINE, "wake unserved", self.wake(queue, types)).await
    }

    async fn cancel(&self, id: TaskId) -> Result<Change, Error> {
        within(DEADLINE, "cancel", self.cancel_task(id)).await
    }

    async fn retry(&self, id: TaskId) -> Result<Change, Error> {
        within(DEADLINE, "retry", self.reopen_task(id)).await
    }

    async fn list(&self, filter: &Filter, page: PageRequest) -> Result<Page, Error> {
        within(DEADLINE, "list", self.list_page(filter, page)).await
    }

    async fn dead(&self, since: OffsetDateTime, limit: usize) -> Result<Vec<DeadGroup>, Error> {
        within(DEADLINE, "group dead", self.group_dead(since, limit)).await
    }

    async fn set_paused(&self, queue: &QueueName, paused: bool) -> Result<(), Error> {
        within(DEADLINE, "pause", self.pause(queue, paused)).await
    }

    async fn paused(&self) -> Result<Vec<QueueName>, Error> {
        within(DEADLINE, "find paused", self.find_paused()).await
    }

    async fn queue_counts(&self) -> Result<Vec<QueueCounts>, Error> {
        within(DEADLINE, "count queues", self.count_queues()).await
    }

    async fn maintain(&self) -> Result<(), Error> {
        within(DEADLINE, "maintain", self.maintain_tables()).await
    }

    async fn close(&self) {
        let close = async {
            self.release_claim().await;
            self.at_hand.close().await;
            self.lookups.close().await;
            self.pools.queries.close().await;
        };
        if tokio::time::timeout(SHORT, close).await.is_err() {
            tracing::warn!("postgres did not answer in time when its connections were closed");
        }
    }
}
