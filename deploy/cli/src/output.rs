//! Everything that a command prints: tables for people, JSON for machines, errors, exit codes.
//!
//! Results go to standard output, everything else to standard error. A reader that has had enough
//! (`ottla consume … | head`) ends the command without an error.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// What was asked cannot be meant: told apart from a failure by its exit code.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Misuse(pub String);

/// A [`Misuse`] as the error of a command.
pub fn misuse(message: impl Into<String>) -> anyhow::Error {
    Misuse(message.into()).into()
}

/// How results are printed.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// As JSON, one value a line.
    pub json: bool,
}

impl Output {
    /// Prints a value as one line of JSON.
    pub fn value(self, value: &impl Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        io::stdout().lock().write_all(&line)?;
        Ok(())
    }

    /// Prints a line of text.
    pub fn line(self, line: impl Display) -> anyhow::Result<()> {
        writeln!(io::stdout().lock(), "{line}")?;
        Ok(())
    }

    /// Prints rows below a head; as JSON, an object for each row with the head's names as keys.
    pub fn rows<const N: usize>(
        self,
        head: [&str; N],
        rows: impl IntoIterator<Item = [serde_json::Value; N]>,
    ) -> anyhow::Result<()> {
        if self.json {
            for row in rows {
                let names = head.iter().map(|name| name.replace(' ', "_").to_lowercase());
                let object: serde_json::Map<_, _> = names.zip(row).collect();
                self.value(&object)?;
            }
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(head.map(str::to_uppercase));
        for row in rows {
            table.add_row(row.iter().map(cell_text));
        }
        let mut stdout = io::stdout().lock();
        for line in table.lines() {
            writeln!(stdout, "{}", line.trim())?;
        }
        Ok(())
    }

    /// Tells that something was done; as JSON, nothing but the exit code tells it.
    pub fn done(self, message: impl Display) -> anyhow::Result<()> {
        if self.json { Ok(()) } else { self.line(message) }
    }
}

/// A JSON value as a person wants to read it in a table.
fn cell_text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) => {
            let items: Vec<String> = items.iter().map(cell_text).collect();
            if items.is_empty() { "-".to_owned() } else { items.join(",") }
        }
        other => other.to_string(),
    }
}

/// The exit code of a command, after its error was told: 0 done, 1 failed, 2 asked wrongly.
pub fn exit_code(program: &str, result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    if is_closed_pipe(&error) {
        return ExitCode::SUCCESS;
    }
    eprintln!("{program}: {error:#}");
    if error.downcast_ref::<Misuse>().is_some() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// Whether the reader of our output has gone.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// A number of bytes for people: `1.5 GB` (powers of 1000, as disks and networks are sold).
pub fn size_text(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if value < 1000.0 {
            return if unit == "B" {
                format!("{value:.0} B")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} PB")
}

/// A whole number for people: `1,234,567`.
pub fn count_text(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(size_text(999.0), "999 B");
        assert_eq!(size_text(1_234_567.0), "1.2 MB");
        assert_eq!(size_text(2e18), "2000.0 PB");
        let counts = [0, 999, 1000, 1_234_567].map(count_text);
        assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn exit_codes_tell_a_failure_from_a_mistake() {
        let code = |result| format!("{:?}", exit_code("test", result));
        assert_eq!(code(Ok(())), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code(Err(anyhow::anyhow!("x"))), format!("{:?}", ExitCode::FAILURE));
        let mistake = misuse("no such thing").context("read flags");
        assert_eq!(code(Err(mistake)), format!("{:?}", ExitCode::from(2)));
        let closed = io::Error::from(io::ErrorKind::BrokenPipe);
        let closed = anyhow::Error::new(closed).context("write");
        assert_eq!(code(Err(closed)), format!("{:?}", ExitCode::SUCCESS));
    }
}
