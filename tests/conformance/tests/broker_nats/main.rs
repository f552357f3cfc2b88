//! The broker suite on NATS, and what only a real server can do to it.

use goflow_conformance::broker::Fixture;
use goflow_core::broker::Connection;
use goflow_nats::{Options, connect};
use goflow_test_servers::Nats;

mod outages;
mod refusals;
mod streams;
mod throughput;

struct Server(Nats);

fn options(nats: &Nats) -> Options {
    Options {
        servers: vec![nats.url().to_owned()],
        ..Options::default()
    }
}

impl Fixture for Server {
    async fn connect(&self) -> Connection {
        connect(options(&self.0)).await.expect("connect")
    }

    async fn connect_bounded(&self, capacity: usize) -> Connection {
        let options = Options {
            max_queue_messages: capacity as u64,
            ..options(&self.0)
        };
        connect(options).await.expect("connect")
    }

    fn outlives_connections(&self) -> bool {
        true
    }
}

async fn start() -> Server {
    Server(Nats::start().expect("a NATS server"))
}

goflow_conformance::broker_suite!(start);
