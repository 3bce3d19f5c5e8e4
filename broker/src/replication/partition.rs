//! One partition of this broker: its role, its log, and who waits for it. [`leading`] is what it
//! does as leader, [`following`] as follower, [`reading`] what clients and followers read.
//!
//! The order of effects is fixed by the log's own lock: when [`Partition::append`] returns, the
//! records have their offsets. What may change meanwhile is the role; an append, of a leader as of
//! a follower, holds the role's lock for reading, so that it has either finished or not begun when
//! the role changes.

pub mod following;
pub mod leading;
mod moving;
mod reading;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::types::{BrokerId, TopicId, TopicPartition};
use parking_lot::{Mutex, RwLock};

use super::follower_session::{FollowerSession, Key};
use super::leadership::{Beginning, Ends, Leadership};
use super::settings::{Durability, PartitionSettings};
use super::waiting::Waiters;
use crate::metadata::image::PartitionImage;
use crate::storage::error::StorageError;
use crate::storage::log::Log;
use crate::storage::log_manager::LogManager;

pub use super::outcome::{
    AppendRefused, AppendRequest, Appended, FoundOffset, Isolation, PartitionRead, ReadRefused,
    ReadRequest, Reader,
};
pub use following::FollowError;
pub use moving::MoveStep;
use reading::FollowerNews;

/// `acks` of a produce that waits for all in-sync replicas.
pub const ACKS_ALL: i16 = -1;

/// Whether this broker can prove that it is still in the life of this broker epoch, since the
/// session that it registered with is alive, so that no other leader can have been elected that it
/// has not been told of.
pub type Lease = Arc<dyn Fn(i64) -> bool + Send + Sync>;

/// Is told when a follower's log has more on disk, so that the leader is told soon.
pub type FlushSignal = Arc<dyn Fn() + Send + Sync>;

/// What all partitions of a broker share.
pub struct Shared {
    /// This broker.
    pub broker_id: BrokerId,
    /// The owner of the logs.
    pub logs: Arc<LogManager>,
    /// Whether it may lead.
    pub lease: Lease,
}

/// A partition whose replica is on this broker.
pub struct Partition {
    topic_partition: TopicPartition,
    topic_id: TopicId,
    /// Replaced when the replica moves to another log directory.
    log: ArcSwap<Log>,
    shared: Arc<Shared>,
    role: RwLock<Role>,
    settings: ArcSwap<PartitionSettings>,
    waiters: Arc<Waiters>,
    /// Whether its replica here is throttled, as leader and as follower, while one is not in sync.
    throttled: (AtomicBool, AtomicBool),
    /// Bytes appended since the disk was last asked to take them.
    unflushed_size: AtomicUsize,
    /// As a follower.
    flush_signal: Mutex<Option<FlushSignal>>,
    /// As a leader: the sessions of the followers.
    watching: Mutex<Vec<(Weak<FollowerSession>, Key)>>,
}

enum Role {
    Leader {
        /// The first epoch of this broker's leaderships without a break. What was appended since
        /// then is still in the log.
        since_epoch: i32,
        leader_epoch: i32,
        /// The broker epoch in which it was told that it leads.
        life: i64,
        leadership: Box<Mutex<Leadership>>,
    },
    Follower {
        leader_epoch: i32,
        leader: Option<BrokerId>,
    },
}

impl Role {
    fn leader_epoch(&self) -> i32 {
        match self {
            Self::Leader { leader_epoch, .. } | Self::Follower { leader_epoch, .. } => {
                *leader_epoch
            }
        }
    }
}

/// What a partition is made from.
pub struct PartitionParts {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Its topic's identity.
    pub topic_id: TopicId,
    /// Its log.
    pub log: Arc<Log>,
    /// What it shares with the others.
    pub shared: Arc<Shared>,
    /// How it commits.
    pub settings: PartitionSettings,
}

