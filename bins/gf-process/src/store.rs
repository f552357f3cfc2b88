//! What a process with a store can be told about it.

use std::time::Duration;

use crate::StoreUrl;

/// The flags of a store. What it keeps of finished tasks beyond them is a matter of each kind.
#[derive(Debug, Clone, clap::Args)]
pub struct StoreOptions {
    /// The store: memory: or postgres://USER@HOST:PORT/DATABASE
    #[arg(long = "store", env = "GF_STORE", id = "store", value_name = "URL")]
    #[arg(default_value = "memory:")]
    pub url: StoreUrl,

    /// Unfinished tasks that are accepted at most; with several gateways on one Postgres, roughly
    #[arg(
        long,
        env = "GF_MAX_UNDISPATCHED",
        value_name = "N",
        default_value_t = 1_000_000
    )]
    pub max_undispatched: usize,

    /// Finished tasks that are kept at most (store memory: only)
    #[arg(
        long,
        env = "GF_KEEP_FINISHED",
        value_name = "N",
        default_value_t = 100_000
    )]
    pub keep_finished: usize,

    /// How long finished tasks are kept (store memory: only)
    #[arg(long, env = "GF_KEEP_FOR", value_name = "DURATION", value_parser = crate::duration)]
    #[arg(default_value = "1h")]
    pub keep_for: Duration,
}

impl StoreOptions {
    /// The defaults for the store at `url`.
    pub fn new(url: StoreUrl) -> Self {
        Self {
            url,
            max_undispatched: 1_000_000,
            keep_finished: 100_000,
            keep_for: Duration::from_secs(60 * 60),
        }
    }
}

impl Default for StoreOptions {
    /// What the command line gives when it says nothing; the environment is not looked at.
    fn default() -> Self {
        Self::new(StoreUrl::memory())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Args {
        #[command(flatten)]
        store: StoreOptions,
    }

    #[test]
    fn the_defaults_are_the_same_everywhere() {
        let parsed = Args::try_parse_from(["test"]).unwrap().store;
        assert_eq!(
            format!("{parsed:?}"),
            format!("{:?}", StoreOptions::default())
        );
        let args = ["test", "--keep-finished", "7", "--keep-for", "2m"];
        let parsed = Args::try_parse_from(args).unwrap().store;
        let kept = (parsed.keep_finished, parsed.keep_for);
        assert_eq!(kept, (7, Duration::from_secs(120)));
    }
}
