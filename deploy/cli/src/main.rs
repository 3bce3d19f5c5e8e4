//! The `ottla` command: a whole cluster in one process, and the operator's tools.
//!
//! Called under the name of one of Kafka's tools, it takes that tool's flags and prints what that
//! tool prints.
//!
//! Modules from the bottom up: `output`, `context`, `commands`, `kafka_tools`.

mod commands;
mod context;
mod kafka_tools;
mod output;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // `ottla dev` runs servers, and `ottla bench` thousands of clients.
    ottla_common::open_files::allow_as_many_as_possible();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let program = arguments.first().map(Path::new).unwrap_or(Path::new("ottla"));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::exit_code("ottla", Err(error.into())),
    };
    if let Some(tool) = kafka_tools::tool_name(program) {
        return runtime.block_on(kafka_tools::run(tool, arguments));
    }
    let arguments = commands::Arguments::parse_from(arguments);
    let context = context::Context::new(&arguments.global);
    output::exit_code("ottla", runtime.block_on(commands::run(&context, arguments.command)))
}
