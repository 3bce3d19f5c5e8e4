//! Disks that lose at a crash what was not flushed, whole or in parts, and fail in other ways.
//!
//! A file has the content that is on the platter and the changes made since its last flush; a
//! folder's names likewise. A crash keeps any part of those changes: all, none, or some sectors of
//! some writes. What only the length or the names tell is kept in order, as a journal does.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastrand::Rng;
use ottla_coordinator::storage::file_system::{FileSystem, OpenFile};
use parking_lot::Mutex;

/// What a disk writes whole or not at all, in bytes.
const SECTOR_SIZE: usize = 512;

/// A disk with one member's files. Clones share it.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<State>>);

/// The disk as one process sees it: its locks end with it.
struct Mounted {
    disk: Disk,
    process: u64,
}

struct State {
    random: Rng,
    files: Vec<File>,
    names: Names,
    durable_names: Names,
    /// Changes of names since the folders were flushed, oldest first.
    pending_names: Vec<NameChange>,
    locks: BTreeSet<String>,
    /// The process that may use it; an older one is dead and gets errors.
    process: u64,
    faults: Faults,
}

type Names = BTreeMap<String, Target>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Folder,
    File(usize),
}

#[derive(Clone, Debug)]
enum NameChange {
    Put(String, Target),
    Rename(String, String),
    Remove(String),
}

#[derive(Default)]
struct File {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

/// What goes wrong on a disk.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    fails_next_sync: bool,
    is_full: bool,
    /// The process dies at this change, counted down.
    dies_in: Option<u32>,
}