impl Partition {
    /// A partition that nobody leads yet.
    pub fn new(parts: PartitionParts) -> Arc<Self> {
        let PartitionParts { topic_partition, topic_id, log, shared, settings } = parts;
        let partition = Arc::new(Self {
            topic_partition,
            topic_id,
            log: ArcSwap::new(log),
            shared,
            role: RwLock::new(Role::Follower { leader_epoch: -1, leader: None }),
            settings: ArcSwap::from_pointee(settings),
            waiters: Arc::default(),
            throttled: Default::default(),
            unflushed_size: AtomicUsize::new(0),
            flush_signal: Mutex::default(),
            watching: Mutex::default(),
        });
        partition.listen_to(&partition.log());
        partition
    }

    fn listen_to(self: &Arc<Self>, log: &Log) {
        let listener: Weak<Self> = Arc::downgrade(self);
        log.on_flush(Arc::new(move |_flushed_offset| {
            if let Some(partition) = listener.upgrade() {
                partition.flushed();
            }
        }));
    }

    /// The partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// Its topic's identity.
    pub fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    /// Its log, as it is now: it is another one once the replica has moved to another directory.
    pub fn log(&self) -> Arc<Log> {
        self.log.load_full()
    }

    /// How it commits.
    pub fn settings(&self) -> PartitionSettings {
        **self.settings.load()
    }

    /// The epoch of the leader that this broker knows.
    pub fn leader_epoch(&self) -> i32 {
        self.role.read().leader_epoch()
    }

    /// Whether this broker leads it.
    pub fn is_leader(&self) -> bool {
        self.leadership().is_some()
    }

    /// Whether this broker leads it and can prove that nobody else does.
    fn leads_for_sure(&self) -> bool {
        match &*self.role.read() {
            Role::Leader { life, .. } => (self.shared.lease)(*life),
            Role::Follower { .. } => false,
        }
    }

    /// The leader epoch in which this broker leads it, if it does.
    pub fn leadership(&self) -> Option<i32> {
        match &*self.role.read() {
            Role::Leader { leader_epoch, .. } => Some(*leader_epoch),
            Role::Follower { .. } => None,
        }
    }

    /// Takes over new settings, from the next append on.
    pub fn configure(&self, settings: PartitionSettings) {
        self.settings.store(Arc::new(settings));
        self.advance();
    }

    /// Throttles what is sent from here to followers that are not in sync, and what is fetched
    /// here.
    pub fn throttle(&self, as_leader: bool, as_follower: bool) {
        self.throttled.0.store(as_leader, Ordering::Relaxed);
        self.throttled.1.store(as_follower, Ordering::Relaxed);
    }

    /// Whether what is fetched here is throttled, while this replica is not in sync.
    pub fn is_throttled_as_follower(&self) -> bool {
        self.throttled.1.load(Ordering::Relaxed)
    }

    /// Takes the role that the image says, in this broker's life `broker_epoch` (`None`: it is not
    /// registered). An image that is older than what this partition knows changes nothing; an ISR
    /// change of the same leader epoch keeps the leadership as it is.
    ///
    /// A leadership of an earlier life is not taken up again: this broker may have lost the end of
    /// its log since, of which others have fetched, and would write other records at the same
    /// offsets in the same leader epoch. The controller elects anew whoever has registered since.
    pub fn apply(
        &self,
        state: &PartitionImage,
        broker_epoch: Option<i64>,
    ) -> Result<(), StorageError> {
        let mut role = self.role.write();
        if state.leader_epoch < role.leader_epoch() {
            return Ok(());
        }
        let is_named = state.leader == Some(self.shared.broker_id);
        let life = broker_epoch.filter(|epoch| *epoch <= state.state_mzxid.0);
        let Some(life) = life.filter(|_| is_named) else {
            let was_leader = matches!(*role, Role::Leader { .. });
            let leader = state.leader.filter(|_| !is_named);
            *role = Role::Follower { leader_epoch: state.leader_epoch, leader };
            drop(role);
            if was_leader {
                self.waiters.fail(ErrorCode::NotLeaderOrFollower);
                self.tell_followers(FollowerNews::MoreToSend);
            }
            return Ok(());
        };
        match &mut *role {
            Role::Leader { leader_epoch, leadership, life: known, .. }
                if *leader_epoch == state.leader_epoch =>
            {
                *known = life;
                leadership.lock().update(state);
            }
            Role::Leader { since_epoch, .. } => {
                let since_epoch = *since_epoch;
                *role = self.begin_to_lead(state, life, since_epoch)?;
            }
            Role::Follower { .. } => {
                *role = self.begin_to_lead(state, life, state.leader_epoch)?;
            }
        }
        drop(role);
        self.advance();
        self.shared.logs.flusher().request(&self.log());
        Ok(())
    }

