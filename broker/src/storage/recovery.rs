//! Opening a log: what a clean stop left is taken as it is; after a crash everything behind the
//! recovery point is read, checked, and cut where it stops being whole.
//!
//! What lies before the recovery point was on disk, so a batch there that does not parse is no torn
//! write but damage: the log is not opened, and nothing of it is deleted. Side files (indexes,
//! epochs, snapshots) only ever repeat what the batches say, and are made anew if they are damaged.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_common::kafka::record_batch::BatchHeader;
use ottla_common::types::{TopicId, TopicPartition};
use tracing::{info, warn};

use super::aborted_index::{AbortedEntry, AbortedIndex};
use super::append::note_batch;
use super::append_validation::find_marker;
use super::batch_scan::{
    BatchScan, LOOKUP_PIECE_BYTES, SEQUENTIAL_PIECE_BYTES, ScanError, ScannedBatch, read_batch,
};
use super::checkpoints::{Content, Offsets, read_epochs, read_topic_id};
use super::error::StorageError;
use super::files::FileSystem;
use super::leader_epochs::LeaderEpochs;
use super::leftovers::{self, FolderContents};
use super::log::{Appender, LoadedLog, Log};
use super::log_config::LogConfig;
use super::log_dirs::{DirCheckpoints, LogDir};
use super::offsets::LogOffsets;
use super::producer_snapshot::{self, snapshot_file};
use super::producer_state::{Producers, TransactionChange, Transactions};
use super::segment::{Segment, segment_file};

/// What the directory knows of a log that is to be opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    /// The directory was closed cleanly.
    pub was_clean: bool,
    /// Everything before is on disk; 0 if nothing is known to be.
    pub recovery_point: i64,
    /// Nothing is known because the file of recovery points is missing or damaged.
    pub recovery_point_is_lost: bool,
    /// As checkpointed; 0 if not.
    pub log_start_offset: i64,
    /// As checkpointed; 0 if not.
    pub high_watermark: i64,
    /// Wall time.
    pub now_ms: i64,
}

impl OpenOptions {
    /// Those of a log that was not closed cleanly.
    pub fn of(checkpoints: &DirCheckpoints, topic_partition: &TopicPartition, now_ms: i64) -> Self {
        let get = |offsets: &Offsets| offsets.get(topic_partition).copied().unwrap_or(0);
        Self {
            was_clean: false,
            recovery_point: get(&checkpoints.recovery_points),
            recovery_point_is_lost: !checkpoints.has_recovery_points,
            log_start_offset: get(&checkpoints.log_start_offsets),
            high_watermark: get(&checkpoints.high_watermarks),
            now_ms,
        }
    }
}

impl Log {
    /// Opens or creates the log of a partition.
    ///
    /// # Errors
    /// If the disk fails, or what was safely on it is damaged.
    pub fn open(
        dir: &Arc<LogDir>,
        topic_partition: TopicPartition,
        config: Arc<LogConfig>,
        options: OpenOptions,
    ) -> Result<Self, StorageError> {
        let folder = dir.path().join(topic_partition.to_string());
        Self::open_in(dir, (topic_partition, folder), config, options)
    }

    /// Opens or creates the log of a partition in a folder of another name.
    ///
    /// # Errors
    /// If the disk fails, or what was safely on it is damaged.
    pub(super) fn open_in(
        dir: &Arc<LogDir>,
        (topic_partition, folder): (TopicPartition, PathBuf),
        config: Arc<LogConfig>,
        options: OpenOptions,
    ) -> Result<Self, StorageError> {
        let file_system = dir.file_system().clone();
        let is_new = !file_system.exists(&folder);
        if is_new {
            file_system.create_folder(&folder).map_err(StorageError::io("create", &folder))?;
        }
        let recovery = Recovery { file_system, folder: &folder, config: &config, options };
        let loaded = recovery.load(is_new)?;
        Ok(Self::new(topic_partition, dir.clone(), config, loaded))
    }
}

struct Recovery<'a> {
    file_system: FileSystem,
    folder: &'a Path,
    config: &'a LogConfig,
    options: OpenOptions,
}

