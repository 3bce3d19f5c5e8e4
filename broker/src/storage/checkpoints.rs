//! Small text files that are replaced as a whole.
//!
//! `recovery-point-offset-checkpoint`, `replication-offset-checkpoint`,
//! `log-start-offset-checkpoint` and `cleaner-offset-checkpoint` lie in a log directory: a line
//! with the version (0), one with the number of entries, then `topic partition offset` a line.
//! `leader-epoch-checkpoint` lies in a partition's folder and has `epoch start_offset` lines.
//! `partition.metadata` lies there too: `version: 0` and `topic_id: <id>`.
//!
//! What cannot be read is reported as [`Content::Damaged`]; each caller says what it does without.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use ottla_common::types::{TopicId, TopicPartition};

use super::error::StorageError;
use super::files::FileSystem;
use super::leader_epochs::{EpochEntry, LeaderEpochs};

/// The file of recovery points.
pub const RECOVERY_POINT_FILE: &str = "recovery-point-offset-checkpoint";
/// The file of high watermarks.
pub const HIGH_WATERMARK_FILE: &str = "replication-offset-checkpoint";
/// The file of log start offsets.
pub const LOG_START_FILE: &str = "log-start-offset-checkpoint";
/// The file of the offsets up to which logs were compacted.
pub const CLEANER_FILE: &str = "cleaner-offset-checkpoint";
/// The file of leader epochs.
pub const LEADER_EPOCH_FILE: &str = "leader-epoch-checkpoint";
/// The file that names the topic's id.
pub const PARTITION_METADATA_FILE: &str = "partition.metadata";

/// What a small file held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<T> {
    /// There is no such file.
    Missing,
    /// It was read.
    Found(T),
    /// It is not such a file; with what is wrong.
    Damaged(String),
}

/// Offsets by partition.
pub type Offsets = BTreeMap<TopicPartition, i64>;

/// Reads the lines after version and count; each has `FIELDS` words.
fn parse_lines<const FIELDS: usize, T>(
    content: &[u8],
    parse: impl Fn([&str; FIELDS]) -> Option<T>,
) -> Result<Vec<T>, String> {
    let text = std::str::from_utf8(content).map_err(|_| "it is not text".to_owned())?;
    let mut lines = text.lines();
    match lines.next() {
        Some("0") => {}
        version => return Err(format!("its version is {version:?}, not 0")),
    }
    let count = lines.next().and_then(|line| line.trim().parse::<usize>().ok());
    let count = count.ok_or("its second line is not a count")?;
    let mut entries = Vec::new();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let mut words = [""; FIELDS];
        let mut found = 0;
        for word in line.split_whitespace() {
            if let Some(place) = words.get_mut(found) {
                *place = word;
            }
            found += 1;
        }
        let entry = if found == FIELDS { parse(words) } else { None };
        entries.push(entry.ok_or_else(|| format!("line {line:?} makes no sense"))?);
    }
    if entries.len() != count {
        return Err(format!("it has {} entries and says {count}", entries.len()));
    }
    Ok(entries)
}