impl Disk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: Rng::with_seed(seed),
            files: Vec::new(),
            names: BTreeMap::from([("/".to_owned(), Target::Folder)]),
            durable_names: BTreeMap::from([("/".to_owned(), Target::Folder)]),
            pending_names: Vec::new(),
            locks: BTreeSet::new(),
            process: 0,
            faults: Faults::default(),
        })))
    }

    /// The disk for a new process. Older ones get nothing but errors from now on.
    pub fn mount(&self) -> Arc<dyn FileSystem> {
        let mut state = self.0.lock();
        state.process += 1;
        state.locks.clear();
        Arc::new(Mounted { disk: self.clone(), process: state.process })
    }

    /// The disk for someone who only looks.
    pub fn reading(&self) -> Arc<dyn FileSystem> {
        Arc::new(Mounted { disk: self.clone(), process: self.0.lock().process })
    }

    /// The process dies after so many more changes, in the middle of the last one.
    pub fn die_in(&self, changes: u32) {
        self.0.lock().faults.dies_in = Some(changes);
    }

    /// The next flush fails, and what it was to flush is lost although it can be read.
    pub fn fail_next_sync(&self) {
        self.0.lock().faults.fails_next_sync = true;
    }

    /// The disk takes nothing more until there is room again.
    pub fn set_full(&self, is_full: bool) {
        self.0.lock().faults.is_full = is_full;
    }

    /// The machine loses its power: what was not flushed may be lost, wholly or in part.
    pub fn crash(&self) {
        let mut state = self.0.lock();
        let state = &mut *state;
        state.process += 1;
        state.locks.clear();
        state.faults = Faults::default();
        for file in &mut state.files {
            file.crash(&mut state.random);
        }
        let kept = match state.random.u8(..4) {
            0 | 1 => 0,
            2 => state.pending_names.len(),
            _ => state.random.usize(..=state.pending_names.len()),
        };
        for change in state.pending_names.drain(..).take(kept) {
            change.apply(&mut state.durable_names);
        }
        state.names.clone_from(&state.durable_names);
    }

    /// The process dies, but the machine goes on: nothing that it wrote is lost.
    pub fn kill(&self) {
        let mut state = self.0.lock();
        state.process += 1;
        state.locks.clear();
        state.faults = Faults::default();
    }

    /// All is gone.
    pub fn wipe(&self) {
        let mut state = self.0.lock();
        let root = BTreeMap::from([("/".to_owned(), Target::Folder)]);
        state.process += 1;
        state.files.clear();
        state.names.clone_from(&root);
        state.durable_names = root;
        state.pending_names.clear();
        state.locks.clear();
        state.faults = Faults::default();
    }

    /// The paths of all files.
    pub fn paths(&self) -> Vec<PathBuf> {
        let state = self.0.lock();
        let files = state.names.iter().filter(|(_, target)| matches!(target, Target::File(_)));
        files.map(|(path, _)| PathBuf::from(path)).collect()
    }

    /// A file's bytes.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.0.lock();
        state.file(path).ok().map(|file| state.files[file].current.clone())
    }

    /// Changes a bit of a file that is durable, behind everybody's back.
    pub fn rot(&self, path: &Path, position: usize, bit: u8) {
        let mut state = self.0.lock();
        let Ok(file) = state.file(path) else { return };
        let File { current, durable, .. } = &mut state.files[file];
        for content in [current, durable] {
            if let Some(byte) = content.get_mut(position) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn folder_of(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(end) => &path[..end],
    }
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl State {
    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.names.get(&*path.to_string_lossy()) {
            Some(Target::File(file)) => Ok(*file),
            _ => Err(missing()),
        }
    }

    /// Whether a process is alive.
    fn alive(&self, process: u64) -> io::Result<()> {
        if self.process == process { Ok(()) } else { Err(io::Error::other("the process is dead")) }
    }

    /// Before a change: whether the process lives to make it. Some if it dies in the middle.
    fn change(&mut self, process: u64) -> io::Result<bool> {
        self.alive(process)?;
        match &mut self.faults.dies_in {
            Some(0) => {
                self.process += 1;
                Ok(true)
            }
            Some(left) => {
                *left -= 1;
                Ok(false)
            }
            None => Ok(false),
        }
    }

    /// A change that is made whole or not at all.
    fn change_whole(&mut self, process: u64) -> io::Result<()> {
        let dies = self.change(process)?;
        if dies && self.random.bool() { self.alive(process) } else { Ok(()) }
    }

    fn room(&self) -> io::Result<()> {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        if self.faults.is_full { Err(full) } else { Ok(()) }
    }

    fn rename(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Put(path, target) => {
                names.insert(path.clone(), *target);
            }
            Self::Rename(from, to) => {
                if let Some(target) = names.remove(from) {
                    names.insert(to.clone(), target);
                }
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }

    fn folder(&self) -> &str {
        match self {
            Self::Put(path, _) | Self::Rename(_, path) | Self::Remove(path) => folder_of(path),
        }
    }
}

impl File {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }

    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    fn crash(&mut self, random: &mut Rng) {
        let mode = random.u8(..5);
        let lengths_kept = match mode {
            0 | 1 => 0,
            2 => self.pending.len(),
            _ => random.usize(..=self.pending.len()),
        };
        for (number, change) in self.pending.drain(..).enumerate() {
            match change {
                _ if mode < 2 => {}
                Change::Write(position, bytes) if mode == 2 => {
                    Change::Write(position, bytes).apply(&mut self.durable);
                }
                Change::Write(position, bytes) => {
                    tear(&mut self.durable, (position, &bytes), number < lengths_kept, random);
                }
                Change::Length(_) if number >= lengths_kept => {}
                Change::Length(_) => change.apply(&mut self.durable),
            }
        }
        self.current.clone_from(&self.durable);
    }
}

/// Some sectors of a write arrive.
fn tear(target: &mut Vec<u8>, (position, bytes): (usize, &[u8]), grows: bool, random: &mut Rng) {
    let mut done = 0;
    while done < bytes.len() {
        let start = position + done;
        let sector_end = (start / SECTOR_SIZE + 1) * SECTOR_SIZE;
        let end = (position + bytes.len()).min(sector_end);
        let piece = &bytes[done..end - position];
        let fits = grows || end <= target.len();
        if fits && random.bool() {
            Change::Write(start, piece.to_vec()).apply(target);
        }
        done += piece.len();
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(position, bytes) => {
                let end = position + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*position..end].copy_from_slice(bytes);
            }
            Self::Length(length) => content.resize(*length, 0),
        }
    }
}

