//! Histories: what clients asked of an ensemble and what they were told, and whether that can have
//! been.
//!
//! A history is recorded by whoever runs clients (the simulator, or processes under faults) and
//! judged here. In a file it is one JSON object per line, see [`Entry`]. Times are nanoseconds of
//! one clock. An outcome is `ok`, `refused` (it was certainly not done) or `unknown` (the answer
//! never came: it may have been done at any time after the question, or never).
//!
//! [`registers`] asks whether reads and writes of nodes are linearizable, by the search of
//! [`linearizability`]; [`sequences`] and [`ephemerals`] look at sequential nodes and at nodes that
//! go with their session. [`records`] and [`readings`] judge what a topic holds and what readers
//! saw.

pub mod ephemerals;
pub mod linearizability;
pub mod readings;
pub mod records;
pub mod registers;
pub mod sequences;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Who asked. One process asks one thing after the other; after an answer that never came it is
    /// another.
    #[serde(default)]
    pub process: u64,
    /// The node, or the parent of sequential nodes.
    pub key: String,
    /// What was asked or seen.
    #[serde(flatten)]
    pub what: What,
    /// When it was asked.
    #[serde(default)]
    pub start_ns: u64,
    /// When the answer came, or it was clear that none would.
    #[serde(default)]
    pub end_ns: u64,
    /// What came of it.
    #[serde(default)]
    pub outcome: Outcome,
}

/// What an entry tells of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum What {
    /// The node was read, as it is at least at the moment of the question (a read after `sync`).
    Get {
        /// The data that was read.
        #[serde(default)]
        value: String,
        /// Its version.
        #[serde(default)]
        version: i64,
    },
    /// The node was set, if it had the version that was expected.
    Set {
        /// The new data; no two writes of a node write the same.
        value: String,
        /// The expected version; -1 if any will do.
        expected_version: i64,
        /// The new version, if the answer came.
        #[serde(default)]
        version: i64,
    },
    /// A sequential node was made below the key.
    CreateSequential {
        /// The number that it got, if the answer came.
        #[serde(default)]
        number: u64,
    },
    /// The numbers of all sequential nodes below the key, at the end.
    Numbers {
        /// The numbers.
        numbers: Vec<u64>,
    },
    /// The key is a node that goes with a session.
    CreateEphemeral {
        /// The session.
        session: i64,
    },
    /// A session (the key) was closed, or fell silent and its time is over; or it lives (to the
    /// end).
    Session {
        /// The session.
        session: i64,
        /// Whether it lives.
        lives: bool,
    },
    /// The ephemeral nodes that a member (the key) shows at the end.
    Ephemerals {
        /// Their paths.
        paths: Vec<String>,
    },
}

/// What came of a question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done, or read.
    #[default]
    Ok,
    /// It was certainly not done, since the node was not as expected.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// Reads a history from JSON lines.
///
/// # Errors
/// If a line is not an entry.
pub fn from_json_lines(text: &str) -> anyhow::Result<Vec<Entry>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let entries = lines.map(|(number, line)| {
        serde_json::from_str(line).with_context(|| format!("line {} of the history", number + 1))
    });
    entries.collect()
}

/// What is wrong with a history; nothing if all of it can have been.
pub fn problems(history: &[Entry]) -> Vec<String> {
    let mut problems = registers::problems(history);
    problems.extend(sequences::problems(history));
    problems.extend(ephemerals::problems(history));
    problems
}

/// The entries of each key for which `wanted` finds something in what they tell of.
fn by_key<'h, T>(
    history: &'h [Entry],
    wanted: impl Fn(&'h Entry) -> Option<T>,
) -> BTreeMap<&'h str, Vec<(&'h Entry, T)>> {
    let mut keys: BTreeMap<&str, Vec<(&Entry, T)>> = BTreeMap::new();
    for entry in history {
        if let Some(found) = wanted(entry) {
            keys.entry(&entry.key).or_default().push((entry, found));
        }
    }
    keys
}
