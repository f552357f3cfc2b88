//! Entry point.

use std::process::ExitCode;

fn main() -> ExitCode {
    gf_worker::guard::main_if_asked();
    let args = gf_process::parse();
    gf_process::exit("gf-worker", start(args))
}

fn start(args: gf_worker::Args) -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(gf_worker::run(args))
}
