//! The keys of all programs.

/// Every key of `goflow.toml` that some goflow program has.
pub const KEYS: &[&str] = &[
    "broker",
    "grace",
    "handlers-path",
    "insecure-no-auth",
    "keep-finished",
    "keep-for",
    "lane-order",
    "lease",
    "listen",
    "log-format",
    "max-connections",
    "max-undispatched",
    "migrate",
    "nats-monitor",
    "num-workers",
    "output",
    "queues",
    "record",
    "server",
    "store",
];
