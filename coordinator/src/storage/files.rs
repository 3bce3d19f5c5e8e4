//! The only seam between the storage and the file system. Tests hang a hook into it that makes
//! operations fail, or writes stop half way.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation};

use super::StorageError;

/// What is about to be done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileOperation {
    /// Make an empty file.
    Create,
    /// Write this many bytes.
    Write(usize),
    /// Reserve space.
    Allocate,
    /// Cut the file.
    Truncate,
    /// Flush a file.
    Sync,
    /// Move a file to its place.
    Rename,
    /// Remove a file.
    Remove,
    /// Flush a folder.
    SyncFolder,
}

/// What a hook lets happen.
#[derive(Debug)]
pub enum Verdict {
    /// The operation.
    Go,
    /// Nothing, and this error.
    Fail(io::Error),
    /// Only so many bytes of a write, then this error.
    Tear(usize, io::Error),
}

type Hook = Arc<dyn Fn(FileOperation, &Path) -> Verdict + Send + Sync>;

/// A way to the file system.
#[derive(Clone, Default)]
pub struct Files {
    hook: Option<Hook>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("hooked", &self.hook.is_some()).finish()
    }
}

/// A file opened for writing.
#[derive(Debug)]
pub struct DataFile {
    file: File,
    path: PathBuf,
    files: Files,
}