    fn begin_to_lead(
        &self,
        state: &PartitionImage,
        life: i64,
        since_epoch: i32,
    ) -> Result<Role, StorageError> {
        self.log().assign_leader_epoch(state.leader_epoch)?;
        let beginning = Beginning {
            broker_id: self.shared.broker_id,
            epoch_start_offset: self.log().log_end_offset(),
            high_watermark: self.log().high_watermark(),
        };
        let leadership = Box::new(Mutex::new(Leadership::begin(beginning, state)));
        Ok(Role::Leader { since_epoch, leader_epoch: state.leader_epoch, life, leadership })
    }

    /// Takes the partition out of service: everyone who waits is told to look elsewhere.
    pub fn retire(&self) {
        let mut role = self.role.write();
        *role = Role::Follower { leader_epoch: role.leader_epoch(), leader: None };
        drop(role);
        self.waiters.fail(ErrorCode::NotLeaderOrFollower);
        self.tell_followers(FollowerNews::MoreToSend);
    }

    /// The partition's disk has failed: everyone who waits is told so.
    pub fn disk_failed(&self) {
        self.waiters.fail(ErrorCode::KafkaStorageError);
    }

    /// Checks the leader epoch that a client believes in (KIP-320); -1 is not checked.
    pub fn check_leader_epoch(&self, current_leader_epoch: i32) -> Result<(), ErrorCode> {
        check_epoch(self.leader_epoch(), current_leader_epoch)
    }

    /// How far this replica's log reaches.
    fn ends(&self) -> Ends {
        let offsets = self.log().offsets();
        Ends { log_end_offset: offsets.end, flushed_offset: offsets.flushed }
    }

    /// The first offset that is not committed, as far as this replica knows.
    pub fn high_watermark(&self) -> i64 {
        match &*self.role.read() {
            Role::Leader { leadership, .. } => leadership.lock().high_watermark(),
            Role::Follower { .. } => self.log().high_watermark(),
        }
    }

    /// The first offset that `read_committed` may not see.
    pub fn last_stable_offset(&self) -> i64 {
        self.log().last_stable_offset()
    }

    /// The first offset that may be read.
    pub fn log_start_offset(&self) -> i64 {
        self.log().log_start_offset()
    }

    /// The offset that the next record will get.
    pub fn log_end_offset(&self) -> i64 {
        self.log().log_end_offset()
    }

    /// More of the log is on disk. With page-cache durability that matters too: an append that saw
    /// the topic's earlier durability may wait for it, and nobody else tells it.
    fn flushed(&self) {
        self.advance();
        let signal = self.flush_signal.lock().clone();
        if let Some(signal) = signal {
            signal();
        }
    }

    /// Asks the disk to take what was appended.
    fn request_flush(&self) {
        self.shared.logs.flusher().request(&self.log());
    }

    fn needs_disk(&self) -> bool {
        self.settings.load().durability == Durability::Disk
    }
}

/// Checks the leader epoch that somebody believes in against the one that is known.
fn check_epoch(known: i32, current_leader_epoch: i32) -> Result<(), ErrorCode> {
    match current_leader_epoch {
        ..0 => Ok(()),
        epoch if epoch < known => Err(ErrorCode::FencedLeaderEpoch),
        epoch if epoch > known => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}
