//! What a partition does as leader: append, commit, take account of followers, change its ISR.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use ottla_common::clock::wall_time_ms;
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::types::BrokerId;
use tokio::time::Instant;

use super::reading::FollowerNews;
use super::{ACKS_ALL, AppendRefused, AppendRequest, Appended, Partition, Role, check_epoch};
use crate::limits::UNFLUSHED_SIZE_MAX;
use crate::replication::divergence::LogEnd;
use crate::replication::leadership::{
    Ends, FetchRefused, FollowerFetch, Leadership, Outcome, Proposal,
};
use crate::replication::settings::{Durability, PartitionSettings};
use crate::storage::log::{AppendInfo, AppendOrigin, LeaderAppend, ProducerDescription};

/// What a follower's fetch says of its log.
#[derive(Clone, Copy, Debug)]
pub struct FollowerPosition {
    /// Who fetches, and in which of its lives.
    pub follower: (BrokerId, i64),
    /// The leader epoch that it believes in.
    pub current_leader_epoch: i32,
    /// The epoch of its last record; -1 if it has none.
    pub last_fetched_epoch: i32,
    /// How far its log reaches.
    pub ends: Ends,
    /// When, by the monotonic clock.
    pub now_ms: u64,
}

/// What moves the ISR of a leader.
pub struct IsrRound<'a> {
    /// The time of the monotonic clock.
    pub now_ms: u64,
    /// `replica.lag.time.max.ms`.
    pub lag_time_max_ms: u64,
    /// Whether a broker, in that life of its, is there and stays.
    pub is_welcome: &'a dyn Fn(BrokerId, i64) -> bool,
}

impl Partition {
    /// Appends records as the leader. Their order is fixed when it returns;
    /// [`Partition::committed`] tells when they are safe.
    pub fn append(&self, request: AppendRequest) -> Result<Appended, AppendRefused> {
        self.append_from(AppendOrigin::Client, None, request)
    }

    /// Appends this broker's own records, to be committed by all in-sync replicas, if it still
    /// leads in `expected_leader_epoch`.
    pub fn append_own(
        &self,
        records: Bytes,
        expected_leader_epoch: i32,
    ) -> Result<Appended, AppendRefused> {
        let request = AppendRequest { records, acks: ACKS_ALL };
        self.append_from(AppendOrigin::Coordinator, Some(expected_leader_epoch), request)
    }

    fn append_from(
        &self,
        origin: AppendOrigin,
        expected_leader_epoch: Option<i32>,
        request: AppendRequest,
    ) -> Result<Appended, AppendRefused> {
        let settings = self.settings();
        let refused = |code| AppendRefused::new(code, self.log().log_start_offset());
        let role = self.role.read();
        let Role::Leader { leader_epoch, life, leadership, .. } = &*role else {
            return Err(refused(ErrorCode::NotLeaderOrFollower));
        };
        let (leader_epoch, life) = (*leader_epoch, *life);
        if expected_leader_epoch.is_some_and(|expected| expected != leader_epoch) {
            return Err(refused(ErrorCode::NotLeaderOrFollower));
        }
        if !(self.shared.lease)(life) {
            // Another may lead already.
            return Err(refused(ErrorCode::NotLeaderOrFollower));
        }
        if request.acks == ACKS_ALL && leadership.lock().in_sync_count() < settings.min_insync {
            return Err(refused(ErrorCode::NotEnoughReplicas));
        }
        let append = LeaderAppend { leader_epoch, origin, now_ms: wall_time_ms() };
        let info = self
            .log()
            .append_as_leader(request.records, append)
            .map_err(|error| AppendRefused::from_storage(error, self.log().log_start_offset()))?;
        drop(role);
        self.tell_followers(FollowerNews::MoreToSend);
        self.ask_for_commit(&info, settings.durability, request.acks);
        Ok(Appended {
            base_offset: info.first_offset,
            last_offset: info.last_offset,
            log_append_time_ms: info.log_append_time_ms,
            log_start_offset: info.log_start_offset,
            leader_epoch,
        })
    }

