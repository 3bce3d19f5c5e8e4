//! Snapshots: the whole state after one record of the log, each in a file of its own.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_common::coordination::codec::{decode_message, encode_message};

use super::StorageError;
use super::files::{DataFile, FileReader, Files, numbered_path};
use super::membership::SnapshotMeta;
use super::wal_record::{Fields, PAYLOAD_SIZE_MAX};

/// What files of snapshots end in.
pub const SNAPSHOT_EXTENSION: &str = "snapshot";

/// How many snapshots that are whole are kept.
pub const SNAPSHOTS_KEPT: usize = 3;

const MAGIC: [u8; 8] = *b"OTTLASNP";
const VERSION: u32 = 2;
const HEADER_SIZE: usize = 32;

/// Stands in place of a length behind the last record.
const END_MARK: u32 = u32::MAX;

/// How much is collected for one write, and read at a time.
const BUFFER_SIZE: usize = 256 * 1024;

/// A flush comes after so many bytes, so that the last one is short: on many file systems a long
/// flush of one file delays the flushes of the log.
const FLUSH_STEP: u64 = 1024 * 1024;

/// A large file is cut shorter by so many bytes at a time before it is removed: to free all of it
/// at once keeps the file system's journal, and so the flushes of the log, waiting.
const REMOVAL_STEP: u64 = 1024 * 1024;

/// The snapshots of one member.
#[derive(Debug)]
pub struct Snapshots {
    pub(super) folder: PathBuf,
    pub(super) files: Files,
    /// Those that were found to be whole, ascending.
    pub(super) whole: Vec<u64>,
}

impl Snapshots {
    /// The snapshots in `folder`.
    pub fn open(folder: &Path, files: &Files) -> Result<Self, StorageError> {
        files.create_folder(folder)?;
        files.remove_asides(folder)?;
        Ok(Self { folder: folder.to_owned(), files: files.clone(), whole: Vec::new() })
    }

    /// The indexes of all files, ascending, whether they are whole or not.
    pub fn indexes(&self) -> Result<Vec<u64>, StorageError> {
        self.files.numbered(&self.folder, SNAPSHOT_EXTENSION)
    }

    /// Opens the snapshot behind the record `index`.
    pub fn read(&self, index: u64) -> Result<SnapshotReader, StorageError> {
        let path = numbered_path(&self.folder, index, SNAPSHOT_EXTENSION);
        SnapshotReader::open(&path, &self.files, index)
    }

    /// What a thread needs to write a snapshot while this goes on being used.
    pub fn writer(&self) -> SnapshotWriter {
        SnapshotWriter { folder: self.folder.clone(), files: self.files.clone() }
    }

    /// Notes that a snapshot is whole, because it was read or written to its end.
    pub fn mark_whole(&mut self, index: u64) {
        if let Err(place) = self.whole.binary_search(&index) {
            self.whole.insert(place, index);
        }
    }

    /// The newest that is known to be whole.
    pub fn newest_whole(&self) -> Option<u64> {
        self.whole.last().copied()
    }

    /// Notes that one is not whole any more: the disk has changed it.
    pub fn mark_damaged(&mut self, index: u64) {
        self.whole.retain(|whole| *whole != index);
    }

    /// Removes all but the newest [`SNAPSHOTS_KEPT`] that are known to be whole. Returns from where
    /// on the log must be kept. Until so many are known to be whole, nothing is removed. `pause` is
    /// called now and then, to leave the disk to others.
    pub fn remove_old(&mut self, pause: &mut dyn FnMut()) -> Result<Option<u64>, StorageError> {
        let surplus = self.whole.len().saturating_sub(SNAPSHOTS_KEPT);
        let Some(oldest_kept) = self.whole.get(surplus).copied() else { return Ok(None) };
        if self.whole.len() < SNAPSHOTS_KEPT {
            return Ok(None);
        }
        for index in self.indexes()?.into_iter().filter(|index| *index < oldest_kept) {
            let path = numbered_path(&self.folder, index, SNAPSHOT_EXTENSION);
            self.files.remove_in_steps(&path, REMOVAL_STEP, pause)?;
        }
        self.whole.drain(..surplus);
        self.files.sync_folder(&self.folder)?;
        Ok(Some(oldest_kept + 1))
    }
}

