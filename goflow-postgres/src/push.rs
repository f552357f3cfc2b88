//! Pushing within a caller's transaction: the task exists if, and as soon as, what it belongs to does.

use std::sync::Arc;
use std::time::Duration;

use goflow_core::limits::{MAX_BATCH, MAX_BATCH_BYTES};
use goflow_core::store::{self, NewTasks};
use goflow_core::{Error, Task, TaskId, TaskSpec};
use sqlx::PgConnection;

use crate::accept::{unfit, write_group};
use crate::error::translate;

/// Pushes a task within a transaction of the database that holds the store. Once that commits, the engines that
/// use the store dispatch the task (within half a second or so); when it is rolled back, there never was one.
///
/// The transaction's `search_path` must find the tables of the store. A task with a
/// [unique key](goflow_core::Task::unique) keeps others of that key waiting until the transaction ends, so end it
/// soon. The store's limit on unfinished tasks does not apply.
///
/// ```no_run
/// use goflow_core::Task;
/// use goflow_postgres::sqlx::{self, PgPool};
///
/// async fn order(pool: &PgPool, customer: i64) -> Result<(), Box<dyn std::error::Error>> {
///     let mut tx = pool.begin().await?;
///     let insert = sqlx::query_scalar("insert into orders (customer) values ($1) returning id");
///     let order: i64 = insert.bind(customer).fetch_one(&mut *tx).await?;
///     let confirm = Task::json("confirm-order", &order)?;
///     goflow_postgres::push_in(&mut *tx, confirm).await?;
///     // The order and its confirmation: both or neither.
///     tx.commit().await?;
///     Ok(())
/// }
/// ```
///
/// # Errors
/// A limit, an idempotency key (the transaction itself is what happens once), [`Error::Duplicate`]: nothing was
/// done, and the transaction goes on. Any other error comes from the database, which has ended the transaction.
pub async fn push_in(connection: &mut PgConnection, task: Task) -> Result<TaskId, Error> {
    let accepted = push(connection, vec![task.into_spec()?]).await?;
    let id = accepted.first().copied();
    id.ok_or_else(|| Error::invalid("no task was accepted"))
}

/// Pushes many tasks as [`push_in`] does, all or none; gives their ids in the same order.
///
/// # Errors
/// As [`push_in`].
pub async fn push_many_in(
    connection: &mut PgConnection,
    tasks: impl IntoIterator<Item = Task>,
) -> Result<Vec<TaskId>, Error> {
    let specs: Result<Vec<TaskSpec>, Error> = tasks.into_iter().map(Task::into_spec).collect();
    let specs = specs?;
    if specs.is_empty() {
        return Ok(Vec::new());
    }
    if specs.len() > MAX_BATCH {
        let number = specs.len();
        return Err(Error::invalid(format!(
            "{number} tasks, {MAX_BATCH} is the most"
        )));
    }
    let bytes = specs.iter().map(|spec| spec.payload.len()).sum();
    if bytes > MAX_BATCH_BYTES {
        let (what, limit) = ("batch", MAX_BATCH_BYTES);
        return Err(Error::TooLarge { what, bytes, limit });
    }
    push(connection, specs).await
}

async fn push(connection: &mut PgConnection, specs: Vec<TaskSpec>) -> Result<Vec<TaskId>, Error> {
    let tasks = specs.into_iter().map(Arc::new).collect();
    let request = NewTasks { tasks, key: None };
    if let Some(error) = unfit(&request) {
        return Err(error.into());
    }
    // Due for a sweep at once: nobody else is going to dispatch it.
    let (mut answers, _) = write_group(connection, &[&request], Duration::ZERO)
        .await
        .map_err(|error| translate("push", error))?;
    let accepted = answers.pop().unwrap_or_else(|| {
        Err(store::Error::Refused {
            reason: "no answer".to_owned(),
        })
    })?;
    Ok(accepted.into_iter().map(|accepted| accepted.id).collect())
}