    /// Sees to it that what was appended is committed as soon as somebody wants it.
    fn ask_for_commit(&self, info: &AppendInfo, durability: Durability, acks: i16) {
        let is_disk_awaited = match durability {
            Durability::PageCache => {
                self.advance();
                false
            }
            Durability::Disk => {
                acks == ACKS_ALL
                    || self.waiters.has_readers()
                    || self.is_far_ahead_of_the_disk(info.size_bytes)
            }
        };
        if is_disk_awaited || info.flush_due {
            self.unflushed_size.store(0, Ordering::Relaxed);
            self.request_flush();
        }
    }

    /// Whether so much has been written without anybody waiting for it that the first who does
    /// would wait long.
    fn is_far_ahead_of_the_disk(&self, appended_size: usize) -> bool {
        let before = self.unflushed_size.fetch_add(appended_size, Ordering::Relaxed);
        before + appended_size >= UNFLUSHED_SIZE_MAX
    }

    /// Waits until everything before `end_offset`, as appended in `leader_epoch`, is committed.
    ///
    /// [`ErrorCode::RequestTimedOut`] at the deadline, [`ErrorCode::NotLeaderOrFollower`] if the
    /// leadership is lost meanwhile, [`ErrorCode::KafkaStorageError`] if the disk fails.
    pub async fn committed(
        &self,
        (end_offset, leader_epoch): (i64, i32),
        deadline: Instant,
    ) -> Result<(), ErrorCode> {
        if self.is_committed(end_offset, leader_epoch)? {
            return Ok(());
        }
        let waiter = self.waiters.commit(end_offset);
        if self.is_committed(end_offset, leader_epoch)? {
            return Ok(());
        }
        if self.log().dir().offline_reason().is_some() {
            return Err(ErrorCode::KafkaStorageError);
        }
        waiter.wait(deadline).await
    }

    /// Whether everything before `end_offset`, as appended in `leader_epoch`, is committed.
    ///
    /// [`ErrorCode::NotLeaderOrFollower`] if this broker has not led without a break since: other
    /// records may stand there now.
    pub fn is_committed(&self, end_offset: i64, leader_epoch: i32) -> Result<bool, ErrorCode> {
        match &*self.role.read() {
            Role::Leader { since_epoch, leadership, .. } if *since_epoch <= leader_epoch => {
                Ok(leadership.lock().high_watermark() >= end_offset)
            }
            _ => Err(ErrorCode::NotLeaderOrFollower),
        }
    }

    /// Moves the high watermark to what the replicas' ends allow, and wakes who waited for it. A
    /// leader whose lease has run out moves nothing.
    pub(super) fn advance(&self) {
        let role = self.role.read();
        let Role::Leader { leadership, life, .. } = &*role else { return };
        if !(self.shared.lease)(*life) {
            return;
        }
        let mut leadership = leadership.lock();
        let Some(offset) = leadership.advance(self.ends(), self.settings()) else { return };
        self.log().set_high_watermark(offset);
        drop(leadership);
        drop(role);
        self.waiters.advanced(offset);
        self.tell_followers(FollowerNews::MoreCommitted);
    }

