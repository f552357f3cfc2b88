//! What can happen between the push of a task and its end: retries, snoozes, progress, checkpoints, deadlines, cancels.
//! All of it works the same in local and in distributed mode.
//!
//! ```sh
//! cargo run --example lifecycle
//! ```

use std::time::Duration;

use goflow::{Backoff, Ctx, Deadline, Error, GoFlow, HandlerError, State, Task, TaskId, Unique};

const PATIENCE: Duration = Duration::from_secs(20);

/// Fails twice. Any error is tried again after the task's backoff, as long as it has attempts.
async fn flaky(ctx: Ctx, (): ()) -> Result<u32, HandlerError> {
    match ctx.attempt() {
        1 => Err(HandlerError::retry("no connection")),
        2 => Err(HandlerError::retry_after(
            Duration::from_millis(300),
            "asked to come back later",
        )),
        attempt => Ok(attempt),
    }
}

/// Is not ready yet. A snooze is no failure: it uses no attempt.
async fn patient(ready_at: u128) -> Result<String, HandlerError> {
    if now() < ready_at {
        return Err(HandlerError::snooze(Duration::from_millis(200)));
    }
    Ok("ready".into())
}

/// Counts to ten, loses its connection on the way, and goes on where it was.
async fn count(ctx: Ctx, (): ()) -> Result<String, HandlerError> {
    let from = match ctx.last_checkpoint() {
        Some(checkpoint) => String::from_utf8_lossy(checkpoint).parse::<u32>()?,
        None => 0,
    };
    for step in from..10 {
        // Both are cheap: the last value is passed on now and then.
        ctx.progress(&format!("step {step} of 10"))?;
        ctx.checkpoint(step.to_string())?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        if step == 6 && ctx.attempt() == 1 {
            return Err(HandlerError::retry("connection lost"));
        }
    }
    Ok(format!("counted from {from}"))
}

/// Works until it is told to stop: by a cancel, a deadline, a timeout, or the end of its worker.
async fn endless(ctx: Ctx, (): ()) -> Result<(), HandlerError> {
    ctx.cancelled().await;
    Ok(())
}

fn now() -> u128 {
    std::time::UNIX_EPOCH
        .elapsed()
        .map_or(0, |elapsed| elapsed.as_millis())
}

/// Waits until the task runs.
async fn running(flow: &GoFlow, id: TaskId) -> Result<(), Error> {
    while flow.get(id).await?.state != State::Running {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let flow = GoFlow::local()
        .handler("flaky", flaky)
        .handler("patient", patient)
        .handler("count", count)
        .handler("endless", endless)
        .build()?;
    flow.start().await?;
    let soon = Backoff::Fixed(Duration::from_millis(100));

    println!("-- retry");
    let id = flow
        .push(
            Task::json("flaky", &())?
                .max_attempts(5)
                .backoff(soon.clone()),
        )
        .await?;
    flow.wait(id, PATIENCE).await?;
    let record = flow.get(id).await?;
    for failed in &record.attempts {
        println!("attempt {}: {}", failed.attempt, failed.error);
    }
    println!("attempt {}: {}", record.attempt, record.state);

    println!("-- snooze");
    let task = Task::json("patient", &(now() + 500))?.max_attempts(1);
    let id = flow.push(task).await?;
    let result = flow.wait(id, PATIENCE).await?;
    let attempts = flow.get(id).await?.attempt;
    println!("{}, in attempt {attempts}", result.json::<String>()?);

    println!("-- progress and checkpoint");
    let id = flow.push(Task::json("count", &())?.backoff(soon)).await?;
    let progress = loop {
        if let Some(progress) = flow.get(id).await?.progress {
            break progress;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    println!("seen on the way: {progress}");
    println!("{}", flow.wait(id, PATIENCE).await?.json::<String>()?);

    println!("-- deadline");
    let half_a_second = Deadline::After(Duration::from_millis(500));
    let id = flow
        .push(Task::json("endless", &())?.deadline(half_a_second))
        .await?;
    let result = flow.wait(id, PATIENCE).await?;
    println!("{}: {}", result.state, result.error.unwrap_or_default());

    println!("-- cancel, and one at a time");
    let report =
        || Ok::<_, Error>(Task::json("endless", &())?.unique(Unique::while_live("report")));
    let id = flow.push(report()?).await?;
    assert_eq!(flow.push(report()?).await?, id);
    running(&flow, id).await?;
    println!("{}", flow.cancel(id).await?.state);

    println!("-- retry by hand, and run again");
    let reopened = flow.retry(id).await?;
    println!("{} again, attempt {}", reopened.state, reopened.attempt);
    flow.cancel(id).await?;
    let again = flow.run_again(id).await?;
    assert_eq!(flow.get(again).await?.spec.retry_of, Some(id));
    running(&flow, again).await?;
    println!("{}", flow.cancel(again).await?.state);
    flow.close().await
}