fn read<T>(
    file_system: &FileSystem,
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Result<Content<T>, StorageError> {
    let Some(content) = file_system.read(path).map_err(StorageError::io("read", path))? else {
        return Ok(Content::Missing);
    };
    Ok(match parse(&content) {
        Ok(found) => Content::Found(found),
        Err(what) => Content::Damaged(what),
    })
}

fn write(file_system: &FileSystem, path: &Path, text: &str) -> Result<(), StorageError> {
    file_system.write_atomically(path, text.as_bytes()).map_err(StorageError::io("write", path))
}

/// Reads a file of offsets.
///
/// # Errors
/// If the disk fails.
pub fn read_offsets(
    file_system: &FileSystem,
    path: &Path,
) -> Result<Content<Offsets>, StorageError> {
    let parse = |[topic, partition, offset]: [&str; 3]| {
        let topic_partition = TopicPartition::new(topic, partition.parse().ok()?);
        Some((topic_partition, offset.parse().ok()?))
    };
    read(file_system, path, |content| Ok(parse_lines(content, parse)?.into_iter().collect()))
}

/// Replaces a file of offsets.
///
/// # Errors
/// If the disk fails.
pub fn write_offsets(
    file_system: &FileSystem,
    path: &Path,
    offsets: &Offsets,
) -> Result<(), StorageError> {
    let mut text = format!("0\n{}\n", offsets.len());
    for (topic_partition, offset) in offsets {
        let TopicPartition { topic, partition } = topic_partition;
        let _ = writeln!(text, "{topic} {partition} {offset}");
    }
    write(file_system, path, &text)
}

/// Reads a partition's leader epochs.
///
/// # Errors
/// If the disk fails.
pub fn read_epochs(
    file_system: &FileSystem,
    folder: &Path,
) -> Result<Content<LeaderEpochs>, StorageError> {
    let parse = |[leader_epoch, start_offset]: [&str; 2]| {
        let leader_epoch = leader_epoch.parse().ok()?;
        Some(EpochEntry { leader_epoch, start_offset: start_offset.parse().ok()? })
    };
    read(file_system, &folder.join(LEADER_EPOCH_FILE), |content| {
        let entries = parse_lines(content, parse)?;
        let epochs = LeaderEpochs::from_entries(entries.iter().copied());
        if epochs.entries() == entries {
            Ok(epochs)
        } else {
            Err("its epochs do not grow".to_owned())
        }
    })
}

/// Replaces a partition's leader epochs.
///
/// # Errors
/// If the disk fails.
pub fn write_epochs(
    file_system: &FileSystem,
    folder: &Path,
    epochs: &LeaderEpochs,
) -> Result<(), StorageError> {
    let mut text = format!("0\n{}\n", epochs.entries().len());
    for entry in epochs.entries() {
        let _ = writeln!(text, "{} {}", entry.leader_epoch, entry.start_offset);
    }
    write(file_system, &folder.join(LEADER_EPOCH_FILE), &text)
}

/// Reads the id of the topic that a folder belongs to.
///
/// # Errors
/// If the disk fails.
pub fn read_topic_id(
    file_system: &FileSystem,
    folder: &Path,
) -> Result<Content<TopicId>, StorageError> {
    read(file_system, &folder.join(PARTITION_METADATA_FILE), |content| {
        let text = std::str::from_utf8(content).map_err(|_| "it is not text".to_owned())?;
        let value = |key: &str| {
            text.lines()
                .find_map(|line| Some(line.split_once(':').filter(|l| l.0 == key)?.1.trim()))
        };
        if value("version") != Some("0") {
            return Err("its version is not 0".to_owned());
        }
        let id = value("topic_id").ok_or("it names no topic id")?;
        let id: TopicId = id.parse().map_err(|_| format!("{id:?} is no topic id"))?;
        if id.is_zero() { Err("its topic id is zero".to_owned()) } else { Ok(id) }
    })
}

/// Writes the id of the topic that a folder belongs to. It is on disk only once it was synced,
/// as the first flush of the log does: many partitions are made at once.
///
/// # Errors
/// If the disk fails.
pub fn write_topic_id(
    file_system: &FileSystem,
    folder: &Path,
    topic_id: TopicId,
) -> Result<(), StorageError> {
    let text = format!("version: 0\ntopic_id: {topic_id}\n");
    let path = folder.join(PARTITION_METADATA_FILE);
    let aside = folder.join(format!("{PARTITION_METADATA_FILE}.tmp"));
    let write = || {
        let file = file_system.open(&aside)?;
        file.set_length(0)?;
        file.write_all_at(text.as_bytes(), 0)?;
        file_system.rename(&aside, &path)
    };
    write().map_err(StorageError::io("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_survive_their_file_and_damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(RECOVERY_POINT_FILE);
        let files = FileSystem::real();
        assert_eq!(read_offsets(&files, &path).unwrap(), Content::Missing);
        let offsets = Offsets::from([
            (TopicPartition::new("b", 0), 7),
            (TopicPartition::new("a.b-c", 12), i64::MAX),
        ]);
        write_offsets(&files, &path, &offsets).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "0\n2\na.b-c 12 9223372036854775807\nb 0 7\n");
        assert_eq!(read_offsets(&files, &path).unwrap(), Content::Found(offsets));
        for damaged in ["", "1\n0\n", "0\nx\n", "0\n2\na 0 1\n", "0\n1\na 0\n", "0\n1\na 0 1 2\n"] {
            std::fs::write(&path, damaged).unwrap();
            assert!(
                matches!(read_offsets(&files, &path).unwrap(), Content::Damaged(_)),
                "{damaged}"
            );
        }
    }

    #[test]
    fn a_partition_knows_its_topic() {
        let folder = tempfile::tempdir().unwrap();
        let files = FileSystem::real();
        let id = TopicId::random().unwrap();
        write_topic_id(&files, folder.path(), id).unwrap();
        assert_eq!(read_topic_id(&files, folder.path()).unwrap(), Content::Found(id));
        std::fs::write(folder.path().join(PARTITION_METADATA_FILE), "version: 0\n").unwrap();
        assert!(matches!(read_topic_id(&files, folder.path()).unwrap(), Content::Damaged(_)));
    }
}
