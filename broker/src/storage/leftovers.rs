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
use super::segment::{DELETED_SUFFIX, segment_file};

const CLEANED_SUFFIX: &str = ".cleaned";
const SWAP_SUFFIX: &str = ".swap";
const ASIDE_SUFFIX: &str = ".tmp";
const SEGMENT_SUFFIXES: [&str; 4] = [".log", ".index", ".timeindex", ".txnindex"];

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
    let mut swaps = BTreeSet::new();
    for name in list()? {
        if [DELETED_SUFFIX, CLEANED_SUFFIX, ASIDE_SUFFIX].iter().any(|end| name.ends_with(end)) {
            remove(&name)?;
        } else if let Some(base_offset) = offset_of(&name, &format!(".log{SWAP_SUFFIX}")) {
            swaps.insert(base_offset);
        }
    }
    for base_offset in swaps {
        finish_swap(file_system, folder, base_offset)?;
    }
    let mut contents = FolderContents::default();
    let names = list()?;
    contents.base_offsets.extend(names.iter().filter_map(|name| offset_of(name, ".log")));
    contents.snapshots.extend(names.iter().filter_map(|name| offset_of(name, SNAPSHOT_SUFFIX)));
    for name in &names {
        let of_index =
            [".index", ".timeindex", ".txnindex"].iter().find_map(|s| offset_of(name, s));
        let is_orphan = of_index.is_some_and(|base| !contents.base_offsets.contains(&base));
        if is_orphan || name.ends_with(SWAP_SUFFIX) {
            remove(name)?;
        }
    }
    Ok(contents)
}

/// Puts a complete `.swap` segment in the place of those whose offsets it covers.
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
        let mut end_offset = base_offset;
        let invalid = |error: super::batch_scan::ScanError| error.into_storage_error(&file);
        while let Some(batch) = scan.next_batch().map_err(invalid)? {
            end_offset = batch.header.next_offset();
        }
        end_offset
    };
    info!(file = %swap.display(), end_offset, "putting a compacted segment in its place");
    let entries = file_system.list(folder).map_err(StorageError::io("list", folder))?;
    for entry in entries {
        let replaced = SEGMENT_SUFFIXES.iter().find_map(|suffix| offset_of(&entry.name, suffix));
        if replaced.is_some_and(|base| base >= base_offset && base < end_offset) {
            let path = folder.join(&entry.name);
            file_system.remove(&path).map_err(StorageError::io("remove", &path))?;
        }
    }
    for suffix in SEGMENT_SUFFIXES {
        let from = segment_file(folder, base_offset, &format!("{suffix}{SWAP_SUFFIX}"));
        if file_system.exists(&from) {
            let to = segment_file(folder, base_offset, suffix);
            file_system.rename(&from, &to).map_err(StorageError::io("rename", &from))?;
        }
    }
    file_system.sync_folder(folder).map_err(StorageError::io("flush", folder))
}