/// Writes snapshots into a member's folder.
#[derive(Clone, Debug)]
pub struct SnapshotWriter {
    folder: PathBuf,
    files: Files,
}

impl SnapshotWriter {
    /// Writes a whole snapshot and puts it in its place. Returns its size in bytes, or none if
    /// `cancelled` was set meanwhile.
    pub fn write(
        &self,
        meta: &SnapshotMeta,
        records: impl Iterator<Item = Vec<u8>>,
        cancelled: &AtomicBool,
    ) -> Result<Option<u64>, StorageError> {
        let path = numbered_path(&self.folder, meta.index, SNAPSHOT_EXTENSION);
        let aside = path.with_extension(super::files::ASIDE_EXTENSION);
        let mut output = Output {
            file: self.files.create(&aside)?,
            buffer: encode_header(meta.index, meta.term),
            written: 0,
            flushed: 0,
        };
        let mut checksum = 0;
        let mut count = 0_u64;
        let membership = encode_message(&meta.membership);
        let membership =
            membership.unwrap_or_else(|error| unreachable!("encode a membership: {error}"));
        for record in std::iter::once(membership).chain(records) {
            if cancelled.load(Ordering::Relaxed) {
                return Ok(None);
            }
            assert!(record.len() <= PAYLOAD_SIZE_MAX, "a record of {} bytes", record.len());
            checksum = crc32c::crc32c_append(checksum, &record);
            count += 1;
            let length = u32::try_from(record.len()).unwrap_or(END_MARK);
            output.put(&length.to_le_bytes())?;
            output.put(&checksum.to_le_bytes())?;
            output.put(&record)?;
        }
        output.put(&END_MARK.to_le_bytes())?;
        output.put(&crc32c::crc32c_append(checksum, &count.to_le_bytes()).to_le_bytes())?;
        output.put(&count.to_le_bytes())?;
        let size = output.finish()?;
        self.files.rename(&aside, &path)?;
        Ok(Some(size))
    }
}

/// Collects small pieces into large writes.
struct Output {
    file: DataFile,
    buffer: Vec<u8>,
    written: u64,
    flushed: u64,
}

