//! What a partition is asked by those who read: consumers, followers, and who looks for offsets.

use std::sync::{Arc, Weak};

use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::wire::{FileRegion, Records};

use super::{
    FoundOffset, Isolation, Partition, PartitionRead, ReadRefused, ReadRequest, Reader, Role,
};
use crate::replication::divergence::{DivergingEpoch, LogEnd, divergence, is_prefix};
use crate::replication::follower_session::{FollowerSession, Key};
use crate::replication::outcome;
use crate::replication::waiting::FetchWaiter;
use crate::storage::error::StorageError;
use crate::storage::log::Log;
use crate::storage::log_reader::{LogRead, LogReadError, LogReadRequest};

/// What followers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FollowerNews {
    /// There is more to send, or an error.
    MoreToSend,
    /// More is committed.
    MoreCommitted,
}

impl Partition {
    fn check_leads(&self, current_leader_epoch: i32) -> Result<(), ErrorCode> {
        self.check_leader_epoch(current_leader_epoch)?;
        if self.leads_for_sure() { Ok(()) } else { Err(ErrorCode::NotLeaderOrFollower) }
    }

    /// How far somebody may read.
    fn upper_bound(&self, reader: Reader) -> i64 {
        match reader {
            Reader::Consumer(Isolation::ReadUncommitted) => self.high_watermark(),
            Reader::Consumer(Isolation::ReadCommitted) => self.last_stable_offset(),
            Reader::Follower => self.log().log_end_offset(),
        }
    }

    /// Reads whole batches.
    pub fn read(&self, request: ReadRequest) -> Result<PartitionRead, ReadRefused> {
        self.with_log(|log| self.read_from(log, request))
    }

    fn read_from(&self, log: &Log, request: ReadRequest) -> Result<PartitionRead, ReadRefused> {
        let refused = |code| ReadRefused { code, high_watermark: -1, log_start_offset: -1 };
        if request.follower_allowed && self.follows().is_some() {
            self.check_leader_epoch(request.current_leader_epoch).map_err(refused)?;
        } else {
            self.check_leads(request.current_leader_epoch).map_err(refused)?;
        }
        let high_watermark = self.high_watermark();
        let last_stable_offset = self.last_stable_offset();
        let mut read = PartitionRead {
            high_watermark,
            last_stable_offset,
            log_start_offset: log.log_start_offset(),
            ..PartitionRead::default()
        };
        let end = LogEnd { offset: request.offset, epoch: request.last_fetched_epoch };
        if let Some(diverging) = self.divergence(end) {
            read.diverging_epoch = Some(diverging);
            return Ok(read);
        }
        let found = log.read(LogReadRequest {
            offset: request.offset,
            max_bytes: request.max_bytes,
            min_one_batch: request.min_one_batch,
            upper_bound: self.upper_bound(request.reader),
        });
        match found {
            Ok(found) => self
                .fill((&mut read, log), &request, found)
                .map_err(|_| refused(ErrorCode::KafkaStorageError)),
            Err(LogReadError::OffsetOutOfRange { log_start_offset, .. }) => Err(ReadRefused {
                code: ErrorCode::OffsetOutOfRange,
                high_watermark,
                log_start_offset,
            }),
            Err(LogReadError::Storage(error)) => {
                if !log.is_closed() {
                    tracing::error!(partition = %self.topic_partition, %error, "read the log");
                }
                Err(refused(ErrorCode::KafkaStorageError))
            }
        }?;
        Ok(read)
    }

    fn fill(
        &self,
        (read, log): (&mut PartitionRead, &Log),
        request: &ReadRequest,
        found: LogRead,
    ) -> Result<(), StorageError> {
        if request.reader == Reader::Consumer(Isolation::ReadCommitted) {
            let aborted = log.aborted_transactions(request.offset, found.next_offset)?;
            let pairs = aborted.into_iter().map(|txn| (txn.producer_id, txn.first_offset));
            read.aborted = Some(pairs.collect());
        }
        match found.region {
            Some(region) => {
                let (file, position, length) = (region.file, region.position, region.length);
                read.records = Records::File(FileRegion { file, position, length });
            }
            // The reader waits at the end of what is committed while more has been written: bring
            // it to disk for him.
            None if request.offset < log.log_end_offset() => {
                self.request_flush();
            }
            None => {}
        }
        Ok(())
    }

    /// Where the log of somebody who has everything before the given offset, the last of it of the
    /// given epoch, parts from this one, if it does.
    pub(super) fn divergence(&self, end: LogEnd) -> Option<DivergingEpoch> {
        divergence(end, |epoch| self.log().end_offset_for_leader_epoch(epoch))
    }

