//! What the parts of a member tell each other, and whoever asks, of how far they are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ottla_common::types::{MemberId, Uuid, Zxid};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::apply::ApplyQueue;
use super::node::Node;
use super::raft::{Membership, ProgressStatus, RaftStatus, Role, Standing};
use crate::metrics::Metrics;

/// Who leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The term.
    pub term: u64,
    /// The leader, if it is known.
    pub leader_id: Option<MemberId>,
}

/// How far everything is.
#[derive(Debug, Default)]
pub struct Progress {
    leadership: watch::Sender<Leadership>,
    raft: Mutex<Option<RaftStatus>>,
    /// Why the log failed, once it has.
    pub(super) failure: watch::Sender<Option<Arc<str>>>,
    pub(super) first_index: AtomicU64,
    pub(super) snapshot_index: AtomicU64,
    pub(super) log_size: AtomicU64,
    /// Where a snapshot can be asked for.
    pub(super) applier: OnceLock<ApplyQueue>,
    flushes: AtomicU64,
    flush_micros_total: AtomicU64,
    flush_micros_last: AtomicU64,
    pub(super) metrics: Arc<Metrics>,
}

/// The figures of a member's log, and its part in the ensemble.
#[derive(Clone, Debug, PartialEq)]
pub struct EnsembleStatus {
    /// The member that leads, if one is known.
    pub leader_id: Option<MemberId>,
    /// The term.
    pub term: u64,
    /// What this member does.
    pub role: Role,
    /// Whether it may vote.
    pub standing: Standing,
    /// Which ensemble it belongs to, once that is certain.
    pub cluster_id: Option<Uuid>,
    /// The members, as this member's log knows them.
    pub membership: Membership,
    /// On the leader: how far each other member is.
    pub progress: Vec<ProgressStatus>,
    /// The oldest record that is kept.
    pub first_index: u64,
    /// The newest record of the log, committed or not.
    pub last_index: u64,
    /// The newest record that is committed, as far as this member knows.
    pub committed_index: u64,
    /// The newest record that is applied.
    pub applied_index: u64,
    /// The record that the newest snapshot stands behind; 0 if there is none.
    pub snapshot_index: u64,
    /// About how many bytes the log takes on disk.
    pub log_size: u64,
    /// How often the log was flushed since the start.
    pub flushes: u64,
    /// How long that took in all, in microseconds.
    pub flush_micros_total: u64,
    /// How long the last time, in microseconds.
    pub flush_micros_last: u64,
    /// Why the log takes nothing more, if it has failed.
    pub failure: Option<Arc<str>>,
}

impl Progress {
    /// Nothing has happened yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..Self::default() }
    }

    /// Takes down how a node stands. `thoroughly` costs more.
    pub fn look(&self, node: &Node, thoroughly: bool) {
        let now = node.leadership();
        let has_changed = self.leadership.send_if_modified(|leadership| {
            let has_changed = *leadership != now;
            *leadership = now;
            has_changed
        });
        if has_changed && now.leader_id.is_some() {
            self.metrics.leader_changes.add_one();
        }
        if thoroughly || has_changed {
            *self.raft.lock() = Some(node.status());
        }
    }

    /// The member leads no more and follows nobody.
    pub fn ended(&self) {
        self.leadership.send_modify(|leadership| leadership.leader_id = None);
    }

    pub(super) fn flushed(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.flush_micros_total.fetch_add(micros, Ordering::Relaxed);
        self.flush_micros_last.store(micros, Ordering::Relaxed);
        self.metrics.flushes.observe_micros(micros);
    }

    pub(super) fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    pub(super) fn leader_id(&self) -> Option<MemberId> {
        let serves = self.failure.borrow().is_none();
        self.leadership.borrow().leader_id.filter(|_| serves)
    }

    pub(super) fn membership(&self) -> Membership {
        self.raft.lock().as_ref().map(|raft| raft.membership.clone()).unwrap_or_default()
    }

    pub(super) fn status(&self, applied: Zxid) -> EnsembleStatus {
        let raft = self.raft.lock().clone();
        let Leadership { term, leader_id } = *self.leadership.borrow();
        let applied_index = applied.0.unsigned_abs();
        let committed_index = raft.as_ref().map_or(0, |raft| raft.commit_index);
        let last_index = raft.as_ref().map_or(0, |raft| raft.last_index);
        let hard_state = raft.as_ref().map(|raft| raft.hard_state).unwrap_or_default();
        EnsembleStatus {
            leader_id,
            term,
            role: raft.as_ref().map_or(Role::Follower, |raft| raft.role),
            standing: hard_state.standing,
            cluster_id: hard_state.cluster_id,
            membership: raft.as_ref().map(|raft| raft.membership.clone()).unwrap_or_default(),
            progress: raft.map(|raft| raft.progress).unwrap_or_default(),
            first_index: self.first_index.load(Ordering::Relaxed),
            // The figures of raft are some milliseconds old.
            last_index: last_index.max(applied_index),
            committed_index: committed_index.max(applied_index),
            applied_index,
            snapshot_index: self.snapshot_index.load(Ordering::Relaxed),
            log_size: self.log_size.load(Ordering::Relaxed),
            flushes: self.flushes.load(Ordering::Relaxed),
            flush_micros_total: self.flush_micros_total.load(Ordering::Relaxed),
            flush_micros_last: self.flush_micros_last.load(Ordering::Relaxed),
            failure: self.failure.borrow().clone(),
        }
    }
}