impl Output {
    fn put(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_SIZE { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), StorageError> {
        self.file.write_all_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        if self.written - self.flushed >= FLUSH_STEP {
            self.file.sync()?;
            self.flushed = self.written;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<u64, StorageError> {
        self.write()?;
        self.file.sync()?;
        Ok(self.written)
    }
}

fn encode_header(index: u64, term: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&index.to_le_bytes());
    bytes.extend_from_slice(&term.to_le_bytes());
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Reads a snapshot record by record. Ends after the first error; a snapshot is whole only if the
/// last item was no error.
#[derive(Debug)]
pub struct SnapshotReader {
    reader: BufReader<FileReader>,
    path: PathBuf,
    meta: SnapshotMeta,
    position: u64,
    length: u64,
    checksum: u32,
    count: u64,
    ended: bool,
}

impl SnapshotReader {
    pub(super) fn open(path: &Path, files: &Files, index: u64) -> Result<Self, StorageError> {
        let file = files.open(path)?;
        let length = file.length()?;
        let capacity = usize::try_from(length).unwrap_or(BUFFER_SIZE).min(BUFFER_SIZE);
        let mut snapshot = Self {
            reader: BufReader::with_capacity(capacity, file.into_reader()),
            path: path.to_owned(),
            meta: SnapshotMeta::default(),
            position: 0,
            length,
            checksum: 0,
            count: 0,
            ended: false,
        };
        let header: [u8; HEADER_SIZE] = snapshot.read_bytes()?;
        let mut fields = Fields(&header);
        let magic: [u8; 8] = fields.take();
        let version = u32::from_le_bytes(fields.take());
        let read_index = u64::from_le_bytes(fields.take());
        let term = u64::from_le_bytes(fields.take());
        let corrupt = |reason: String| Err(StorageError::corrupt(path, 0, reason));
        if magic != MAGIC {
            return corrupt("it does not begin as a snapshot".to_owned());
        }
        if version != VERSION {
            return corrupt(format!("its format {version} is not one that this build reads"));
        }
        if encode_header(read_index, term) != header {
            return corrupt("the checksum of its header is wrong".to_owned());
        }
        if read_index != index {
            return corrupt(format!("its name says {index}, its header {read_index}"));
        }
        let Some(record) = snapshot.next_record()? else {
            return corrupt("it has no membership".to_owned());
        };
        let membership = match decode_message(&record) {
            Ok(membership) => membership,
            Err(error) => return corrupt(format!("its membership cannot be read: {error}")),
        };
        snapshot.meta = SnapshotMeta { index, term, membership };
        Ok(snapshot)
    }

    /// Which record of the log it stands behind, and who the members were there.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    fn corrupt(&self, reason: &str) -> StorageError {
        StorageError::corrupt(&self.path, self.position, reason)
    }

    fn fill(&mut self, target: &mut [u8]) -> Result<(), StorageError> {
        let end = self.position + target.len() as u64;
        if end > self.length {
            return Err(self.corrupt("it is cut off"));
        }
        let read = self.reader.read_exact(target);
        read.map_err(StorageError::io("read", &self.path))?;
        self.position = end;
        Ok(())
    }

    fn read_bytes<const N: usize>(&mut self) -> Result<[u8; N], StorageError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn next_record(&mut self) -> Result<Option<Vec<u8>>, StorageError> {
        let length = u32::from_le_bytes(self.read_bytes()?);
        let expected = u32::from_le_bytes(self.read_bytes()?);
        if length == END_MARK {
            let count = self.read_bytes()?;
            let checksum = crc32c::crc32c_append(self.checksum, &count);
            if checksum != expected || u64::from_le_bytes(count) != self.count {
                return Err(self.corrupt("its end is not that of its records"));
            }
            if self.position != self.length {
                return Err(self.corrupt("there is something behind its end"));
            }
            return Ok(None);
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > PAYLOAD_SIZE_MAX || length as u64 > self.length - self.position {
            return Err(self.corrupt("the length of a record cannot be"));
        }
        let mut record = vec![0; length];
        self.fill(&mut record)?;
        self.checksum = crc32c::crc32c_append(self.checksum, &record);
        if self.checksum != expected {
            return Err(self.corrupt("the checksum of a record is wrong"));
        }
        self.count += 1;
        Ok(Some(record))
    }
}

impl Iterator for SnapshotReader {
    type Item = Result<Vec<u8>, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let record = self.next_record().transpose();
        self.ended = !matches!(record, Some(Ok(_)));
        record
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ottla_common::types::MemberId;

    use super::*;
    use crate::storage::files::{FileOperation, Verdict};
    use crate::storage::membership::Membership;

    static GO_ON: AtomicBool = AtomicBool::new(false);

    fn records() -> Vec<Vec<u8>> {
        (0..200_u32).map(|number| number.to_le_bytes().repeat(number as usize % 7)).collect()
    }

    fn meta(index: u64) -> SnapshotMeta {
        SnapshotMeta { index, term: 3, membership: Membership::of_voters([MemberId(4)]) }
    }

    fn write(snapshots: &mut Snapshots, index: u64) {
        snapshots.writer().write(&meta(index), records().into_iter(), &GO_ON).unwrap().unwrap();
        snapshots.mark_whole(index);
    }

    fn read(snapshots: &Snapshots, index: u64) -> Result<Vec<Vec<u8>>, StorageError> {
        snapshots.read(index)?.collect()
    }

    #[test]
    fn a_snapshot_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut snapshots = Snapshots::open(folder.path(), &Files::default()).unwrap();
        write(&mut snapshots, 10);
        assert_eq!(snapshots.indexes().unwrap(), [10]);
        assert_eq!(snapshots.read(10).unwrap().meta(), &meta(10));
        assert_eq!(read(&snapshots, 10).unwrap(), records());
        assert!(read(&snapshots, 11).is_err());
    }

    #[test]
    fn a_snapshot_that_is_damaged_anywhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut snapshots = Snapshots::open(folder.path(), &Files::default()).unwrap();
        write(&mut snapshots, 10);
        let path = numbered_path(folder.path(), 10, SNAPSHOT_EXTENSION);
        let whole = fs::read(&path).unwrap();
        for position in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[position] ^= 1 << (position % 8);
            fs::write(&path, &flipped).unwrap();
            assert!(read(&snapshots, 10).is_err(), "byte {position}");
            fs::write(&path, &whole[..position]).unwrap();
            assert!(read(&snapshots, 10).is_err(), "cut at {position}");
        }
        fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
        assert!(read(&snapshots, 10).is_err(), "something behind the end");
        // As if blocks of the file had changed places: each record whole, but not in its place.
        let (one, two) = (whole[..HEADER_SIZE].to_vec(), &whole[HEADER_SIZE + 8..]);
        fs::write(&path, [&one[..], two].concat()).unwrap();
        assert!(read(&snapshots, 10).is_err(), "without its first record");
        fs::write(numbered_path(folder.path(), 11, SNAPSHOT_EXTENSION), &whole).unwrap();
        assert!(read(&snapshots, 11).is_err(), "under another's name");
    }

