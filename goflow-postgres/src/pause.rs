//! Queues that are paused.

use goflow_core::QueueName;
use goflow_core::store::Error;

use crate::error::translate;
use crate::rows::undecodable;
use crate::sql;
use crate::store::PostgresStore;

impl PostgresStore {
    pub(crate) async fn pause(&self, queue: &QueueName, paused: bool) -> Result<(), Error> {
        let text = if paused { sql::PAUSE } else { sql::RESUME };
        let done = sqlx::query(text)
            .bind(queue.as_str())
            .execute(&self.pools.writes)
            .await;
        done.map(|_| ()).map_err(|error| translate("pause", error))
    }

    pub(crate) async fn find_paused(&self) -> Result<Vec<QueueName>, Error> {
        let names: Result<Vec<String>, _> = sqlx::query_scalar(sql::PAUSED)
            .fetch_all(&self.pools.queries)
            .await;
        let queues = names.and_then(|names| {
            let queue = |name: String| name.try_into().map_err(undecodable);
            names.into_iter().map(queue).collect()
        });
        queues.map_err(|error| translate("find paused", error))
    }
}
