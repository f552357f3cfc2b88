//! What the conformance suite cannot know: the schema, the plans, the faults of a real server.

use goflow_core::outcome::{Outcome, Verdict};
use goflow_core::state::Policy;
use goflow_core::store::{Applied, NewTasks};
use goflow_core::{Content, TaskId, TaskSpec, TaskStore, WorkerId};
use goflow_test_servers::Postgres;
use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{Options, PostgresStore};

mod faults;
mod lifecycle;
mod million;
mod partitions;
mod plans;
mod push;
mod schema;
mod speed;

/// A server with a migrated database.
struct Bench {
    server: Postgres,
    url: String,
}

impl Bench {
    async fn start() -> Self {
        let server = Postgres::start().unwrap();
        let url = server.create_database().unwrap();
        crate::migrate(&url).await.unwrap();
        Self { server, url }
    }

    async fn connect(&self) -> PostgresStore {
        crate::connect(Options::new(&self.url)).await.unwrap()
    }

    fn sql(&self, sql: &str) -> String {
        self.server.execute(&self.url, sql).unwrap()
    }
}

/// A connection with these settings.
async fn session(url: &str, settings: &'static str) -> PgConnection {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(settings)
        .execute(&mut connection)
        .await
        .unwrap();
    connection
}

fn spec() -> TaskSpec {
    of_type("bench")
}

fn of_type(task_type: &str) -> TaskSpec {
    let payload = Content::new("{\"n\": 1}", "application/json");
    TaskSpec {
        id: TaskId::new(),
        namespace: Default::default(),
        queue: Default::default(),
        task_type: task_type.parse().unwrap(),
        payload,
        headers: Default::default(),
        tags: Default::default(),
        max_attempts: 3,
        backoff: Default::default(),
        timeout: None,
        start: Default::default(),
        priority: Default::default(),
        deadline: None,
        unique: None,
        retention: None,
        heartbeat_timeout: None,
        retry_of: None,
    }
}

fn one(spec: TaskSpec) -> NewTasks {
    NewTasks {
        tasks: vec![spec.into()],
        key: None,
    }
}

async fn accept(store: &PostgresStore, spec: TaskSpec) -> TaskId {
    store.accept(&[one(spec)]).await.remove(0).unwrap()[0].id
}

fn outcome(task: TaskId, verdict: Verdict) -> Outcome {
    Outcome {
        task,
        attempt: 1,
        dispatch: 1,
        verdict,
        worker: WorkerId(Uuid::now_v7()),
        started_at: Some(OffsetDateTime::now_utc()),
        finished_at: OffsetDateTime::now_utc(),
        spec: None,
    }
}

fn success(task: TaskId) -> Outcome {
    outcome(
        task,
        Verdict::Succeeded(Content::new("{\"ok\": true}", "application/json")),
    )
}

/// The success of a task that has no row.
fn rowless(spec: TaskSpec) -> Outcome {
    Outcome {
        spec: Some(spec.clone().into()),
        ..success(spec.id)
    }
}

fn failure(task: TaskId, error: &str) -> Outcome {
    outcome(task, Verdict::failed_for_good(error))
}

async fn apply(store: &PostgresStore, outcomes: Vec<Outcome>) -> Vec<Applied> {
    let outcomes: Vec<_> = outcomes.iter().collect();
    store.apply(&outcomes, &Policy::default()).await.unwrap()
}