    #[test]
    fn three_are_kept_and_damaged_ones_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let mut snapshots = Snapshots::open(folder.path(), &Files::default()).unwrap();
        write(&mut snapshots, 10);
        write(&mut snapshots, 20);
        fs::write(numbered_path(folder.path(), 25, SNAPSHOT_EXTENSION), b"damaged").unwrap();
        assert_eq!(snapshots.remove_old(&mut || ()).unwrap(), None);
        assert_eq!(snapshots.indexes().unwrap(), [10, 20, 25]);
        write(&mut snapshots, 30);
        assert_eq!(snapshots.remove_old(&mut || ()).unwrap(), Some(11));
        write(&mut snapshots, 40);
        assert_eq!(snapshots.remove_old(&mut || ()).unwrap(), Some(21));
        assert_eq!(snapshots.indexes().unwrap(), [20, 25, 30, 40]);
        write(&mut snapshots, 50);
        assert_eq!(snapshots.remove_old(&mut || ()).unwrap(), Some(31));
        assert_eq!(snapshots.indexes().unwrap(), [30, 40, 50]);
    }

    #[test]
    fn a_write_that_fails_or_is_cancelled_leaves_no_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        for fatal in [
            FileOperation::Create,
            FileOperation::Sync,
            FileOperation::Rename,
            FileOperation::SyncFolder,
        ] {
            let folder = tempfile::tempdir().unwrap();
            let files = Files::hooked(move |operation, _| {
                if operation == fatal {
                    return Verdict::Fail(std::io::Error::other("no more"));
                }
                Verdict::Go
            });
            let writer = SnapshotWriter { folder: folder.path().to_owned(), files };
            assert!(writer.write(&meta(5), records().into_iter(), &GO_ON).is_err(), "{fatal:?}");
            let snapshots = Snapshots::open(folder.path(), &Files::default()).unwrap();
            // Once renamed it is whole, only not known to be there after a power cut.
            let expected: &[u64] = if fatal == FileOperation::SyncFolder { &[5] } else { &[] };
            assert_eq!(snapshots.indexes().unwrap(), expected, "{fatal:?}");
        }
        let snapshots = Snapshots::open(folder.path(), &Files::default()).unwrap();
        let cancelled = AtomicBool::new(true);
        let outcome =
            snapshots.writer().write(&meta(5), records().into_iter(), &cancelled).unwrap();
        assert_eq!(outcome, None);
        assert_eq!(snapshots.indexes().unwrap(), [0_u64; 0]);
    }
}
