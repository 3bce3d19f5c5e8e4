//! `ottla log dump`: what the files of a partition hold, record by record if wanted.
//!
//! The text is the one that Kafka's own tool prints, since that is what people know how to read
//! (and how to `grep`). With `--json` there is one object for each batch, record or entry.

mod batches;
mod indexes;
mod snapshots;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::output::{Output, misuse};

/// Files of a broker's log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Print what log segments, indexes, snapshots and checkpoints hold.
    Dump(DumpArguments),
}

/// Flags of `ottla log dump`.
#[derive(Args, Debug)]
pub struct DumpArguments {
    /// Files: .log, .index, .timeindex, .txnindex, .snapshot, or a checkpoint.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Print every record too, with its key and value.
    #[arg(short, long)]
    records: bool,
    /// Print records without their keys and values.
    #[arg(long, requires = "records")]
    no_contents: bool,
    /// Stop after this many bytes of each log segment.
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    max_bytes: u64,
}

/// What to print of a file.
#[derive(Clone, Copy, Debug)]
pub struct DumpOptions {
    /// Print every record, not just the batches.
    pub records: bool,
    /// Print keys and values.
    pub contents: bool,
    /// Print what stands before the key: offset, times, sizes.
    pub record_metadata: bool,
    /// Stop after this many bytes of a segment.
    pub max_bytes: u64,
}

/// Runs `ottla log`.
pub fn run(output: Output, command: &LogCommand) -> anyhow::Result<()> {
    let LogCommand::Dump(arguments) = command;
    let options = DumpOptions {
        records: arguments.records,
        contents: !arguments.no_contents,
        record_metadata: true,
        max_bytes: arguments.max_bytes,
    };
    dump_files(output, &arguments.files, options)
}

/// Prints files one after the other.
///
/// # Errors
/// If one cannot be read, or holds what it must not; what can be read of it is printed before.
pub fn dump_files(output: Output, files: &[PathBuf], options: DumpOptions) -> anyhow::Result<()> {
    let mut printer = Printer { output, to: BufWriter::new(std::io::stdout().lock()) };
    let mut damaged = Vec::new();
    for file in files {
        let outcome = dump_file(&mut printer, file, options);
        if let Some(damage) = outcome.with_context(|| format!("dump {}", file.display()))? {
            damaged.push(format!("{}: {damage}", file.display()));
        }
    }
    printer.to.flush()?;
    if damaged.is_empty() { Ok(()) } else { anyhow::bail!("{}", damaged.join("\n")) }
}

/// Prints one file. Returns what is wrong with it, if it can be read but holds what it must not.
fn dump_file(
    printer: &mut Printer,
    file: &Path,
    options: DumpOptions,
) -> anyhow::Result<Option<String>> {
    let extension = file.extension().and_then(|text| text.to_str()).unwrap_or_default();
    printer.text(format_args!("Dumping {}", file.display()))?;
    match extension {
        "log" => batches::dump(printer, file, options),
        "index" => indexes::dump_offsets(printer, file),
        "timeindex" => indexes::dump_times(printer, file),
        "txnindex" => indexes::dump_aborted(printer, file),
        "snapshot" => snapshots::dump(printer, file),
        _ if is_checkpoint(file) => dump_text(printer, file),
        _ => Err(misuse(
            "not a file of a log: expected .log, .index, .timeindex, .txnindex, .snapshot, \
             a checkpoint, partition.metadata or meta.properties",
        )),
    }
}

/// Whether a file is one of the small text files beside the logs.
fn is_checkpoint(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.ends_with("checkpoint") || name == "partition.metadata" || name == "meta.properties"
}

fn dump_text(printer: &mut Printer, file: &Path) -> anyhow::Result<Option<String>> {
    let text = std::fs::read_to_string(file)?;
    if printer.output.json {
        printer.entry(&serde_json::json!({ "file": file, "text": text }))?;
    } else {
        printer.to.write_all(text.as_bytes())?;
    }
    Ok(None)
}

/// The number in a file's name: its first offset, or a snapshot's next.
fn offset_in_name(file: &Path) -> anyhow::Result<i64> {
    let stem = file.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let digits = stem.split(['-', '.']).next().unwrap_or_default();
    digits.parse().map_err(|_| misuse("the file's name must begin with its first offset"))
}

/// Where a dump is printed to.
struct Printer {
    output: Output,
    to: BufWriter<std::io::StdoutLock<'static>>,
}

impl Printer {
    /// A line for people; nothing as JSON.
    fn text(&mut self, line: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
        if !self.output.json {
            self.to.write_fmt(line)?;
            self.to.write_all(b"\n")?;
        }
        Ok(())
    }

    /// An object of its own; nothing for people.
    fn entry(&mut self, value: &impl Serialize) -> anyhow::Result<()> {
        if self.output.json {
            serde_json::to_writer(&mut self.to, value)?;
            self.to.write_all(b"\n")?;
        }
        Ok(())
    }
}
