//! What each command does.

use anyhow::Result;

use crate::args::{Cli, Command};
use crate::client::Client;

mod bench;
mod bulk;
mod dead;
mod dev;
mod doctor;
mod filters;
mod list;
mod migrate;
mod push;
mod queue;
mod queues;
mod tasks;
mod worker;
mod workers;

use bulk::Action;
#[doc(hidden)]
pub use push::bodies as push_bodies;

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
        Command::Push(push) => push::run(&client()?, *push, output).await,
        Command::Get(task) => tasks::get(&client()?, &task.id, output).await,
        Command::Wait(wait) => push::wait(&client()?, &wait.id, wait.timeout).await,
        Command::List(list) => list::run(&client()?, list, output).await,
        Command::Cancel(change) => tasks::change(&client()?, Action::Cancel, change, output).await,
        Command::Retry(change) => tasks::change(&client()?, Action::Retry, change, output).await,
        Command::RunAgain(task) => tasks::run_again(&client()?, &task.id, output).await,
        Command::Dead(dead) => dead::run(&client()?, dead, output).await,
        Command::Queues => queues::run(&client()?, output).await,
        Command::Queue(command) => queue::run(&client()?, command, output).await,
        Command::Workers => workers::run(&client()?, output).await,
        Command::Worker(command) => worker::run(&client()?, command, output).await,
        Command::Migrate(migrate) => migrate::run(migrate).await,
        Command::Bench(bench) => bench::run(client()?, bench, output).await,
        Command::Doctor(doctor) => doctor::run(&client()?, doctor).await,
    }
}
