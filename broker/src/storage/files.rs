//! The only door to the file system. Everything that storage does to files and folders goes through
//! a [`FileSystem`], which tests hand a [`FaultHook`] that fails, shortens or records the calls.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::FallocateFlags;

/// More buffers than this are not given to one `pwritev` call (Linux's `IOV_MAX`).
const BUFFERS_PER_WRITE_MAX: usize = 1024;

/// What is about to be done, for a [`FaultHook`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Open or create a file.
    Open,
    /// Read from a file, or a whole file.
    Read,
    /// Write to a file.
    Write,
    /// Cut or extend a file.
    SetLength,
    /// `fdatasync` of a file.
    SyncData,
    /// `fsync` of a folder.
    SyncFolder,
    /// Rename a file or folder.
    Rename,
    /// Remove a file or folder.
    Remove,
    /// Create a folder.
    CreateFolder,
    /// List a folder.
    List,
}

/// What a [`FaultHook`] wants to happen.
#[derive(Debug)]
pub enum Verdict {
    /// The real call.
    Proceed,
    /// This error instead of the call.
    Fail(io::Error),
    /// Of a write: so many bytes are written, then this error.
    Short(usize, io::Error),
}

/// Sees every call before it is made. For tests.
pub trait FaultHook: Send + Sync + fmt::Debug {
    /// Decides about a call; `length` is the bytes to write, or 0.
    fn before(&self, operation: Operation, path: &Path, length: usize) -> Verdict;
    /// A file of `length` bytes is on disk.
    fn synced(&self, _path: &Path, _length: u64) {}
}

/// The file system, real or with faults. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct FileSystem {
    hook: Option<Arc<dyn FaultHook>>,
}

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FolderEntry {
    /// The name in its folder. Names that are not UTF-8 are not listed: none of ours is.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Bytes, of a file.
    pub length: u64,
}

impl FileSystem {
    /// The file system as it is.
    pub fn real() -> Self {
        Self::default()
    }

    /// The file system as a test wants it.
    pub fn with_hook(hook: Arc<dyn FaultHook>) -> Self {
        Self { hook: Some(hook) }
    }

    fn before(&self, operation: Operation, path: &Path) -> io::Result<()> {
        match &self.hook {
            None => Ok(()),
            Some(hook) => match hook.before(operation, path, 0) {
                Verdict::Proceed => Ok(()),
                Verdict::Fail(error) | Verdict::Short(_, error) => Err(error),
            },
        }
    }

    /// Opens a file for reading and writing; makes it if it is not there.
    pub fn open(&self, path: &Path) -> io::Result<DataFile> {
        self.before(Operation::Open, path)?;
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(DataFile { file: Arc::new(file), path: path.to_owned(), file_system: self.clone() })
    }

    /// The whole content of a small file; `None` if there is none.
    pub fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        self.before(Operation::Read, path)?;
        match std::fs::read(path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces a small file's content so that after a crash there is the old or the new content,
    /// whole: written aside, brought to disk, renamed over, folder brought to disk.
    pub fn write_atomically(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".tmp");
        let aside = PathBuf::from(name);
        let file = self.open(&aside)?;
        file.set_length(0)?;
        file.write_all_at(content, 0)?;
        file.sync_data()?;
        self.rename(&aside, path)?;
        match path.parent() {
            Some(folder) => self.sync_folder(folder),
            None => Ok(()),
        }
    }

    /// Whether there is something of this name.
    pub fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    /// When a file was last written to, in milliseconds since 1970.
    pub fn modified_ms(&self, path: &Path) -> io::Result<i64> {
        let modified = std::fs::metadata(path)?.modified()?;
        let since_epoch = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    /// Makes a file as old as it says, in milliseconds since 1970.
    pub fn set_modified_ms(&self, path: &Path, modified_ms: i64) -> io::Result<()> {
        let since_epoch = Duration::from_millis(u64::try_from(modified_ms).unwrap_or(0));
        OpenOptions::new().write(true).open(path)?.set_modified(UNIX_EPOCH + since_epoch)
    }

    /// What is in a folder, by name.
    pub fn list(&self, folder: &Path) -> io::Result<Vec<FolderEntry>> {
        self.before(Operation::List, folder)?;
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if let Ok(name) = entry.file_name().into_string() {
                let (is_folder, length) = (metadata.is_dir(), metadata.len());
                entries.push(FolderEntry { name, is_folder, length });
            }
        }
        entries.sort();
        Ok(entries)
    }

