//! The `ottla` command: a whole cluster in one process, and the operator's tools.
//!
//! Called under the name of one of Kafka's tools, it takes that tool's flags and prints what that
//! tool prints.
//!
//! Modules from the bottom up: `output`, `context`, `dev`, `commands`, `kafka_tools`.

mod commands;
mod context;
mod output;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = commands::Arguments::parse();
    let context = context::Context::new(&arguments.global);
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(commands::run(&context, arguments.command)));
    output::exit_code("ottla", result)
}