/// Holds a folder for this process until it is dropped.
#[derive(Debug)]
pub struct FolderLock(#[expect(dead_code, reason = "held, not used")] File);

impl Files {
    /// A way on which `hook` decides what happens.
    pub fn hooked(hook: impl Fn(FileOperation, &Path) -> Verdict + Send + Sync + 'static) -> Self {
        Self { hook: Some(Arc::new(hook)) }
    }

    fn ask(&self, operation: FileOperation, path: &Path) -> io::Result<()> {
        match self.hook.as_ref().map(|hook| hook(operation, path)) {
            None | Some(Verdict::Go) => Ok(()),
            Some(Verdict::Fail(error) | Verdict::Tear(_, error)) => Err(error),
        }
    }

    /// Makes a folder and those above it, durably.
    pub fn create_folder(&self, folder: &Path) -> Result<(), StorageError> {
        if folder.is_dir() {
            return Ok(());
        }
        if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.create_folder(parent)?;
        }
        fs::create_dir(folder).map_err(StorageError::io("create folder", folder))?;
        match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.sync_folder(parent),
            _ => self.sync_folder(Path::new(".")),
        }
    }

    /// Makes a file, or empties the one that is there.
    pub fn create(&self, path: &Path) -> Result<DataFile, StorageError> {
        let open = || {
            self.ask(FileOperation::Create, path)?;
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
        };
        let file = open().map_err(StorageError::io("create", path))?;
        Ok(DataFile { file, path: path.to_owned(), files: self.clone() })
    }

    /// Opens a file that is there, to write on in it.
    pub fn open(&self, path: &Path) -> Result<DataFile, StorageError> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(StorageError::io("open", path))?;
        Ok(DataFile { file, path: path.to_owned(), files: self.clone() })
    }

    /// Puts a file that has been flushed in its place and makes that durable.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        let rename = || {
            self.ask(FileOperation::Rename, to)?;
            fs::rename(from, to)
        };
        rename().map_err(StorageError::io("rename to", to))?;
        to.parent().map_or(Ok(()), |folder| self.sync_folder(folder))
    }

    /// Replaces a small file at once: a crash leaves the old content or the new.
    pub fn replace(&self, path: &Path, content: &[u8]) -> Result<(), StorageError> {
        let aside = path.with_extension(ASIDE_EXTENSION);
        let file = self.create(&aside)?;
        file.write_all_at(content, 0)?;
        file.sync()?;
        self.rename(&aside, path)
    }

    /// Removes a file.
    pub fn remove(&self, path: &Path) -> Result<(), StorageError> {
        let remove = || {
            self.ask(FileOperation::Remove, path)?;
            fs::remove_file(path)
        };
        remove().map_err(StorageError::io("remove", path))
    }

    /// Makes the names in a folder durable.
    pub fn sync_folder(&self, folder: &Path) -> Result<(), StorageError> {
        let sync = || {
            self.ask(FileOperation::SyncFolder, folder)?;
            File::open(folder)?.sync_all()
        };
        sync().map_err(StorageError::io("flush folder", folder))
    }

    /// The content of a small file, if it is there.
    pub fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
        match fs::read(path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::io("read", path)(error)),
        }
    }

    /// The numbers of the files `<number>.<extension>` in a folder, ascending. Files that were
    /// being written aside when the process died are removed.
    pub fn numbered(&self, folder: &Path, extension: &str) -> Result<Vec<u64>, StorageError> {
        let mut numbers = Vec::new();
        let entries = fs::read_dir(folder).map_err(StorageError::io("list", folder))?;
        for entry in entries {
            let path = entry.map_err(StorageError::io("list", folder))?.path();
            let is = |wanted| path.extension().is_some_and(|found| found == wanted);
            if is(ASIDE_EXTENSION) {
                self.remove(&path)?;
            } else if is(extension) {
                let name = path.file_stem().and_then(|stem| stem.to_str());
                numbers.extend(name.and_then(|name| name.parse::<u64>().ok()));
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Takes a folder for this process alone.
    pub fn lock(&self, folder: &Path) -> Result<FolderLock, StorageError> {
        let path = folder.join("lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(StorageError::io("open", &path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(FolderLock(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(StorageError::InUse { folder: folder.to_owned() })
            }
            Err(error) => Err(StorageError::io("lock", &path)(error.into())),
        }
    }
}

/// What files end in until they are complete.
pub const ASIDE_EXTENSION: &str = "partial";

/// The path of a numbered file. Twenty digits, so that names sort as numbers do.
pub fn numbered_path(folder: &Path, number: u64, extension: &str) -> PathBuf {
    folder.join(format!("{number:020}.{extension}"))
}

impl DataFile {
    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all of `bytes` at a position.
    pub fn write_all_at(&self, bytes: &[u8], position: u64) -> Result<(), StorageError> {
        let operation = FileOperation::Write(bytes.len());
        let verdict = self.files.hook.as_ref().map(|hook| hook(operation, &self.path));
        let written = match verdict {
            None | Some(Verdict::Go) => self.file.write_all_at(bytes, position),
            Some(Verdict::Fail(error)) => Err(error),
            Some(Verdict::Tear(length, error)) => {
                let torn = bytes.get(..length).unwrap_or(bytes);
                self.file.write_all_at(torn, position).and(Err(error))
            }
        };
        written.map_err(StorageError::io("write", &self.path))
    }

    /// Makes the bytes durable that were written so far (and the length, as far as reading them
    /// needs it).
    pub fn sync(&self) -> Result<(), StorageError> {
        let asked = self.files.ask(FileOperation::Sync, &self.path);
        let synced = asked.and_then(|()| self.file.sync_data());
        synced.map_err(StorageError::io("flush", &self.path))
    }

    /// Reserves space, filled with zeros, up to a length. Returns false if the file system cannot.
    pub fn allocate(&self, from: u64, to: u64) -> Result<bool, StorageError> {
        use rustix::io::Errno;
        let reserve = || {
            self.files.ask(FileOperation::Allocate, &self.path)?;
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), from, to - from) {
                Ok(()) => Ok(true),
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(false),
                Err(error) => Err(error.into()),
            }
        };
        reserve().map_err(StorageError::io("allocate space for", &self.path))
    }

    /// Cuts the file at a length.
    pub fn truncate(&self, length: u64) -> Result<(), StorageError> {
        let cut = || {
            self.files.ask(FileOperation::Truncate, &self.path)?;
            self.file.set_len(length)
        };
        cut().map_err(StorageError::io("cut", &self.path))
    }

    /// How long it is, in bytes.
    pub fn length(&self) -> Result<u64, StorageError> {
        let metadata = self.file.metadata().map_err(StorageError::io("stat", &self.path))?;
        Ok(metadata.len())
    }
}