impl fmt::Debug for Mounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a simulated disk")
    }
}

impl FileSystem for Mounted {
    fn is_folder(&self, path: &Path) -> bool {
        self.disk.0.lock().names.get(&text(path)) == Some(&Target::Folder)
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.change_whole(self.process)?;
        state.rename(NameChange::Put(text(path), Target::Folder));
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        let mut state = self.disk.0.lock();
        state.change_whole(self.process)?;
        let file = match state.file(path) {
            Ok(file) => {
                state.files[file].change(Change::Length(0));
                file
            }
            Err(_) => {
                state.room()?;
                state.files.push(File::default());
                let file = state.files.len() - 1;
                state.rename(NameChange::Put(text(path), Target::File(file)));
                file
            }
        };
        Ok(Box::new(Handle { disk: self.disk.clone(), process: self.process, file }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        let state = self.disk.0.lock();
        state.alive(self.process)?;
        let file = state.file(path)?;
        Ok(Box::new(Handle { disk: self.disk.clone(), process: self.process, file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.change_whole(self.process)?;
        state.file(from)?;
        state.rename(NameChange::Rename(text(from), text(to)));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.change_whole(self.process)?;
        state.file(path)?;
        state.rename(NameChange::Remove(text(path)));
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.change_whole(self.process)?;
        let folder = text(path);
        let State { pending_names, durable_names, .. } = &mut *state;
        pending_names.retain(|change| {
            let is_here = change.folder() == folder;
            if is_here {
                change.apply(durable_names);
            }
            !is_here
        });
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.disk.0.lock();
        state.alive(self.process)?;
        let folder = text(folder);
        let names = state.names.keys().filter(|path| folder_of(path) == folder);
        Ok(names.map(PathBuf::from).collect())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut state = self.disk.0.lock();
        state.alive(self.process)?;
        if !state.locks.insert(text(path)) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(()))
    }

    fn random(&self) -> io::Result<u32> {
        Ok(self.disk.0.lock().random.u32(..))
    }
}

/// An open file of a process.
struct Handle {
    disk: Disk,
    process: u64,
    file: usize,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "simulated file {}", self.file)
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

impl OpenFile for Handle {
    fn read_at(&self, target: &mut [u8], position: u64) -> io::Result<usize> {
        let state = self.disk.0.lock();
        state.alive(self.process)?;
        let content = &state.files[self.file].current;
        let available = content.get(size(position)..).unwrap_or_default();
        let count = available.len().min(target.len());
        target[..count].copy_from_slice(&available[..count]);
        Ok(count)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        let dies = state.change(self.process)?;
        state.room()?;
        let written = if dies { state.random.usize(..=bytes.len()) } else { bytes.len() };
        let change = Change::Write(size(position), bytes[..written].to_vec());
        state.files[self.file].change(change);
        state.alive(self.process)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.change_whole(self.process)?;
        if std::mem::take(&mut state.faults.fails_next_sync) {
            state.files[self.file].pending.clear();
            return Err(io::Error::other("input/output error"));
        }
        state.files[self.file].sync();
        Ok(())
    }

    fn allocate(&self, _from: u64, to: u64) -> io::Result<bool> {
        let mut state = self.disk.0.lock();
        state.change_whole(self.process)?;
        state.room()?;
        let file = &mut state.files[self.file];
        if file.current.len() < size(to) {
            file.change(Change::Length(size(to)));
        }
        Ok(true)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        state.change_whole(self.process)?;
        state.files[self.file].change(Change::Length(size(length)));
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        let state = self.disk.0.lock();
        state.alive(self.process)?;
        Ok(state.files[self.file].current.len() as u64)
    }
}

#[cfg(test)]
mod tests;