    /// Takes account of a follower's fetch. Returns whether the follower should be in the ISR.
    ///
    /// # Errors
    /// If the fetch does not count; the follower is told so.
    pub fn follower_fetched(&self, position: FollowerPosition) -> Result<bool, ErrorCode> {
        let FollowerPosition { follower: (broker_id, broker_epoch), ends, now_ms, .. } = position;
        let durability = self.settings().durability;
        let wants_to_join = {
            let role = self.role.read();
            let Role::Leader { leader_epoch, leadership, .. } = &*role else {
                return Err(ErrorCode::NotLeaderOrFollower);
            };
            if position.current_leader_epoch < 0 {
                // Consumers may leave it out. A position counts in the epoch that it was told in.
                return Err(ErrorCode::UnknownLeaderEpoch);
            }
            check_epoch(*leader_epoch, position.current_leader_epoch)?;
            let known = LogEnd { offset: ends.log_end_offset, epoch: position.last_fetched_epoch };
            if !self.has_prefix(known) {
                // What it has beyond where the logs part says nothing of what it has of this one.
                return Ok(false);
            }
            let fetch = FollowerFetch { broker_id, broker_epoch, ends, now_ms };
            let mut leadership = leadership.lock();
            leadership.fetched(fetch, self.log().log_end_offset(), durability).map_err(
                |refused| match refused {
                    FetchRefused::NotAReplica => ErrorCode::NotLeaderOrFollower,
                    FetchRefused::StaleBrokerEpoch => ErrorCode::StaleBrokerEpoch,
                },
            )?;
            leadership.should_join(broker_id, durability)
        };
        self.advance();
        Ok(wants_to_join)
    }

    fn with_leadership<T>(
        &self,
        act: impl FnOnce(&mut Leadership, PartitionSettings) -> T,
    ) -> Option<T> {
        match &*self.role.read() {
            Role::Leader { leadership, .. } => Some(act(&mut leadership.lock(), self.settings())),
            Role::Follower { .. } => None,
        }
    }

    /// The change of the ISR that is due, if this broker leads; it counts as under way.
    pub fn propose_isr(&self, round: &IsrRound<'_>) -> Option<Proposal> {
        if !self.leads_for_sure() {
            return None;
        }
        let times = (round.now_ms, round.lag_time_max_ms);
        let ends = self.ends();
        let propose = |leadership: &mut Leadership, settings| {
            leadership.propose(times, (ends, settings), round.is_welcome)
        };
        self.with_leadership(propose).flatten()
    }

    /// Takes account of what came of a proposal.
    pub fn resolve_isr(&self, proposal: &Proposal, outcome: Outcome) {
        self.with_leadership(|leadership, _| {
            if leadership.leader_epoch() == proposal.state.leader_epoch {
                leadership.resolve(proposal, outcome);
            }
        });
        self.advance();
    }

    /// The followers in the ISR, each with where its log ends; none if this broker does not lead.
    pub fn in_sync_followers(&self) -> Vec<(BrokerId, i64)> {
        self.with_leadership(|leadership, _| leadership.in_sync_followers()).unwrap_or_default()
    }

    /// Whether what is sent to this follower is throttled: it is not in sync.
    pub fn is_throttled_for(&self, follower: BrokerId) -> bool {
        self.throttled.0.load(Ordering::Relaxed)
            && self.isr().is_some_and(|isr| !isr.contains(&follower))
    }

    /// The members of the ISR, if this broker leads.
    pub fn isr(&self) -> Option<Vec<BrokerId>> {
        self.with_leadership(|leadership, _| leadership.isr().to_vec())
    }

    /// Forgets the records before `offset`; -1 means all that are committed. Returns the new start.
    pub fn delete_records_before(&self, offset: i64) -> Result<i64, ErrorCode> {
        if !self.is_leader() {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        let target = if offset == -1 { self.high_watermark() } else { offset };
        if target < 0 {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        match self.with_log(|log| log.advance_log_start_offset(target)) {
            Ok(Some(log_start_offset)) => {
                self.tell_followers(FollowerNews::MoreToSend);
                Ok(log_start_offset)
            }
            Ok(None) => Err(ErrorCode::OffsetOutOfRange),
            Err(error) => {
                tracing::error!(partition = %self.topic_partition, %error, "delete records failed");
                Err(ErrorCode::KafkaStorageError)
            }
        }
    }

    /// The producers whose sequences the log remembers.
    pub fn active_producers(&self) -> Vec<ProducerDescription> {
        self.log().active_producers()
    }
}
