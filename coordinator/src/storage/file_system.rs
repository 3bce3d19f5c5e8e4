//! What the storage asks of a file system, and the answer of the system's own. The simulator has
//! another one, which forgets at a crash what was not flushed.

use std::any::Any;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;

/// A file system. What was done to files and folders is durable only once it was flushed.
pub trait FileSystem: fmt::Debug + Send + Sync {
    /// Whether there is a folder at `path`.
    fn is_folder(&self, path: &Path) -> bool;
    /// Makes a folder in one that exists.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes a file, or empties the one that is there.
    fn create(&self, path: &Path) -> io::Result<Box<dyn OpenFile>>;
    /// Opens a file that is there.
    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>>;
    /// Gives a file another name, in place of the file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// What a folder holds, in any order.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
    /// Takes a file for this process until the result is dropped; [`io::ErrorKind::WouldBlock`] if
    /// another one has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>>;
    /// A number nobody can guess.
    fn random(&self) -> io::Result<u32>;
}

/// An open file.
pub trait OpenFile: fmt::Debug + Send + Sync {
    /// Reads some bytes from a position; none behind the end.
    fn read_at(&self, target: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at a position.
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// Makes durable what was written so far, and the length as far as reading it needs it.
    fn sync(&self) -> io::Result<()>;
    /// Reserves space, filled with zeros; false if the file system cannot.
    fn allocate(&self, from: u64, to: u64) -> io::Result<bool>;
    /// Cuts the file at a length.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;
}

/// What reserved space is filled with.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemFiles;

impl FileSystem for SystemFiles {
    fn is_folder(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
        Ok(Box::new(file?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        match OpenOptions::new().read(true).write(true).open(path) {
            // What is only read may lie where nothing can be written.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Ok(Box::new(File::open(path)?))
            }
            opened => Ok(Box::new(opened?)),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }

    fn random(&self) -> io::Result<u32> {
        Ok(getrandom::u32()?)
    }
}

impl OpenFile for File {
    fn read_at(&self, target: &mut [u8], position: u64) -> io::Result<usize> {
        FileExt::read_at(self, target, position)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, position)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn allocate(&self, from: u64, to: u64) -> io::Result<bool> {
        match rustix::fs::fallocate(self, FallocateFlags::empty(), from, to - from) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        // Space that was only reserved is marked as written by the first write there, and a flush
        // has to wait for that mark: in the file system's own journal, behind all that others have
        // there.
        let mut position = from;
        while position < to {
            let left = usize::try_from(to - position).unwrap_or(usize::MAX);
            let zeros = ZEROS.get(..left).unwrap_or(&ZEROS);
            FileExt::write_all_at(self, zeros, position)?;
            position += zeros.len() as u64;
        }
        Ok(true)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
