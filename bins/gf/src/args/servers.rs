//! The flags of commands that ask servers directly.

use gf_process::{BrokerUrl, StoreUrl};

/// Flags of `gf migrate`.
#[derive(Debug, clap::Args)]
pub struct Migrate {
    /// The store: postgres://USER@HOST:PORT/DATABASE
    #[arg(long, env = "GF_STORE", value_name = "URL", default_value = "memory:")]
    pub store: StoreUrl,
}

/// Flags of `gf doctor`.
#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// A broker to check too: nats://HOST:PORT
    #[arg(long, env = "GF_BROKER", value_name = "URL")]
    pub broker: Option<BrokerUrl>,

    /// The monitoring address of that broker, such as http://127.0.0.1:8222, which tells how it writes to disk
    #[arg(long, env = "GF_NATS_MONITOR", value_name = "URL")]
    pub nats_monitor: Option<String>,

    /// A store to check too: postgres://USER@HOST:PORT/DATABASE
    #[arg(long, env = "GF_STORE", value_name = "URL")]
    pub store: Option<StoreUrl>,
}
