//! A file of sorted entries of a fixed size, which both the offset and the time index are.
//!
//! The index of the segment that is written to is held in memory as well, and its file may lag
//! behind; an index of a closed segment is only in its file and is searched there, so that a broker
//! with many segments needs memory for none of them.

use std::io;

use super::files::DataFile;

/// Entries of `N` bytes. `None` as memory means: all is in the file.
#[derive(Debug)]
pub struct IndexFile<const N: usize> {
    file: DataFile,
    memory: Option<Vec<[u8; N]>>,
    /// Entries in all.
    count: usize,
    /// Entries that the file has.
    written: usize,
}

impl<const N: usize> IndexFile<N> {
    /// Wraps a file that has whole entries only; what follows the last whole one is not looked at.
    pub fn open(file: DataFile) -> io::Result<Self> {
        let length = usize::try_from(file.length()?).unwrap_or(usize::MAX);
        let count = length / N;
        Ok(Self { file, memory: None, count, written: count })
    }

    /// Entries.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether the file has a whole number of entries, as every index has that was closed.
    pub fn has_whole_entries(&self) -> io::Result<bool> {
        Ok(self.file.length()? == (self.written * N) as u64)
    }

    /// The entry `number`, from 0.
    pub fn get(&self, number: usize) -> io::Result<[u8; N]> {
        if let Some(memory) = &self.memory {
            return memory.get(number).copied().ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
        }
        let mut entry = [0; N];
        self.file.read_exact_at(&mut entry, (number * N) as u64)?;
        Ok(entry)
    }

    /// The last entry.
    pub fn last(&self) -> io::Result<Option<[u8; N]>> {
        self.count.checked_sub(1).map(|number| self.get(number)).transpose()
    }

    /// How many entries stand before the first that is not `before`.
    pub fn partition_point(&self, before: impl Fn(&[u8; N]) -> bool) -> io::Result<usize> {
        if let Some(memory) = &self.memory {
            return Ok(memory.partition_point(before));
        }
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(&self.get(middle)?) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Whether entries may be added.
    pub fn is_loaded(&self) -> bool {
        self.memory.is_some()
    }

    /// Reads all entries into memory, to append to them.
    pub fn load(&mut self) -> io::Result<()> {
        if self.memory.is_some() {
            return Ok(());
        }
        let mut bytes = vec![0; self.count * N];
        self.file.read_exact_at(&mut bytes, 0)?;
        let (entries, _) = bytes.as_chunks::<N>();
        self.memory = Some(entries.to_vec());
        Ok(())
    }

    /// Adds an entry, to memory only. The index must have been loaded.
    pub fn push(&mut self, entry: [u8; N]) {
        assert!(self.memory.is_some(), "appending to an index that is not loaded");
        if let Some(memory) = &mut self.memory {
            memory.push(entry);
        }
        self.count += 1;
    }

    /// Writes to the file what it lacks.
    pub fn write(&mut self) -> io::Result<()> {
        if let Some(memory) = &self.memory
            && let Some(missing) = memory.get(self.written..)
            && !missing.is_empty()
        {
            self.file.write_all_at(missing.as_flattened(), (self.written * N) as u64)?;
            self.written = self.count;
        }
        Ok(())
    }

    /// Writes all, cuts the file to it and forgets the entries in memory.
    pub fn seal(&mut self) -> io::Result<()> {
        self.write()?;
        self.file.set_length((self.count * N) as u64)?;
        self.memory = None;
        Ok(())
    }

    /// Keeps the first `count` entries.
    pub fn truncate(&mut self, count: usize) -> io::Result<()> {
        if let Some(memory) = &mut self.memory {
            memory.truncate(count);
        }
        self.count = self.count.min(count);
        self.written = self.written.min(count);
        self.file.set_length((self.written * N) as u64)
    }

    /// Brings the file to disk.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}
