//! `kafka-dump-log`.

use std::path::PathBuf;

use clap::Parser;

use crate::commands::log::{DumpOptions, dump_files};
use crate::output::Output;

/// This tool helps to parse a log file and dump its contents to the console.
#[derive(Debug, Parser)]
#[command(name = "kafka-dump-log", version)]
pub struct DumpLog {
    /// The comma separated list of data and index log files to be dumped.
    #[arg(long, required = true, value_delimiter = ',')]
    files: Vec<PathBuf>,
    /// Print the records of each batch too.
    #[arg(long)]
    deep_iteration: bool,
    /// Print the records with their keys and values.
    #[arg(long)]
    print_data_log: bool,
    /// Leave out what stands before a record's key.
    #[arg(long)]
    skip_record_metadata: bool,
    /// Stop after this many bytes of each log.
    #[arg(long, default_value_t = i32::MAX as u64)]
    max_bytes: u64,
    /// Taken for compatibility: messages of any size are read.
    #[arg(long)]
    max_message_size: Option<u64>,
    /// Taken for compatibility: indexes are checked when they are printed.
    #[arg(long)]
    index_sanity_check: bool,
    /// Taken for compatibility: indexes are checked when they are printed.
    #[arg(long)]
    verify_index_only: bool,
    /// Taken for compatibility: keys are printed as text.
    #[arg(long)]
    key_decoder_class: Option<String>,
    /// Taken for compatibility: values are printed as text.
    #[arg(long)]
    value_decoder_class: Option<String>,
}

/// Runs the tool.
pub fn run(arguments: &DumpLog) -> anyhow::Result<()> {
    let options = DumpOptions {
        records: arguments.deep_iteration || arguments.print_data_log,
        contents: arguments.print_data_log,
        record_metadata: !arguments.skip_record_metadata,
        max_bytes: arguments.max_bytes,
    };
    dump_files(Output { json: false }, &arguments.files, options)
}
