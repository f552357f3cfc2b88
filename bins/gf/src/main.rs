//! `gf`: the command line of goflow.

use std::process::ExitCode;

fn main() -> ExitCode {
    gf_worker::guard::main_if_asked();
    let cli: gf::Cli = gf_process::parse();
    let result = tokio::runtime::Runtime::new()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(gf::run(cli)));
    ExitCode::from(gf::exit_code(result))
}
