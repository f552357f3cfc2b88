//! A task pushed in the caller's own transaction: it exists if, and only if, the transaction commits.
//!
//! ```sh
//! gf migrate --store postgres://goflow@127.0.0.1:5432/goflow
//! GF_STORE=postgres://goflow@127.0.0.1:5432/goflow \
//!     cargo run --example transactional_push --features postgres
//! ```

use std::env;
use std::sync::Arc;
use std::time::Duration;

use goflow::postgres::{self, sqlx};
use goflow::{Error, GoFlow, HandlerError, State, Task};

async fn welcome(user: String) -> Result<String, HandlerError> {
    Ok(format!("welcome, {user}"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = env::var("GF_STORE")?;
    let store = postgres::connect(postgres::Options::new(&url)).await?;
    // The store may be in any process. Here it is in this one, with its workers.
    let flow = GoFlow::local()
        .results_store(Arc::new(store))
        .handler("welcome", welcome)
        .build()?;
    flow.start().await?;

    // The application's own connection to the same database.
    let pool = sqlx::PgPool::connect(&url).await?;
    sqlx::query("create table if not exists app_user (name text primary key)")
        .execute(&pool)
        .await?;

    let mut tx = pool.begin().await?;
    sqlx::query("insert into app_user values ('ann') on conflict do nothing")
        .execute(&mut *tx)
        .await?;
    let id = postgres::push_in(&mut tx, Task::json("welcome", "ann")?).await?;
    // Nobody else sees it yet, and nobody runs it.
    assert!(matches!(flow.get(id).await, Err(Error::NotFound(_))));
    tx.commit().await?;
    let result = flow.wait(id, Duration::from_secs(20)).await?;
    println!("{}: {}", result.state, result.json::<String>()?);
    assert_eq!(result.state, State::Succeeded);

    let mut tx = pool.begin().await?;
    let id = postgres::push_in(&mut tx, Task::json("welcome", "bob")?).await?;
    tx.rollback().await?;
    assert!(matches!(flow.get(id).await, Err(Error::NotFound(_))));
    println!("rolled back: it never was");
    pool.close().await;
    flow.close().await?;
    Ok(())
}