    /// Whether the log of a follower that ends so is the beginning of this one.
    pub(super) fn has_prefix(&self, end: LogEnd) -> bool {
        let log_end_offset = self.log().log_end_offset();
        is_prefix(end, log_end_offset, |epoch| self.log().end_offset_for_leader_epoch(epoch))
    }

    /// About how many bytes a reader at `offset` could get; cheap, for `min_bytes`.
    pub fn available_bytes(&self, offset: i64, reader: Reader) -> u64 {
        let upper_bound = self.upper_bound(reader);
        if offset >= upper_bound { 0 } else { self.log().bytes_between(offset, upper_bound) }
    }

    /// Wakes `waiter` when there is more to read for consumers, until it is dropped.
    pub fn watch(&self, waiter: &mut FetchWaiter) {
        waiter.register(&self.waiters);
        if self.log().log_end_offset() > self.high_watermark() {
            self.request_flush();
        }
    }

    /// Tells a follower's session when there is more to send, until it is gone.
    pub fn watch_as_leader(&self, session: &Arc<FollowerSession>, key: Key) {
        let mut watching = self.watching.lock();
        let is_known = watching
            .iter()
            .any(|(known, at)| *at == key && std::ptr::eq(known.as_ptr(), Arc::as_ptr(session)));
        if !is_known {
            watching.retain(|(known, _)| known.strong_count() > 0);
            watching.push((Arc::downgrade(session), key));
        }
    }

    /// Tells a follower's session no more.
    pub fn unwatch(&self, session: &Arc<FollowerSession>, key: Key) {
        let is_it =
            |known: &Weak<FollowerSession>| std::ptr::eq(known.as_ptr(), Arc::as_ptr(session));
        self.watching.lock().retain(|(known, at)| !(*at == key && is_it(known)));
    }

    /// Tells the sessions of followers.
    pub(super) fn tell_followers(&self, news: FollowerNews) {
        for (session, key) in self.watching.lock().iter() {
            match (session.upgrade(), news) {
                (Some(session), FollowerNews::MoreToSend) => session.mark(*key),
                (Some(session), FollowerNews::MoreCommitted) => session.mark_committed(*key),
                (None, _) => {}
            }
        }
    }

    /// Answers ListOffsets for one partition: a time, or one of its special values -1 to -6.
    pub fn list_offset(
        &self,
        timestamp: i64,
        isolation: Isolation,
    ) -> Result<Option<FoundOffset>, ErrorCode> {
        if !self.is_leader() {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        let end = match isolation {
            Isolation::ReadUncommitted => self.high_watermark(),
            Isolation::ReadCommitted => self.last_stable_offset(),
        };
        if end < self.log().log_end_offset() {
            self.request_flush();
        }
        // What earlier leaders committed may not be known to be committed here yet; an end below it
        // would seem to go back (KIP-207).
        let is_settled = self.has_caught_up_with_its_epoch();
        let at = |offset: i64, leader_epoch: Option<i32>| FoundOffset {
            offset,
            timestamp: -1,
            leader_epoch: leader_epoch.unwrap_or(-1),
        };
        let found = match timestamp {
            outcome::LATEST if !is_settled => return Err(ErrorCode::OffsetNotAvailable),
            outcome::LATEST => return Ok(Some(at(end, Some(self.leader_epoch())))),
            outcome::EARLIEST | outcome::EARLIEST_LOCAL => {
                let start = self.log().log_start_offset();
                return Ok(Some(at(start, self.log().leader_epoch_for_offset(start))));
            }
            outcome::MAX_TIMESTAMP => self.with_log(|log| log.offset_of_max_timestamp()),
            // Nothing is tiered, so there is no last tiered offset and none pending upload.
            ..0 => return Ok(None),
            timestamp => self.with_log(|log| log.offset_for_timestamp(timestamp)),
        };
        let found = found.map_err(|error| {
            tracing::error!(partition = %self.topic_partition, %error, "look up a timestamp");
            ErrorCode::KafkaStorageError
        })?;
        let found = found.filter(|found| found.offset < end);
        if found.is_none() && !is_settled {
            return Err(ErrorCode::OffsetNotAvailable);
        }
        Ok(found.map(|found| FoundOffset {
            offset: found.offset,
            timestamp: found.timestamp,
            leader_epoch: found.leader_epoch,
        }))
    }

    fn has_caught_up_with_its_epoch(&self) -> bool {
        match &*self.role.read() {
            Role::Leader { leadership, .. } => {
                let leadership = leadership.lock();
                leadership.high_watermark() >= leadership.epoch_start_offset()
            }
            Role::Follower { .. } => true,
        }
    }

    /// The largest leader epoch not above `leader_epoch` and where it ends; (-1, -1) if unknown.
    pub fn end_offset_for_leader_epoch(&self, leader_epoch: i32) -> (i32, i64) {
        self.log().end_offset_for_leader_epoch(leader_epoch)
    }
}
