//! Tasks pushed in one place and run in another, over NATS and Postgres. Here both are in one process; they share
//! nothing but the servers.
//!
//! ```sh
//! gf migrate --store postgres://goflow@127.0.0.1:5432/goflow
//! GF_BROKER=nats://127.0.0.1:4222 GF_STORE=postgres://goflow@127.0.0.1:5432/goflow \
//!     cargo run --example distributed --features nats,postgres
//! ```

use std::env;
use std::sync::Arc;
use std::time::Duration;

use goflow::{GoFlow, HandlerError, Priority, State, Task, Worker, nats, postgres};

const PATIENCE: Duration = Duration::from_secs(20);

async fn resize(width: u32) -> Result<String, HandlerError> {
    Ok(format!("{width} pixels"))
}

/// A pool of workers. It needs the broker only: outcomes travel through it to whoever has the store.
async fn worker(broker: &str) -> Result<Worker, Box<dyn std::error::Error>> {
    let worker = Worker::builder()
        .broker(nats::connect(nats::Options::new(broker)).await?)
        .handler("resize", resize)
        .num_workers(10)
        .queues(["images"])
        .lease(Duration::from_secs(5))
        .build()?;
    worker.start().await?;
    Ok(worker)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (broker, store) = (env::var("GF_BROKER")?, env::var("GF_STORE")?);
    let flow = GoFlow::builder()
        .broker(nats::connect(nats::Options::new(&broker)).await?)
        .store(Arc::new(
            postgres::connect(postgres::Options::new(&store)).await?,
        ))
        .build();
    flow.start().await?;

    // Nobody serves it yet: it waits, and survives both this process and the loss of the broker.
    let resize = |width: u32| {
        Task::json("resize", &width)?
            .queue("images")
            .map_err(goflow::Error::from)
    };
    let urgent = resize(320)?.priority(Priority::try_from(3)?);
    // Pushing it again, after an error, gives the same id.
    let id = flow.push(urgent.idempotency_key("thumbnail-7")).await?;
    println!("{}", flow.get(id).await?.state);

    let pool = worker(&broker).await?;
    let result = flow.wait(id, PATIENCE).await?;
    println!("{}: {}", result.state, result.json::<String>()?);

    let ids = flow
        .push_many((1..=100).map(resize).collect::<Result<_, _>>()?)
        .await?;
    for id in &ids {
        assert_eq!(flow.wait(*id, PATIENCE).await?.state, State::Succeeded);
    }
    println!("{} images resized", ids.len());

    // What it is at ends or is given back, unharmed.
    pool.close().await?;
    flow.close().await?;
    Ok(())
}
