//! Stories of logs: what happens to them, and what must be found afterwards.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod compaction;
mod faults;
mod foreign;
mod manager;
mod model;
mod movements;
mod power;
mod reading;
mod recovery;
mod together;
mod writing;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ottla_common::kafka::record_batch::{RecordBatch, batches};
use ottla_common::kafka::records::{BatchBuilder, BatchOptions, RecordLimits};
use ottla_common::types::TopicPartition;
use parking_lot::Mutex;

use super::error::{AppendError, StorageError};
use super::files::{FaultHook, FileSystem, Operation, Verdict};
use super::log::{AppendInfo, AppendOrigin, LeaderAppend, Log};
use super::log_config::LogConfig;
use super::log_dirs::LogDir;
use super::log_reader::{LogReadRequest, read_region};
use super::recovery::OpenOptions;

const NOW_MS: i64 = 1_700_000_000_000;

/// A log directory with one log in it.
struct Fixture {
    folder: tempfile::TempDir,
    file_system: FileSystem,
    config: LogConfig,
}

impl Fixture {
    fn new(config: LogConfig) -> Self {
        let folder = folder();
        Self { folder, file_system: FileSystem::real(), config }
    }

    fn with_faults(config: LogConfig) -> (Self, Arc<Faults>) {
        let faults = Arc::new(Faults::default());
        let file_system = FileSystem::with_hook(faults.clone());
        (Self { file_system, ..Self::new(config) }, faults)
    }

    fn topic_partition(&self) -> TopicPartition {
        TopicPartition::new("t", 0)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("t-0").join(name)
    }

    fn try_open(&self, options: OpenOptions) -> Result<Log, StorageError> {
        let dir = Arc::new(LogDir::open(&self.file_system, self.folder.path()).unwrap());
        Log::open(&dir, self.topic_partition(), Arc::new(self.config.clone()), options)
    }

    /// Opens as after a crash, of which nothing is known to be on disk.
    fn open(&self) -> Log {
        self.try_open(crashed(0)).unwrap()
    }

    /// Opens as after a clean stop.
    fn open_clean(&self) -> Log {
        self.try_open(OpenOptions { was_clean: true, ..crashed(0) }).unwrap()
    }
}

/// A folder in memory where there is such a thing: most stories sync a lot and prove nothing of
/// disks.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Options of a log that was not closed, with a recovery point.
fn crashed(recovery_point: i64) -> OpenOptions {
    OpenOptions {
        was_clean: false,
        recovery_point,
        recovery_point_is_lost: false,
        log_start_offset: 0,
        high_watermark: 0,
        now_ms: NOW_MS,
    }
}

/// Records with values of some bytes, one millisecond apart.
fn records(options: BatchOptions, count: i64, timestamp: i64, value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for number in 0..count {
        let value = vec![b'v'; value_bytes];
        builder.append(timestamp + number, Some(b"k"), Some(&value), &[]).unwrap();
    }
    builder.build().unwrap()
}

fn plain(count: i64, timestamp: i64) -> Bytes {
    records(BatchOptions::default(), count, timestamp, 100)
}

fn idempotent(producer_epoch: i16, base_sequence: i32, count: i64) -> Bytes {
    let options =
        BatchOptions { producer_id: 9, producer_epoch, base_sequence, ..BatchOptions::default() };
    records(options, count, NOW_MS, 100)
}

fn append(log: &Log, records: Bytes) -> Result<AppendInfo, AppendError> {
    append_in(log, records, 0)
}

fn append_in(log: &Log, records: Bytes, leader_epoch: i32) -> Result<AppendInfo, AppendError> {
    let origin = AppendOrigin::Client;
    log.append_as_leader(records, LeaderAppend { leader_epoch, origin, now_ms: NOW_MS })
}

/// All batches from an offset on.
fn read_all(log: &Log, mut offset: i64) -> Vec<RecordBatch> {
    let mut found = Vec::new();
    loop {
        let upper_bound = log.log_end_offset();
        let request = LogReadRequest { offset, max_bytes: 4000, min_one_batch: true, upper_bound };
        let read = log.read(request).unwrap();
        let Some(region) = read.region else { return found };
        let bytes = read_region(&region).unwrap();
        let read_batches: Vec<_> = batches(bytes).collect::<Result<_, _>>().unwrap();
        for batch in &read_batches {
            batch.validate().unwrap();
        }
        assert_eq!(read_batches.first().unwrap().header.base_offset, read.first_offset);
        assert!(read_batches.last().unwrap().header.next_offset() <= read.next_offset);
        offset = read.next_offset;
        found.extend(read_batches);
    }
}

fn offsets_of(log: &Log) -> Vec<i64> {
    let found = read_all(log, log.log_start_offset());
    let records = found.iter().flat_map(|batch| batch.records(RecordLimits::default()));
    records.map(|record| record.unwrap().offset).collect()
}

/// Length and checksum of the files of a log's folder, by name.
fn files(folder: &Path) -> Vec<(String, (usize, u32))> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let content = std::fs::read(entry.path()).unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, (content.len(), crc32c::crc32c(&content)))
        })
        .collect();
    files.sort();
    files
}

type Rule = (Operation, &'static str, Verdict);

/// Fails calls as told: the first rule that fits is used up.
#[derive(Debug, Default)]
struct Faults {
    rules: Mutex<Vec<Rule>>,
    /// Calls made, for who wants to count them.
    calls: Mutex<Vec<(Operation, String)>>,
}

impl Faults {
    /// The next such call on a file whose name ends so fails.
    fn fail(&self, operation: Operation, suffix: &'static str, kind: io::ErrorKind) {
        self.rules.lock().push((operation, suffix, Verdict::Fail(kind.into())));
    }

    /// The next write to such a file stops after some bytes.
    fn cut_short(&self, suffix: &'static str, bytes: usize, kind: io::ErrorKind) {
        self.rules.lock().push((Operation::Write, suffix, Verdict::Short(bytes, kind.into())));
    }

    fn count(&self, operation: Operation, suffix: &str) -> usize {
        let calls = self.calls.lock();
        calls.iter().filter(|call| call.0 == operation && call.1.ends_with(suffix)).count()
    }
}

impl FaultHook for Faults {
    fn before(&self, operation: Operation, path: &Path, _length: usize) -> Verdict {
        let path = path.to_string_lossy().into_owned();
        let mut rules = self.rules.lock();
        let place = rules.iter().position(|rule| rule.0 == operation && path.ends_with(rule.1));
        self.calls.lock().push((operation, path));
        place.map_or(Verdict::Proceed, |place| rules.remove(place).2)
    }
}
