//! Rows of `gf_unique`, and what of a task becomes one.

use std::time::Duration;

use goflow_core::{TaskId, TaskSpec};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::columns::{Prepared, micros};
use crate::sql;

/// A namespace and a key in it.
pub(super) type Name<'a> = (&'a str, &'a str);

/// The key of a task within its namespace.
pub(super) fn name(spec: &TaskSpec) -> Option<Name<'_>> {
    let unique = spec.unique.as_ref()?;
    Some((spec.namespace.as_str(), unique.key.as_str()))
}

/// How long the key is taken, whatever becomes of the task.
pub(super) fn period(spec: &TaskSpec) -> Option<Duration> {
    spec.unique.as_ref()?.period
}

/// Keys as arrays of columns.
#[derive(Debug, Default)]
pub(super) struct Columns<'a> {
    pub(super) namespace: Vec<&'a str>,
    pub(super) key: Vec<&'a str>,
    task: Vec<Uuid>,
    period: Vec<Option<i64>>,
}

impl<'a> Columns<'a> {
    pub(super) fn push(&mut self, name: Name<'a>, task: TaskId, period: Option<Duration>) {
        self.namespace.push(name.0);
        self.key.push(name.1);
        self.task.push(task.as_uuid());
        self.period.push(period.map(micros));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.key.is_empty()
    }

    /// Takes those that are free, and gives them.
    pub(super) async fn insert(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<(String, String)>, sqlx::Error> {
        sqlx::query_as(sql::TAKE_UNIQUE)
            .bind(&self.namespace)
            .bind(&self.key)
            .bind(&self.task)
            .bind(&self.period)
            .fetch_all(connection)
            .await
    }

    /// A statement that takes all columns.
    pub(super) fn bind(&self, text: &'static str) -> Prepared<'_> {
        sqlx::query(text)
            .bind(&self.namespace)
            .bind(&self.key)
            .bind(&self.task)
            .bind(&self.period)
    }
}

/// Those of some keys that are taken, and the tasks that have them.
pub(super) async fn find(
    connection: &mut PgConnection,
    namespaces: &[&str],
    keys: &[&str],
) -> Result<Vec<(String, String, Uuid)>, sqlx::Error> {
    sqlx::query_as(sql::FIND_UNIQUE)
        .bind(namespaces)
        .bind(keys)
        .fetch_all(connection)
        .await
}
