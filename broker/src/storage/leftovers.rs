//! What is in a partition's folder, and what an earlier run did not finish there.
//!
//! | suffix | what it is | what becomes of it |
//! |---|---|---|
//! | `.deleted` | files of a segment that was being deleted | removed |
//! | `.cleaned` | a compaction's or split's output, not complete | removed |
//! | `.swap` | complete output, about to replace segments | replaces them |
//! | `.tmp` | a small file being written aside | removed |

use std::collections::BTreeSet;
use std::path::Path;

use tracing::info;

use super::batch_scan::{BatchScan, SEQUENTIAL_PIECE_BYTES};
use super::error::StorageError;
use super::files::FileSystem;
use super::producer_snapshot::SNAPSHOT_SUFFIX;
use super::segment::{DELETED_SUFFIX, SEGMENT_SUFFIXES, segment_file};

/// What the output of a compaction is called, after its name as a segment, until it is complete.
pub const CLEANED_SUFFIX: &str = ".cleaned";
/// What it is called from then on until it has replaced what it was made of.
pub const SWAP_SUFFIX: &str = ".swap";
const ASIDE_SUFFIX: &str = ".tmp";
const INDEX_SUFFIXES: [&str; 3] = [".index", ".timeindex", ".txnindex"];

/// What a partition's folder has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FolderContents {
    /// Base offsets of the segments.
    pub base_offsets: BTreeSet<i64>,
    /// Offsets of the producer snapshots.
    pub snapshots: BTreeSet<i64>,
}

fn offset_of(name: &str, suffix: &str) -> Option<i64> {
    let digits = name.strip_suffix(suffix)?;
    let is_offset = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_offset { digits.parse().ok() } else { None }
}

/// Finishes or undoes what was under way, and lists the rest. Indexes without a segment are
/// removed.
///
/// # Errors
/// If the disk fails.
pub fn tidy(file_system: &FileSystem, folder: &Path) -> Result<FolderContents, StorageError> {
    let list = || -> Result<Vec<String>, StorageError> {
        let entries = file_system.list(folder).map_err(StorageError::io("list", folder))?;
        Ok(entries.into_iter().filter(|entry| !entry.is_folder).map(|entry| entry.name).collect())
    };
    let remove = |name: &str| {
        let path = folder.join(name);
        info!(file = %path.display(), "removing what an earlier run left");
        file_system.remove(&path).map_err(StorageError::io("remove", &path))
    };
    let names = list()?;
    let swaps = complete_swaps(&names);
    for name in &names {
        let is_of = |kind: &str| {
            let base = SEGMENT_SUFFIXES.iter().find_map(|s| offset_of(name, &format!("{s}{kind}")));
            base.is_some_and(|base| swaps.contains(&base))
        };
        let is_unfinished = name.ends_with(CLEANED_SUFFIX) && !is_of(CLEANED_SUFFIX);
        let is_taken_back = name.ends_with(&format!(".log{SWAP_SUFFIX}")) && !is_of(SWAP_SUFFIX);
        let is_over = name.ends_with(DELETED_SUFFIX) || name.ends_with(ASIDE_SUFFIX);
        if is_over || is_unfinished || is_taken_back {
            remove(name)?;
        }
    }
    for base_offset in swaps {
        finish_swap(file_system, folder, base_offset)?;
    }
    finish_renames(file_system, folder, &list()?)?;
    let mut contents = FolderContents::default();
    let names = list()?;
    contents.base_offsets.extend(names.iter().filter_map(|name| offset_of(name, ".log")));
    contents.snapshots.extend(names.iter().filter_map(|name| offset_of(name, SNAPSHOT_SUFFIX)));
    for name in &names {
        let of_index = INDEX_SUFFIXES.iter().find_map(|suffix| offset_of(name, suffix));
        let is_orphan = of_index.is_some_and(|base| !contents.base_offsets.contains(&base));
        if is_orphan || name.ends_with(SWAP_SUFFIX) {
            remove(name)?;
        }
    }
    Ok(contents)
}

