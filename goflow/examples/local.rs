//! Everything in one process: push a task, wait for its result. No server, no configuration.
//!
//! ```sh
//! cargo run --example local
//! ```

use std::time::Duration;

use goflow::{Ctx, GoFlow, HandlerError, State, Task};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Order {
    id: u64,
    cents: u64,
}

#[derive(Serialize, Deserialize)]
struct Receipt {
    order: u64,
    text: String,
}

/// A handler is an async function. What it takes and returns travels as JSON.
async fn bill(order: Order) -> Result<Receipt, HandlerError> {
    if order.cents == 0 {
        // No further attempt can help. Any other error, by `?`, is tried again.
        return Err(HandlerError::permanent("nothing to pay"));
    }
    let text = format!("{}.{:02}", order.cents / 100, order.cents % 100);
    Ok(Receipt {
        order: order.id,
        text,
    })
}

/// One that asks for its context knows its task: the id is the key to make side effects happen once.
async fn mail(ctx: Ctx, receipt: Receipt) -> Result<String, HandlerError> {
    Ok(format!(
        "mail {} for order {}",
        ctx.task_id(),
        receipt.order
    ))
}

#[tokio::main]
async fn main() -> Result<(), goflow::Error> {
    let flow = GoFlow::local()
        .num_workers(4)
        .handler("bill", bill)
        .handler("mail", mail)
        .build()?;
    flow.start().await?;

    let order = Order { id: 7, cents: 1999 };
    let id = flow.push(Task::json("bill", &order)?).await?;
    let result = flow.wait(id, Duration::from_secs(10)).await?;
    let receipt: Receipt = result.json()?;
    println!("order {} costs {}", receipt.order, receipt.text);

    let id = flow.push(Task::json("mail", &receipt)?).await?;
    let sent = flow.wait(id, Duration::from_secs(10)).await?;
    println!("{}", sent.json::<String>()?);

    let free = Order { id: 8, cents: 0 };
    let id = flow.push(Task::json("bill", &free)?).await?;
    let result = flow.wait(id, Duration::from_secs(10)).await?;
    assert_eq!(result.state, State::Failed);
    println!(
        "order 8 {}: {}",
        result.state,
        result.error.unwrap_or_default()
    );

    // Many at once: all are accepted or none.
    let orders = (1..=100).map(|id| Order {
        id,
        cents: 100 * id,
    });
    let tasks = orders.map(|order| Task::json("bill", &order));
    let ids = flow.push_many(tasks.collect::<Result<_, _>>()?).await?;
    for id in &ids {
        let result = flow.wait(*id, Duration::from_secs(10)).await?;
        assert_eq!(result.state, State::Succeeded);
    }
    println!("{} orders billed", ids.len());
    flow.close().await
}