    /// Makes a folder and those above it.
    pub fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.before(Operation::CreateFolder, path)?;
        std::fs::create_dir_all(path)
    }

    /// Renames a file or folder, replacing a file.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.before(Operation::Rename, from)?;
        std::fs::rename(from, to)
    }

    /// Removes a file; that it is not there is fine.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.before(Operation::Remove, path)?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes a folder with all in it; that it is not there is fine.
    pub fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.before(Operation::Remove, path)?;
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Brings a folder's list of names to disk, so that a new or renamed file survives a power cut.
    pub fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.before(Operation::SyncFolder, path)?;
        File::open(path)?.sync_all()
    }

    /// Total and usable bytes of the volume that a folder lies on.
    pub fn volume_bytes(&self, path: &Path) -> io::Result<(u64, u64)> {
        let volume = rustix::fs::statvfs(path)?;
        let total = volume.f_blocks.saturating_mul(volume.f_frsize);
        Ok((total, volume.f_bavail.saturating_mul(volume.f_frsize)))
    }
}

/// An open file, read and written by position. Shared between an appender, readers and flushers.
#[derive(Debug)]
pub struct DataFile {
    file: Arc<File>,
    path: PathBuf,
    file_system: FileSystem,
}

impl DataFile {
    /// Where it was when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file itself, for `sendfile`.
    pub fn handle(&self) -> &Arc<File> {
        &self.file
    }

    /// Its bytes.
    pub fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Reads until `buffer` is full or the file ends; returns how many bytes.
    pub fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file_system.before(Operation::Read, &self.path)?;
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..)
            && !rest.is_empty()
        {
            match self.file.read_at(rest, position.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Fills `buffer`, or fails.
    pub fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        if self.read_at(buffer, position)? == buffer.len() {
            return Ok(());
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// Writes all of `bytes`. After an error, some of them may have been written.
    pub fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.write_all_vectored_at(&mut [IoSlice::new(bytes)], position)
    }

    /// Writes all of `buffers`, one after another, without joining them first. After an error, some
    /// bytes may have been written.
    pub fn write_all_vectored_at(
        &self,
        mut buffers: &mut [IoSlice<'_>],
        position: u64,
    ) -> io::Result<()> {
        if let Some(hook) = &self.file_system.hook {
            let length = buffers.iter().map(|buffer| buffer.len()).sum();
            match hook.before(Operation::Write, &self.path, length) {
                Verdict::Proceed => {}
                Verdict::Fail(error) => return Err(error),
                Verdict::Short(count, error) => {
                    let bytes: Vec<u8> = buffers.iter().flat_map(|b| b.iter().copied()).collect();
                    let part = bytes.get(..count).unwrap_or(&bytes);
                    self.file.write_all_at(part, position)?;
                    return Err(error);
                }
            }
        }
        let mut position = position;
        IoSlice::advance_slices(&mut buffers, 0);
        while !buffers.is_empty() {
            let some = buffers.get(..BUFFERS_PER_WRITE_MAX).unwrap_or(buffers);
            match rustix::io::pwritev(&self.file, some, position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    IoSlice::advance_slices(&mut buffers, count);
                    position = position.saturating_add(count as u64);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Cuts the file, or extends it with zeros.
    pub fn set_length(&self, length: u64) -> io::Result<()> {
        self.file_system.before(Operation::SetLength, &self.path)?;
        self.file.set_len(length)
    }

    /// Reserves disk space for `length` bytes without changing the file's length. Not every file
    /// system can; that is no error.
    pub fn reserve(&self, length: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, length) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Brings the file's bytes and length to disk. If that fails, the bytes may be gone although
    /// the next call succeeds: never try again.
    pub fn sync_data(&self) -> io::Result<()> {
        self.file_system.before(Operation::SyncData, &self.path)?;
        let length = match &self.file_system.hook {
            Some(_) => self.length()?,
            None => 0,
        };
        self.file.sync_data()?;
        if let Some(hook) = &self.file_system.hook {
            hook.synced(&self.path, length);
        }
        Ok(())
    }
}
