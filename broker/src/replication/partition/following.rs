//! What a partition does as follower: append what its leader sends, cut what the leader does not
//! have.
//!
//! A follower cuts its log only upon an answer of a leader of the epoch that it believes in, and
//! only as far back as the two logs part (KIP-101, KIP-279, KIP-595); never to its high watermark.

use bytes::Bytes;
use ottla_common::clock::wall_time_ms;
use ottla_common::kafka::record_batch::batches;
use ottla_common::types::BrokerId;

use super::{FlushSignal, Partition, Role};
use crate::replication::divergence::{DivergingEpoch, cut_offset};
use crate::replication::leadership::Ends;
use crate::storage::error::{AppendError, StorageError};

/// Why what a leader sent was not taken.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The role has changed since the leader was asked.
    #[error("this broker does not follow in leader epoch {0} any more")]
    NotFollowing(i32),
    /// The records, or the disk.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What a leader sent of a partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The leader epoch in which it was asked.
    pub leader_epoch: i32,
    /// Whole batches, perhaps some that are here already.
    pub records: Bytes,
    /// The leader's high watermark.
    pub high_watermark: i64,
    /// Where the leader's log starts.
    pub log_start_offset: i64,
}

/// Where a follower goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowPosition {
    /// How far its log reaches.
    pub ends: Ends,
    /// Where it starts.
    pub log_start_offset: i64,
    /// The epoch of its last record; -1 if it has none.
    pub last_fetched_epoch: i32,
    /// What it knows to be committed.
    pub high_watermark: i64,
}

impl Partition {
    /// Whom this broker follows, and in which leader epoch; `None` if it leads, or if nobody does.
    pub fn follows(&self) -> Option<(BrokerId, i32)> {
        match &*self.role.read() {
            Role::Follower { leader_epoch, leader } => Some(((*leader)?, *leader_epoch)),
            Role::Leader { .. } => None,
        }
    }

    /// Where to go on fetching.
    pub fn follow_position(&self) -> FollowPosition {
        let offsets = self.log().offsets();
        FollowPosition {
            ends: Ends { log_end_offset: offsets.end, flushed_offset: offsets.flushed },
            log_start_offset: offsets.start,
            last_fetched_epoch: self.log().latest_leader_epoch().unwrap_or(-1),
            high_watermark: offsets.high_watermark,
        }
    }

    /// Is called whenever more of the log is on disk; `None` ends that.
    pub fn on_flushed(&self, signal: Option<FlushSignal>) {
        *self.flush_signal.lock() = signal;
    }

    fn following<T>(
        &self,
        leader_epoch: i32,
        act: impl FnOnce() -> Result<T, FollowError>,
    ) -> Result<T, FollowError> {
        let role = self.role.read();
        match &*role {
            Role::Follower { leader_epoch: known, .. } if *known == leader_epoch => act(),
            _ => Err(FollowError::NotFollowing(leader_epoch)),
        }
    }

    /// Appends what the leader sent and learns what is committed. Asks the disk to take it, if that
    /// is what counts.
    ///
    /// # Errors
    /// If the role has changed, or the records do not continue the log, or the disk fails.
    pub fn append_fetched(&self, fetched: Fetched) -> Result<(), FollowError> {
        let Fetched { leader_epoch, records, high_watermark, log_start_offset } = fetched;
        self.following(leader_epoch, || {
            let records = without_known(records, self.log().log_end_offset())?;
            if !records.is_empty() {
                let info = self.log().append_as_follower(records, wall_time_ms())?;
                if self.needs_disk() || info.flush_due {
                    self.request_flush();
                }
            }
            let known = self.log().high_watermark();
            let high_watermark = self.log().set_high_watermark(high_watermark);
            if high_watermark > known {
                self.waiters.advanced(high_watermark);
            }
            // A start beyond what is known to be committed here comes with a later answer.
            self.log().advance_log_start_offset(log_start_offset)?;
            Ok(())
        })
    }

    /// Cuts what the leader does not have.
    ///
    /// # Errors
    /// If the role has changed, or the disk fails.
    pub fn truncate_diverging(
        &self,
        leader_epoch: i32,
        diverging: DivergingEpoch,
    ) -> Result<(), FollowError> {
        self.following(leader_epoch, || {
            let offset =
                cut_offset(diverging, |epoch| self.log().end_offset_for_leader_epoch(epoch));
            let offset = offset.unwrap_or_else(|| self.log().log_start_offset());
            Ok(self.log().truncate_to(offset)?)
        })
    }

    /// Starts anew where the leader's log starts: what the leader still has begins behind this
    /// log's end.
    ///
    /// # Errors
    /// If the role has changed, or the disk fails.
    pub fn start_over_at(&self, leader_epoch: i32, offset: i64) -> Result<(), FollowError> {
        self.following(leader_epoch, || Ok(self.log().truncate_fully_and_start_at(offset)?))
    }
}

/// The records from the first batch on that is not known yet. Batches are known as a whole: the end
/// of a follower's log is the end of one.
fn without_known(records: Bytes, log_end_offset: i64) -> Result<Bytes, AppendError> {
    let mut known_size = 0;
    for batch in batches(records.clone()) {
        let batch = batch.map_err(|error| AppendError::CorruptMessage(error.to_string()))?;
        if batch.header.next_offset() > log_end_offset {
            break;
        }
        known_size += batch.bytes.len();
    }
    Ok(records.slice(known_size.min(records.len())..))
}
