//! The folders that logs lie in, each failing for itself.

use std::path::{Path, PathBuf};

use ottla_common::types::Uuid;

/// One of `log.dirs`.
pub struct LogDir {
    path: PathBuf,
}

impl LogDir {
    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// `directory.id` of its `meta.properties`.
    pub fn id(&self) -> Uuid {
        Uuid::ZERO
    }
    /// Why the directory is offline, if it is.
    pub fn offline_reason(&self) -> Option<String> {
        None
    }
    /// Total and usable bytes of the volume.
    pub fn volume_bytes(&self) -> Option<(u64, u64)> {
        None
    }
}
