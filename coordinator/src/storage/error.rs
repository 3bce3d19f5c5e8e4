//! Why the files of a member cannot be used, in words that tell its owner what to do.

use std::io;
use std::path::{Path, PathBuf};

/// What to do when a member's own files cannot be trusted.
const ADVICE: &str = "Nothing was changed. Do not delete single files. If the ensemble has other \
    members, empty this member's folder and start it, so that it fetches the state from them; if \
    not, restore the folder from a backup";

/// A failure of the member's storage.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The system refused.
    #[error("{action} {path}: {error}")]
    Io {
        /// Verb: what was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
    /// A file does not hold what was written to it.
    #[error("{path} is corrupt at byte {position}: {reason}. {ADVICE}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The files are whole but do not fit together: one is missing, or not of this member.
    #[error("the files in {folder} do not fit together: {reason}. {ADVICE}")]
    Inconsistent {
        /// The folder.
        folder: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// Another process uses the folder.
    #[error("{folder} is in use by another process")]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// An earlier write or flush failed, so that nobody knows what is on the disk. Only a restart,
    /// which reads the disk, can tell.
    #[error("the log failed before and takes nothing more until the member is restarted")]
    FailedBefore,
}

impl StorageError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { action, path: path.to_owned(), error }
    }

    pub(super) fn corrupt(path: &Path, position: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), position, reason: reason.into() }
    }

    pub(crate) fn inconsistent(folder: &Path, reason: impl Into<String>) -> Self {
        Self::Inconsistent { folder: folder.to_owned(), reason: reason.into() }
    }
}
