//! The memory of processes that are idle, that have accepted a long backlog, and that work it off.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use goflow_test_servers::Process;
use serde::Serialize;

use crate::args;
use crate::figure::{aligned, print_json};
use crate::product::{Gateways, gateway};
use crate::rig::Rig;
use crate::usage::Usage;

/// How long a process is left alone before it counts as idle.
const REST: Duration = Duration::from_secs(3);

/// How long what a burst took may stay with a process.
const SETTLED: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize)]
struct Moment {
    when: &'static str,
    memory_bytes: BTreeMap<String, u64>,
}

/// Looks at the gateway, the worker and the servers at rest, with a backlog, and after it.
///
/// # Errors
/// What a server says.
pub async fn run(args: &args::Memory) -> Result<()> {
    let rig = Rig::start()?;
    let gateways = Gateways::start(&rig, 1).await?;
    let gateway = &gateways.processes[0];
    let worker = |queue| Process::worker(["--broker", rig.nats_url(), "--queues", queue]);
    let idle = worker("idle")?;
    tokio::time::sleep(REST).await;
    let processes = |worker: &Process| {
        let ours = [("gateway", gateway.pid()), ("worker", worker.pid())];
        Usage::since_now(rig.servers().into_iter().chain(ours))
    };
    let mut moments = vec![Moment {
        when: "at rest",
        memory_bytes: processes(&idle).memory_bytes(),
    }];
    gateway::push_by_rpc(gateway.url(), &args.plan).await?;
    gateways.watched.filled(args.plan.tasks).await?;
    moments.push(Moment {
        when: "with the backlog",
        memory_bytes: processes(&idle).memory_bytes(),
    });
    tokio::time::sleep(SETTLED).await;
    moments.push(Moment {
        when: "10 s later",
        memory_bytes: processes(&idle).memory_bytes(),
    });
    drop(idle);
    let busy = worker("default")?;
    gateways.watched.drained(args.plan.tasks).await?;
    moments.push(Moment {
        when: "worked off",
        memory_bytes: processes(&busy).memory_bytes(),
    });
    tokio::time::sleep(SETTLED).await;
    moments.push(Moment {
        when: "10 s after that",
        memory_bytes: processes(&busy).memory_bytes(),
    });
    let mut rows = vec![
        [
            "when",
            "gateway MB",
            "worker MB",
            "nats-server MB",
            "postgres MB",
        ]
        .map(str::to_owned),
    ];
    for moment in &moments {
        print_json(moment)?;
        let megabytes = |name: &str| {
            let bytes = moment.memory_bytes.get(name).copied().unwrap_or(0);
            format!("{:.1}", bytes as f64 / 1e6)
        };
        let names = ["gateway", "worker", "nats-server", "postgres"];
        let [gateway, worker, nats, postgres] = names.map(megabytes);
        rows.push([moment.when.to_owned(), gateway, worker, nats, postgres]);
    }
    eprintln!("{}", aligned(&rows));
    Ok(())
}
