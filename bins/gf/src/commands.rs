//! What each command does.

use anyhow::Result;

use crate::args::{Cli, Command};
use crate::client::Client;

mod dev;
mod doctor;
mod list;
mod migrate;
mod push;
mod queues;
mod tasks;
mod workers;

/// Runs a command; its exit code.
///
/// # Errors
/// What went wrong: [`Failure`](crate::Failure) when that has an exit code of its own.
pub async fn run(cli: Cli) -> Result<u8> {
    let Cli {
        server,
        output,
        command,
    } = cli;
    let client = || Client::new(&server);
    match command {
        Command::Dev(dev) => dev::run(dev).await,
        Command::Push(push) => push::run(&client()?, push).await,
        Command::Get(task) => tasks::get(&client()?, &task.id, output).await,
        Command::Wait(wait) => push::wait(&client()?, &wait.id, wait.timeout).await,
        Command::List(list) => list::run(&client()?, list, output).await,
        Command::Cancel(tasks) => tasks::change(&client()?, &tasks.ids, "cancel", output).await,
        Command::Retry(tasks) => tasks::change(&client()?, &tasks.ids, "retry", output).await,
        Command::Queues => queues::run(&client()?, output).await,
        Command::Workers => workers::run(&client()?, output).await,
        Command::Migrate(migrate) => migrate::run(migrate).await,
        Command::Doctor(doctor) => doctor::run(&client()?, doctor).await,
    }
}
