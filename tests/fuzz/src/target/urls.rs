//! The URLs of brokers and stores, whose secrets nobody may see.

use gf_process::{BrokerUrl, StoreUrl};

use super::{Target, text};

pub(super) const URLS: Target = Target {
    name: "urls",
    about: "the URLs of brokers and stores (text)",
    words: &[
        "memory:",
        "nats://",
        "tls://",
        "postgres://",
        "postgresql://",
        "?replicas=",
        "?password=",
        "@",
        ":",
        ",",
        "127.0.0.1:4222",
        "://",
        "/goflow",
        "%40",
    ],
    run,
};

/// A password that no input has by chance.
const SECRET: &str = "qX7-secret-9Zk";

fn run(input: &[u8]) {
    let Some(text) = text(input) else { return };
    shown(text);
    if text.contains(SECRET) {
        return;
    }
    // As the password before a host, and as a parameter behind one.
    let (before, behind) = text.split_at(text.floor_char_boundary(text.len() / 2));
    for scheme in ["nats", "postgres", "redis"] {
        shown(&format!("{scheme}://{before}{SECRET}{behind}@host:1/x"));
        shown(&format!("{scheme}://me:pw@host:1/x?{before}{SECRET}"));
    }
}

fn shown(url: &str) {
    let Ok(broker) = url.parse::<BrokerUrl>();
    let Ok(store) = url.parse::<StoreUrl>();
    broker.is_known();
    store.is_known();
    for text in [
        broker.to_string(),
        format!("{broker:?}"),
        store.to_string(),
        format!("{store:?}"),
    ] {
        assert!(!text.contains(SECRET), "{url} is shown as {text}");
    }
}