/// The base offsets of outputs that are complete. Kafka, which also splits segments, renames the
/// parts from the last to the first: while one is not renamed, those behind it do not count.
fn complete_swaps(names: &[String]) -> BTreeSet<i64> {
    let bases = |kind: &str| {
        let suffix = format!(".log{kind}");
        names.iter().filter_map(|name| offset_of(name, &suffix)).collect::<BTreeSet<i64>>()
    };
    let first_incomplete = bases(CLEANED_SUFFIX).first().copied().unwrap_or(i64::MAX);
    bases(SWAP_SUFFIX).into_iter().filter(|base| *base < first_incomplete).collect()
}

/// Puts a complete `.swap` segment in the place of those whose offsets it covers. Its batches are
/// renamed first and last of all: while `.log.swap` is there all of this is done again after a
/// crash, and from then on only the indexes' names are to be mended.
fn finish_swap(
    file_system: &FileSystem,
    folder: &Path,
    base_offset: i64,
) -> Result<(), StorageError> {
    let swap = segment_file(folder, base_offset, &format!(".log{SWAP_SUFFIX}"));
    let end_offset = {
        let file = file_system.open(&swap).map_err(StorageError::io("open", &swap))?;
        let length = file.length().map_err(StorageError::io("read", &swap))?;
        let mut scan = BatchScan::new(&file, 0, length, SEQUENTIAL_PIECE_BYTES);
        let mut end_offset = base_offset.saturating_add(1);
        let invalid = |error: super::batch_scan::ScanError| error.into_storage_error(&file);
        while let Some(batch) = scan.next_batch().map_err(invalid)? {
            end_offset = batch.header.next_offset();
        }
        end_offset
    };
    info!(file = %swap.display(), end_offset, "putting a compacted segment in its place");
    let rename = |from: &Path, to: &Path| {
        file_system.rename(from, to).map_err(StorageError::io("rename", from))
    };
    let sync = || file_system.sync_folder(folder).map_err(StorageError::io("flush", folder));
    let named =
        |suffix: &str, more: &str| segment_file(folder, base_offset, &format!("{suffix}{more}"));
    for suffix in INDEX_SUFFIXES {
        if file_system.exists(&named(suffix, CLEANED_SUFFIX)) {
            rename(&named(suffix, CLEANED_SUFFIX), &named(suffix, SWAP_SUFFIX))?;
        }
    }
    let entries = file_system.list(folder).map_err(StorageError::io("list", folder))?;
    for entry in entries {
        let replaced = SEGMENT_SUFFIXES.iter().find_map(|suffix| offset_of(&entry.name, suffix));
        if replaced.is_some_and(|base| base >= base_offset && base < end_offset) {
            let path = folder.join(&entry.name);
            file_system.remove(&path).map_err(StorageError::io("remove", &path))?;
        }
    }
    sync()?;
    rename(&swap, &named(".log", ""))?;
    sync()
}

/// Gives the indexes of a segment that is in its place their names.
fn finish_renames(
    file_system: &FileSystem,
    folder: &Path,
    names: &[String],
) -> Result<(), StorageError> {
    let mut any = false;
    for suffix in INDEX_SUFFIXES {
        let swapped = format!("{suffix}{SWAP_SUFFIX}");
        for base_offset in names.iter().filter_map(|name| offset_of(name, &swapped)) {
            if file_system.exists(&segment_file(folder, base_offset, ".log")) {
                let from = segment_file(folder, base_offset, &swapped);
                let to = segment_file(folder, base_offset, suffix);
                file_system.rename(&from, &to).map_err(StorageError::io("rename", &from))?;
                any = true;
            }
        }
    }
    if !any {
        return Ok(());
    }
    file_system.sync_folder(folder).map_err(StorageError::io("flush", folder))
}