impl Recovery<'_> {
    fn load(&self, is_new: bool) -> Result<LoadedLog, StorageError> {
        let contents = leftovers::tidy(&self.file_system, self.folder)?;
        let mut segments = self.open_segments(&contents)?;
        let (mut epochs, epochs_dirty) = self.load_epochs(&segments)?;
        let mut appender = Appender { snapshots: contents.snapshots, ..Appender::default() };
        let first_unchecked = self.adopt_checked(&segments)?;
        self.read_unchecked(&mut segments, first_unchecked, &mut appender, &mut epochs)?;

        let first = segments.first().map_or(0, |segment| segment.base_offset());
        let start = self.options.log_start_offset.max(first);
        let mut end = segments.last().map_or(first, |segment| segment.end_offset());
        if end < start {
            // What was not deleted is lost: the log goes on where its readers expect it.
            warn!(folder = %self.folder.display(), start, end, "the log ends before its start");
            self.remove_segments(&segments)?;
            segments.clear();
            self.drop_snapshots(&mut appender, |_| true)?;
            appender.producers = Producers::default();
            end = start;
        }
        let is_new = is_new || segments.is_empty();
        if segments.is_empty() {
            let created = Segment::create(&self.file_system, self.folder, end, self.options.now_ms);
            let segment = created.map_err(StorageError::io("create a segment in", self.folder))?;
            segments.push(Arc::new(segment));
        }
        self.drop_stray_snapshots(&mut appender, &segments, end)?;
        epochs.truncate_from_end(end);
        epochs.truncate_from_start(start);
        let mut offsets = LogOffsets::opened(start, self.options.high_watermark, end);
        offsets.recovery_point = start.max(end.min(self.options.recovery_point));
        Ok(LoadedLog {
            segments,
            appender,
            epochs,
            offsets,
            topic_id: self.load_topic_id(end == 0)?,
            folder: self.folder.to_owned(),
            epochs_dirty: epochs_dirty || !self.options.was_clean,
            is_new: is_new || !self.options.was_clean,
        })
    }

    fn load_topic_id(&self, is_empty: bool) -> Result<Option<TopicId>, StorageError> {
        match read_topic_id(&self.file_system, self.folder)? {
            Content::Found(topic_id) => Ok(Some(topic_id)),
            Content::Missing => Ok(None),
            // It is brought to disk with the first records.
            Content::Damaged(_) if is_empty => Ok(None),
            Content::Damaged(what) => {
                // Whose records these are is nothing to guess.
                let path = self.folder.join(super::checkpoints::PARTITION_METADATA_FILE);
                Err(StorageError::Corrupt { path, what })
            }
        }
    }

    fn open_segments(&self, contents: &FolderContents) -> Result<Vec<Arc<Segment>>, StorageError> {
        let open = |&base_offset: &i64| {
            let now_ms = self.options.now_ms;
            let opened = Segment::open(&self.file_system, self.folder, base_offset, now_ms);
            let path = segment_file(self.folder, base_offset, ".log");
            opened.map(Arc::new).map_err(StorageError::io("open", &path))
        };
        contents.base_offsets.iter().map(open).collect()
    }

    /// The epochs in their file, or else those of all batches; and whether the file is to be
    /// written.
    fn load_epochs(&self, segments: &[Arc<Segment>]) -> Result<(LeaderEpochs, bool), StorageError> {
        let what = match read_epochs(&self.file_system, self.folder)? {
            Content::Found(epochs) => return Ok((epochs, false)),
            Content::Missing if segments.is_empty() => return Ok((LeaderEpochs::default(), false)),
            Content::Missing => "it is missing".to_owned(),
            Content::Damaged(what) => what,
        };
        info!(folder = %self.folder.display(), %what, "making the leader epoch file anew");
        let mut epochs = LeaderEpochs::default();
        for segment in segments {
            let length = segment.file().length().map_err(segment.error("read"))?;
            let mut scan = BatchScan::new(segment.file(), 0, length, SEQUENTIAL_PIECE_BYTES);
            // Where the batches stop being whole is for the real recovery to say.
            while let Ok(Some(batch)) = scan.next_batch() {
                note_epoch(&mut epochs, &batch.header);
            }
        }
        Ok((epochs, true))
    }

    /// Takes the segments of which all is known to be on disk. Returns the first other.
    fn adopt_checked(&self, segments: &[Arc<Segment>]) -> Result<usize, StorageError> {
        for (number, segment) in segments.iter().enumerate() {
            let Some(next) = segments.get(number + 1) else {
                return Ok(number);
            };
            let end_offset = next.base_offset();
            if !self.options.was_clean && end_offset > self.options.recovery_point {
                return Ok(number);
            }
            segment.adopt(end_offset).map_err(segment.error("open"))?;
            if !self.has_sane_indexes(segment, end_offset)? {
                info!(file = %segment.file().path().display(), "making the indexes anew");
                self.rebuild_indexes(segment, end_offset)?;
            }
        }
        Ok(segments.len())
    }

    /// Whether a closed segment's indexes can be its own.
    fn has_sane_indexes(&self, segment: &Segment, end_offset: i64) -> Result<bool, StorageError> {
        let (size, has_offsets, has_times) = {
            let state = segment.state().read();
            let is_sane = state
                .offset_index
                .is_sane(state.size)
                .and_then(|is_sane| Ok(is_sane && state.time_index.is_sane(end_offset)?));
            if !is_sane.map_err(segment.error("read the indexes of"))? {
                return Ok(false);
            }
            (state.size, state.offset_index.count() > 0, state.time_index.count() > 0)
        };
        if has_offsets && has_times {
            return Ok(true);
        }
        // An empty one is right only if there was nothing to index.
        let interval = u64::from(self.config.index_interval_bytes);
        let mut scan = BatchScan::new(segment.file(), 0, size, LOOKUP_PIECE_BYTES);
        let invalid = |error: ScanError| error.into_storage_error(segment.file());
        while let Some(batch) = scan.next_batch().map_err(invalid)? {
            let lacks_offset = !has_offsets && batch.position > interval;
            let has_record = batch.header.records_count > 0;
            let lacks_time = !has_times && has_record && batch.header.max_timestamp >= 0;
            if lacks_offset || lacks_time {
                return Ok(false);
            }
            if has_times && batch.position > interval {
                break;
            }
        }
        Ok(true)
    }

    fn rebuild_indexes(&self, segment: &Segment, end_offset: i64) -> Result<(), StorageError> {
        {
            let mut state = segment.state().write();
            let size = state.size;
            state.reset(segment.base_offset()).map_err(segment.error("reset the indexes of"))?;
            let mut scan = BatchScan::new(segment.file(), 0, size, SEQUENTIAL_PIECE_BYTES);
            let invalid = |error: ScanError| error.into_storage_error(segment.file());
            while let Some(batch) = scan.next_batch().map_err(invalid)? {
                let interval = self.config.index_interval_bytes;
                let noted = state.note_batch(&batch.header, batch.position, interval);
                noted.map_err(segment.error("index"))?;
            }
            state.end_offset = end_offset;
        }
        segment.seal().and_then(|()| segment.sync_indexes()).map_err(segment.error("index"))
    }

    /// Takes or reads the segments from `first` on, and works out the producers.
    fn read_unchecked(
        &self,
        segments: &mut Vec<Arc<Segment>>,
        first: usize,
        appender: &mut Appender,
        epochs: &mut LeaderEpochs,
    ) -> Result<(), StorageError> {
        let Some(first_segment) = segments.get(first).cloned() else { return Ok(()) };
        let resumed = self.options.was_clean && self.try_resume(&first_segment)?;
        let known_end = match resumed {
            true => first_segment.end_offset(),
            false => first_segment.base_offset(),
        };
        self.drop_snapshots(appender, |offset| offset > known_end)?;
        let (from, producers) =
            newest_snapshot(&self.file_system, self.folder, &mut appender.snapshots)?;
        let transactions = Transactions::of(&producers);
        let mut rebuild = ProducerRebuild { producers, transactions };
        let replayed =
            if resumed { segments.as_slice() } else { segments.get(..first).unwrap_or(&[]) };
        for segment in super::log_reader::segments_from(replayed, from) {
            rebuild.replay(segment, from)?;
        }
        let mut number = if resumed { segments.len() } else { first };
        while let Some(segment) = segments.get(number).cloned() {
            if number > first {
                self.snapshot(appender, segment.base_offset(), &rebuild.producers)?;
            }
            let is_whole = self.rescan(&segment, &mut rebuild, epochs)?;
            number += 1;
            let is_whole = is_whole && !self.lost_its_end(&segment, segments.get(number));
            if !is_whole {
                self.remove_segments(segments.get(number..).unwrap_or_default())?;
                segments.truncate(number);
            } else if number < segments.len() {
                segment.seal().map_err(segment.error("close the indexes of"))?;
            }
        }
        if !resumed {
            self.file_system
                .sync_folder(self.folder)
                .map_err(StorageError::io("flush", self.folder))?;
        }
        appender.producers = rebuild.producers;
        Ok(())
    }

    /// Takes the segment that was written to last as a clean stop left it. Returns whether it is
    /// so.
    fn try_resume(&self, segment: &Segment) -> Result<bool, StorageError> {
        let length = segment.file().length().map_err(segment.error("read"))?;
        let is_sane = {
            let state = segment.state().read();
            // What the offset index lacks is found by reading on from its last entry; what the time
            // index lacks is not.
            let has_times = state.time_index.count() > 0 || state.offset_index.count() == 0;
            let is_sane = state.offset_index.is_sane(length).and_then(|is_sane| {
                Ok(is_sane && has_times && state.time_index.is_sane(i64::MAX)?)
            });
            is_sane.map_err(segment.error("read the indexes of"))?
        };
        if !is_sane {
            return Ok(false);
        }
        match segment.resume(self.config.index_interval_bytes) {
            Ok(()) => Ok(true),
            Err(error @ StorageError::Io { .. }) => Err(error),
            Err(error) => {
                warn!(%error, "the newest segment is not as a clean stop leaves it");
                Ok(false)
            }
        }
    }

    /// Reads a segment from its beginning, checks what is behind the recovery point, and cuts it
    /// where it is not whole. Returns whether it was.
    fn rescan(
        &self,
        segment: &Segment,
        rebuild: &mut ProducerRebuild,
        epochs: &mut LeaderEpochs,
    ) -> Result<bool, StorageError> {
        let length = segment.file().length().map_err(segment.error("read"))?;
        {
            let mut state = segment.state().write();
            state.reset(segment.base_offset()).map_err(segment.error("reset the indexes of"))?;
            let path = segment_file(self.folder, segment.base_offset(), ".txnindex");
            let aborted = AbortedIndex::create(&self.file_system, &path);
            state.aborted = aborted.map_err(StorageError::io("reset", &path))?;
        }
        let mut scan = BatchScan::new(segment.file(), 0, length, SEQUENTIAL_PIECE_BYTES);
        let failure = loop {
            match self.next_checked(&mut scan, segment) {
                Ok(None) => break None,
                Err(ScanError::Io(source)) => return Err(segment.error("read")(source)),
                Err(ScanError::Invalid { position, what }) => break Some((position, what)),
                Ok(Some(batch)) => self.take(segment, &batch, rebuild, epochs)?,
            }
        };
        if let Some((position, what)) = &failure {
            self.cut(segment, *position, length, what)?;
        }
        segment.sync_data().map_err(segment.error("flush"))?;
        Ok(failure.is_none())
    }

    /// Whether a segment ends before the next one begins: what was not synced of a file may be lost
    /// to the last byte, and leaves no trace in it. What comes later must go then too, or the log
    /// would have a hole. (Who makes gaps on purpose, by compaction, moves the recovery point
    /// first.)
    fn lost_its_end(&self, segment: &Segment, next: Option<&Arc<Segment>>) -> bool {
        let (end_offset, Some(next)) = (segment.end_offset(), next) else { return false };
        if self.options.was_clean || self.options.recovery_point_is_lost {
            // Any gap may be one that compaction made.
            return false;
        }
        let gap = next.base_offset().saturating_sub(end_offset);
        let is_hole = gap != 0 && gap <= i64::from(i32::MAX);
        if is_hole {
            let (file, next) = (segment.file().path().display(), next.base_offset());
            warn!(%file, end_offset, next, "the end of a segment was not completely written");
        }
        is_hole
    }

    fn next_checked(
        &self,
        scan: &mut BatchScan<'_>,
        segment: &Segment,
    ) -> Result<Option<ScannedBatch>, ScanError> {
        let Some(batch) = scan.next_batch()? else { return Ok(None) };
        let position = batch.position;
        let invalid = |what: String| Err(ScanError::Invalid { position, what });
        let (end_offset, can_hold) = {
            let state = segment.state().read();
            (state.end_offset, state.offset_index.can_hold(batch.header.last_offset()))
        };
        if batch.header.base_offset < end_offset || !can_hold {
            return invalid(format!(
                "a record batch of offset {} follows offset {}",
                batch.header.base_offset,
                end_offset - 1
            ));
        }
        if batch.header.last_offset() >= self.options.recovery_point
            && !scan.has_right_crc(&batch)?
        {
            return invalid(format!("the CRC of the batch of offset {}", batch.header.base_offset));
        }
        Ok(Some(batch))
    }

    fn take(
        &self,
        segment: &Segment,
        batch: &ScannedBatch,
        rebuild: &mut ProducerRebuild,
        epochs: &mut LeaderEpochs,
    ) -> Result<(), StorageError> {
        note_epoch(epochs, &batch.header);
        let aborted = rebuild.note(segment, batch)?;
        let interval = self.config.index_interval_bytes;
        let noted = segment.state().write().note_batch(&batch.header, batch.position, interval);
        noted.map_err(segment.error("index"))?;
        match aborted {
            Some(entry) => segment.append_aborted(entry).map_err(segment.error("index")),
            None => Ok(()),
        }
    }

    fn cut(
        &self,
        segment: &Segment,
        position: u64,
        length: u64,
        what: &str,
    ) -> Result<(), StorageError> {
        let path = segment.file().path();
        let end_offset = segment.end_offset();
        if end_offset < self.options.recovery_point {
            return Err(StorageError::Corrupt {
                path: path.to_owned(),
                what: format!(
                    "{what}, at byte {position}, offset {end_offset}: it was on disk, up to offset \
                     {}; restore the file, or remove the folder to fetch it from another replica",
                    self.options.recovery_point
                ),
            });
        }
        warn!(
            file = %path.display(), position, bytes = length - position, end_offset, what,
            "cutting off what was not completely written"
        );
        segment.file().set_length(position).map_err(segment.error("truncate"))
    }

    fn remove_segments(&self, segments: &[Arc<Segment>]) -> Result<(), StorageError> {
        for segment in segments.iter().rev() {
            let base_offset = segment.base_offset();
            let path = segment.file().path();
            warn!(file = %path.display(), "removing a segment after the log's end");
            for suffix in [".log", ".index", ".timeindex", ".txnindex", ".snapshot"] {
                let path = segment_file(self.folder, base_offset, suffix);
                self.file_system.remove(&path).map_err(StorageError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    fn snapshot(
        &self,
        appender: &mut Appender,
        offset: i64,
        producers: &Producers,
    ) -> Result<(), StorageError> {
        producer_snapshot::write(&self.file_system, self.folder, offset, producers)?;
        appender.snapshots.insert(offset);
        appender.unsynced_snapshots.insert(offset);
        Ok(())
    }

    fn drop_snapshots(
        &self,
        appender: &mut Appender,
        is_unwanted: impl Fn(i64) -> bool,
    ) -> Result<(), StorageError> {
        let unwanted: Vec<i64> =
            appender.snapshots.iter().copied().filter(|&offset| is_unwanted(offset)).collect();
        for offset in unwanted {
            appender.snapshots.remove(&offset);
            appender.unsynced_snapshots.remove(&offset);
            let path = snapshot_file(self.folder, offset);
            self.file_system.remove(&path).map_err(StorageError::io("remove", &path))?;
        }
        Ok(())
    }

    /// Keeps a snapshot for each segment, as rolling makes them, and that of the log's end.
    fn drop_stray_snapshots(
        &self,
        appender: &mut Appender,
        segments: &[Arc<Segment>],
        end: i64,
    ) -> Result<(), StorageError> {
        let bases: BTreeSet<i64> = segments.iter().map(|segment| segment.base_offset()).collect();
        self.drop_snapshots(appender, |offset| offset != end && !bases.contains(&offset))
    }
}

fn note_epoch(epochs: &mut LeaderEpochs, header: &BatchHeader) {
    let leader_epoch = header.partition_leader_epoch;
    if epochs.latest().is_none_or(|latest| leader_epoch > latest.leader_epoch) {
        epochs.assign(leader_epoch, header.base_offset);
    }
}

/// The newest snapshot that is not damaged, and its offset; nobody at the very start if there is
/// none. Damaged ones are removed.
pub(super) fn newest_snapshot(
    file_system: &FileSystem,
    folder: &Path,
    snapshots: &mut BTreeSet<i64>,
) -> Result<(i64, Producers), StorageError> {
    while let Some(&offset) = snapshots.last() {
        match producer_snapshot::read(file_system, folder, offset)? {
            Ok(producers) => return Ok((offset, producers)),
            Err(what) => {
                let path = snapshot_file(folder, offset);
                warn!(file = %path.display(), %what, "a producer snapshot is damaged, removing it");
                file_system.remove(&path).map_err(StorageError::io("remove", &path))?;
                snapshots.remove(&offset);
            }
        }
    }
    Ok((0, Producers::default()))
}

/// The producers, being worked out from batches.
#[derive(Debug, Default)]
pub(super) struct ProducerRebuild {
    pub producers: Producers,
    pub transactions: Transactions,
}

impl ProducerRebuild {
    /// Takes account of the batches of a segment from an offset on.
    pub fn replay(&mut self, segment: &Segment, from: i64) -> Result<(), StorageError> {
        let invalid = |error: ScanError| error.into_storage_error(segment.file());
        let Some(first) = segment.find_batch(from).map_err(invalid)? else { return Ok(()) };
        let size = segment.size();
        let mut scan = BatchScan::new(segment.file(), first.position, size, SEQUENTIAL_PIECE_BYTES);
        while let Some(batch) = scan.next_batch().map_err(invalid)? {
            self.note(segment, &batch)?;
        }
        Ok(())
    }

    /// Takes account of a batch. Returns the transaction that it aborts.
    fn note(
        &mut self,
        segment: &Segment,
        batch: &ScannedBatch,
    ) -> Result<Option<AbortedEntry>, StorageError> {
        let header = &batch.header;
        if !header.has_producer_id() {
            return Ok(None);
        }
        let marker = match header.is_control() {
            true => {
                let bytes = read_batch(segment.file(), batch).map_err(segment.error("read"))?;
                find_marker(&bytes).map_err(|error| StorageError::Corrupt {
                    path: segment.file().path().to_owned(),
                    what: format!("{error}, in the control batch at byte {}", batch.position),
                })?
            }
            false => None,
        };
        let entry = self.producers.entry(header.producer_id);
        match note_batch(entry, header, marker.as_ref()) {
            None => Ok(None),
            Some(TransactionChange::Began { first_offset }) => {
                self.transactions.begin(first_offset, header.producer_id);
                Ok(None)
            }
            Some(TransactionChange::Ended(completed)) => {
                let last_stable_offset = self.transactions.complete(&completed);
                Ok(completed.aborted.then_some(AbortedEntry {
                    producer_id: completed.producer_id,
                    first_offset: completed.first_offset,
                    last_offset: completed.last_offset,
                    last_stable_offset,
                }))
            }
        }
    }
}
