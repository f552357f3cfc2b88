//! `goflow.toml`.

use clap::Parser;
use gf_process::settings::from_text;

use super::{Target, text};
use crate::check;

pub(super) const SETTINGS: Target = Target {
    name: "settings",
    about: "goflow.toml, as each of the programs reads it",
    words: &[
        "broker = ",
        "grace = ",
        "handlers-path = ",
        "insecure-no-auth = ",
        "keep-finished = ",
        "keep-for = ",
        "lane-order = ",
        "lease = ",
        "listen = ",
        "log-format = ",
        "max-connections = ",
        "max-undispatched = ",
        "migrate = ",
        "nats-monitor = ",
        "num-workers = ",
        "output = ",
        "queues = ",
        "record = ",
        "server = ",
        "store = ",
        "true",
        "\"\"\"\n",
        "'''",
        "[a]",
        "[[a]]",
        "1979-05-27T07:32:00Z",
        "0xff",
        "inf",
        "nan",
        "1e400",
        "18446744073709551616",
        "\\u0000",
        "\\n",
    ],
    run,
};

#[derive(Debug, Parser)]
#[command(name = "gf-gateway")]
struct Gateway {
    #[command(flatten)]
    _options: gf_gateway::Options,
}

fn run(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let programs = [
        from_text::<gf_worker::Args>(&["gf-worker"], text).map(drop),
        from_text::<Gateway>(&["gf-gateway"], text).map(drop),
        from_text::<gf::Cli>(&["gf", "queues"], text).map(drop),
    ];
    for line in programs.into_iter().filter_map(Result::err) {
        // What clap says of a flag that is missing has lines of its own.
        if line.starts_with("goflow.toml: ") {
            check::reason(&line);
        } else {
            assert!(line.contains("--broker"), "{line}");
        }
    }
}
