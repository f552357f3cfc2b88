//! NATS and Postgres die at once, under load.

use anyhow::Result;

use crate::cluster::Cluster;
use crate::load::Load;

#[tokio::test]
async fn both_servers_crash_at_once_and_every_accepted_task_has_one_record() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let gateways = [cluster.gateway(&[])?, cluster.gateway(&[])?];
    let _workers = [cluster.worker(&[])?, cluster.worker(&[])?];
    let load = Load::start(&[gateways[0].url(), gateways[1].url()], "echo");
    for nats_first in [true, false] {
        load.accepts(200).await?;
        cluster.nats.kill()?;
        // As a crash is to Postgres: SIGKILL would leave its backends behind.
        cluster.postgres.kill_immediate()?;
        if nats_first {
            cluster.nats.start_again()?;
            cluster.postgres.start_again()?;
        } else {
            cluster.postgres.start_again()?;
            load.accepts(50).await?;
            cluster.nats.start_again()?;
        }
    }
    load.accepts(200).await?;
    load.end(&cluster).await?;
    Ok(())
}
