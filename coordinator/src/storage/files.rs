//! The storage's way to its files: a handle over a [`FileSystem`]. Tests hang a hook into it that
//! makes operations fail, or writes stop half way.

use std::any::Any;
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StorageError;
use super::file_system::{FileSystem, OpenFile, SystemFiles};

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

/// A way to a file system; the operating system's unless another is given.
#[derive(Clone)]
pub struct Files {
    system: Arc<dyn FileSystem>,
    hook: Option<Hook>,
}

impl Default for Files {
    fn default() -> Self {
        Self::new(Arc::new(SystemFiles))
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hooked = self.hook.is_some();
        f.debug_struct("Files").field("system", &self.system).field("hooked", &hooked).finish()
    }
}

/// An open file.
#[derive(Debug)]
pub struct DataFile {
    file: Box<dyn OpenFile>,
    path: PathBuf,
    files: Files,
}

/// Holds a folder for this process until it is dropped.
#[derive(Debug)]
pub struct FolderLock(#[expect(dead_code, reason = "held, not used")] Box<dyn Any + Send + Sync>);

impl Files {
    /// A way to a file system.
    pub fn new(system: Arc<dyn FileSystem>) -> Self {
        Self { system, hook: None }
    }

    /// A way to the operating system's files on which `hook` decides what happens.
    pub fn hooked(hook: impl Fn(FileOperation, &Path) -> Verdict + Send + Sync + 'static) -> Self {
        Self { hook: Some(Arc::new(hook)), ..Self::default() }
    }

    fn ask(&self, operation: FileOperation, path: &Path) -> io::Result<()> {
        match self.hook.as_ref().map(|hook| hook(operation, path)) {
            None | Some(Verdict::Go) => Ok(()),
            Some(Verdict::Fail(error) | Verdict::Tear(_, error)) => Err(error),
        }
    }

    /// Whether there is a folder at `path`.
    pub fn is_folder(&self, path: &Path) -> bool {
        self.system.is_folder(path)
    }

    /// Makes a folder and those above it, durably.
    pub fn create_folder(&self, folder: &Path) -> Result<(), StorageError> {
        if self.system.is_folder(folder) {
            return Ok(());
        }
        if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.create_folder(parent)?;
        }
        self.system.create_folder(folder).map_err(StorageError::io("create folder", folder))?;
        match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.sync_folder(parent),
            _ => self.sync_folder(Path::new(".")),
        }
    }

    /// Makes a file, or empties the one that is there.
    pub fn create(&self, path: &Path) -> Result<DataFile, StorageError> {
        let asked = self.ask(FileOperation::Create, path);
        let file = asked.and_then(|()| self.system.create(path));
        let file = file.map_err(StorageError::io("create", path))?;
        Ok(DataFile { file, path: path.to_owned(), files: self.clone() })
    }

    /// Opens a file that is there, to read it or to write on in it.
    pub fn open(&self, path: &Path) -> Result<DataFile, StorageError> {
        let file = self.system.open(path).map_err(StorageError::io("open", path))?;
        Ok(DataFile { file, path: path.to_owned(), files: self.clone() })
    }

    /// Puts a file that has been flushed in its place and makes that durable.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        let rename = || {
            self.ask(FileOperation::Rename, to)?;
            self.system.rename(from, to)
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
            self.system.remove(path)
        };
        remove().map_err(StorageError::io("remove", path))
    }

    /// Removes a large file after having cut it shorter step by step; `pause` is called after each.
    /// A crash meanwhile may leave the beginning of it.
    pub fn remove_in_steps(
        &self,
        path: &Path,
        step: u64,
        pause: &mut dyn FnMut(),
    ) -> Result<(), StorageError> {
        let file = self.open(path)?;
        let mut length = file.length()?;
        while length > step {
            length -= step;
            file.truncate(length)?;
            pause();
        }
        drop(file);
        self.remove(path)
    }

    /// Makes the names in a folder durable.
    pub fn sync_folder(&self, folder: &Path) -> Result<(), StorageError> {
        let sync = || {
            self.ask(FileOperation::SyncFolder, folder)?;
            self.system.sync_folder(folder)
        };
        sync().map_err(StorageError::io("flush folder", folder))
    }

    /// The content of a small file, if it is there.
    pub fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
        let read = || -> io::Result<Vec<u8>> {
            let file = self.system.open(path)?;
            let mut content = Vec::new();
            FileReader { file, position: 0 }.read_to_end(&mut content)?;
            Ok(content)
        };
        match read() {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::io("read", path)(error)),
        }
    }

    /// The numbers of the files `<number>.<extension>` in a folder, ascending.
    pub fn numbered(&self, folder: &Path, extension: &str) -> Result<Vec<u64>, StorageError> {
        let paths = self.system.list(folder).map_err(StorageError::io("list", folder))?;
        let wanted = paths.iter().filter(|path| has_extension(path, extension));
        let names = wanted.filter_map(|path| path.file_stem().and_then(|stem| stem.to_str()));
        let mut numbers: Vec<u64> = names.filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Removes the files that were being written aside when an earlier process died.
    pub fn remove_asides(&self, folder: &Path) -> Result<(), StorageError> {
        let mut paths = self.system.list(folder).map_err(StorageError::io("list", folder))?;
        paths.sort_unstable();
        paths.retain(|path| has_extension(path, ASIDE_EXTENSION));
        paths.iter().try_for_each(|path| self.remove(path))
    }

    /// Takes a folder for this process alone.
    pub fn lock(&self, folder: &Path) -> Result<FolderLock, StorageError> {
        let path = folder.join("lock");
        match self.system.lock(&path) {
            Ok(lock) => Ok(FolderLock(lock)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(StorageError::InUse { folder: folder.to_owned() })
            }
            Err(error) => Err(StorageError::io("lock", &path)(error)),
        }
    }

    /// A number nobody can guess, for the file at `path`.
    pub fn random(&self, path: &Path) -> Result<u32, StorageError> {
        self.system.random().map_err(StorageError::io("find randomness for", path))
    }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
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
        let synced = asked.and_then(|()| self.file.sync());
        synced.map_err(StorageError::io("flush", &self.path))
    }

    /// Reserves space, filled with zeros, up to a length. Returns false if the file system cannot.
    pub fn allocate(&self, from: u64, to: u64) -> Result<bool, StorageError> {
        let asked = self.files.ask(FileOperation::Allocate, &self.path);
        let reserved = asked.and_then(|()| self.file.allocate(from, to));
        reserved.map_err(StorageError::io("allocate space for", &self.path))
    }

    /// Cuts the file at a length.
    pub fn truncate(&self, length: u64) -> Result<(), StorageError> {
        let asked = self.files.ask(FileOperation::Truncate, &self.path);
        let cut = asked.and_then(|()| self.file.truncate(length));
        cut.map_err(StorageError::io("cut", &self.path))
    }

    /// How long it is, in bytes.
    pub fn length(&self) -> Result<u64, StorageError> {
        self.file.length().map_err(StorageError::io("stat", &self.path))
    }

    /// Reads `length` bytes from a position, or what there is up to the end.
    pub fn read_up_to(&self, position: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        let available = self.length()?.saturating_sub(position);
        let length = usize::try_from(available).map_or(length, |available| length.min(available));
        let mut bytes = vec![0; length];
        let mut read = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            let count = self.file.read_at(rest, position + read as u64);
            match count.map_err(StorageError::io("read", &self.path))? {
                0 => break,
                count => read += count,
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Reads it from the beginning, one piece after the other.
    pub fn into_reader(self) -> FileReader {
        FileReader { file: self.file, position: 0 }
    }
}

/// Reads a file one piece after the other.
#[derive(Debug)]
pub struct FileReader {
    file: Box<dyn OpenFile>,
    position: u64,
}

impl Read for FileReader {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(target, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for FileReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
            SeekFrom::End(distance) => self.file.length()?.checked_add_signed(distance),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
