//! Snapshots for members that lack what is not in memory any more. They go in pieces, one at a
//! time; the follower says which it needs next, so that a transfer goes on where it broke off.

use bytes::Bytes;
use ottla_common::types::MemberId;

use super::membership::is_sound;
use super::progress::ProgressState;
use super::{ChunkReceived, ChunkWanted, MessageKind, NUMBER_MAX, Raft, SnapshotMeta};

/// A snapshot that is being received.
#[derive(Debug)]
pub struct Receiving {
    from: MemberId,
    index: u64,
    term: u64,
    size: u64,
    /// So much is there.
    received: u64,
}

impl Receiving {
    fn is_whole(&self) -> bool {
        self.received == self.size
    }
}

impl Raft {
    /// What is older than the entry behind this one is not in memory. A snapshot to be sent must
    /// not be older.
    pub fn snapshot_index_min(&self) -> u64 {
        self.log.base_index()
    }

    /// The oldest snapshot that is being sent.
    pub(super) fn snapshot_being_sent(&self) -> Option<u64> {
        let progress = self.leading.iter().flat_map(|leading| leading.progress.values());
        let indexes = progress.filter_map(|progress| match &progress.state {
            ProgressState::Snapshot { meta, .. } => Some(meta.index),
            _ => None,
        });
        indexes.min()
    }

    /// The snapshot that a member will be sent, and the length of its file.
    pub fn snapshot_to_send(&mut self, to: MemberId, meta: SnapshotMeta, size: u64) {
        let (active_ms, min) = (self.now_ms, self.log.base_index());
        let Some(progress) = self.progress_of(to) else { return };
        let wanted = matches!(progress.state, ProgressState::SnapshotWanted { .. });
        if wanted && meta.index >= min && meta.index > progress.matched && size > 0 {
            progress.state = ProgressState::Snapshot { meta, size, offset: 0, active_ms };
            self.want_chunk(to);
        }
    }

    /// There is none, or it cannot be read. It is asked for again later.
    pub fn snapshot_unavailable(&mut self, to: MemberId) {
        let asked_ms = self.now_ms;
        if let Some(progress) = self.progress_of(to)
            && matches!(progress.state, ProgressState::Snapshot { .. })
        {
            progress.state = ProgressState::SnapshotWanted { asked_ms };
        }
    }

    fn want_chunk(&mut self, to: MemberId) {
        let (length_max, now_ms) = (self.config.snapshot_chunk_size, self.now_ms);
        let Self { leading: Some(leading), out, .. } = self else { return };
        let Some(progress) = leading.progress.get_mut(&to) else { return };
        let ProgressState::Snapshot { meta, size, offset, active_ms } = &mut progress.state else {
            return;
        };
        *active_ms = now_ms;
        let rest = usize::try_from(size.saturating_sub(*offset)).unwrap_or(usize::MAX);
        let length = rest.min(length_max.max(1));
        let wanted = ChunkWanted { to, index: meta.index, offset: *offset, length };
        out.chunks_wanted.retain(|other| other.to != to);
        out.chunks_wanted.push(wanted);
    }

    /// A piece that was wanted.
    pub fn send_chunk(&mut self, to: MemberId, index: u64, offset: u64, bytes: Bytes) {
        let header = self.header();
        let Self { leading: Some(leading), out, .. } = self else { return };
        let Some(progress) = leading.progress.get_mut(&to) else { return };
        if let ProgressState::Snapshot { meta, size, offset: next, .. } = &progress.state
            && (meta.index, *next) == (index, offset)
            && !bytes.is_empty()
        {
            let (meta, size) = (meta.clone(), *size);
            let kind = MessageKind::SnapshotChunk { meta, size, offset, bytes };
            out.messages.push(header.message(to, kind));
        }
    }

    /// As leader: what a follower has of a snapshot.
    pub(super) fn chunk_acked(&mut self, from: MemberId, acked: u64, next: u64, failed: bool) {
        let now_ms = self.now_ms;
        let Some(progress) = self.progress_of(from) else { return };
        let ProgressState::Snapshot { meta, size, offset, active_ms } = &mut progress.state else {
            return;
        };
        if meta.index != acked || next > *size {
            return;
        }
        if failed {
            progress.state = ProgressState::SnapshotWanted { asked_ms: now_ms };
            return;
        }
        if next == *offset {
            // That piece is on its way, or will be sent again after a while: to send it at once for
            // each answer would have the two talk without end, twice as much with each message that
            // arrives twice.
            return;
        }
        (*offset, *active_ms) = (next, now_ms);
        if next < *size {
            self.want_chunk(from);
        }
    }

    /// As leader: the follower has what the snapshot would have given it.
    pub(super) fn snapshot_overtaken(&mut self, id: MemberId) {
        let base_index = self.log.base_index();
        let Some(progress) = self.progress_of(id) else { return };
        let overtaken = match &progress.state {
            ProgressState::SnapshotWanted { .. } => progress.matched >= base_index,
            ProgressState::Snapshot { meta, .. } => progress.matched >= meta.index,
            _ => false,
        };
        if overtaken {
            progress.probe(0);
            progress.matches(progress.matched);
        }
    }

    /// As leader: asks again for what did not come.
    pub(super) fn tick_snapshots(&mut self) {
        let (now_ms, patience_ms) = (self.now_ms, self.config.election_timeout_ms);
        let Self { leading: Some(leading), out, config, .. } = self else { return };
        let mut again = Vec::new();
        for (id, progress) in &mut leading.progress {
            let alive = progress.is_alive(now_ms, patience_ms);
            match &mut progress.state {
                ProgressState::SnapshotWanted { asked_ms } if now_ms >= *asked_ms + patience_ms => {
                    *asked_ms = now_ms;
                    out.snapshots_wanted.push(*id);
                }
                ProgressState::Snapshot { size, offset, active_ms, .. }
                    if alive && now_ms >= *active_ms + patience_ms =>
                {
                    if offset == size {
                        // It is being loaded there, or was forgotten: the answer will tell.
                        *offset = size.saturating_sub(config.snapshot_chunk_size.max(1) as u64);
                    }
                    again.push(*id);
                }
                _ => {}
            }
        }
        for id in again {
            self.want_chunk(id);
        }
    }

    /// Whether a snapshot has arrived and is being loaded. Its log is about to go.
    pub(super) fn is_installing(&self) -> bool {
        self.receiving.as_ref().is_some_and(Receiving::is_whole)
    }

    /// As follower: a piece of a snapshot.
    pub(super) fn chunk_arrived(
        &mut self,
        (from, meta, size): (MemberId, SnapshotMeta, u64),
        offset: u64,
        bytes: Bytes,
    ) {
        let end = offset.saturating_add(bytes.len() as u64);
        let sound = meta.index < NUMBER_MAX && meta.term <= self.hard.term;
        if bytes.is_empty() || end > size || !sound || !is_sound(&meta.membership) {
            return;
        }
        if self.is_installing() {
            return self.acknowledge_chunk(from, meta.index);
        }
        if self.has_entry_of(&meta) {
            self.verified = self.verified.max(meta.index);
            self.follow_commit(meta.index);
            let kind = MessageKind::Appended { match_index: self.verified };
            return self.send_after_persist(from, kind);
        }
        let key = (from, meta.index, meta.term, size);
        let same = |one: &&Receiving| (one.from, one.index, one.term, one.size) == key;
        let expected = self.receiving.as_ref().filter(same).map_or(0, |one| one.received);
        if offset == expected {
            let (index, term) = (meta.index, meta.term);
            self.receiving = Some(Receiving { from, index, term, size, received: end });
            let last = end == size;
            let chunk = ChunkReceived { from, meta: meta.clone(), offset, bytes, last, size };
            self.out.chunks_received.push(chunk);
        } else if expected == 0 {
            self.receiving = None;
        }
        self.acknowledge_chunk(from, meta.index);
    }

    fn has_entry_of(&self, meta: &SnapshotMeta) -> bool {
        meta.index <= self.log.commit() || self.log.term(meta.index) == Some(meta.term)
    }

    fn acknowledge_chunk(&mut self, to: MemberId, index: u64) {
        let receiving = self.receiving.as_ref().filter(|one| one.index == index);
        let offset = receiving.map_or(0, |one| one.received);
        self.send(to, MessageKind::SnapshotAck { index, offset, failed: false });
    }

    /// What was received is whole, durable and loaded, and the log begins behind it.
    pub fn snapshot_installed(&mut self, meta: SnapshotMeta, now_ms: u64) {
        self.advance_clock(now_ms);
        self.receiving = None;
        if meta.index <= self.log.commit() {
            return;
        }
        let before = self.log.commit();
        self.log.reset(meta.index, meta.term);
        self.persistence.truncate(0);
        self.hard.cluster_id = self.hard.cluster_id.or(meta.membership.cluster_id);
        self.memberships.truncate(before + 1);
        self.memberships.push(meta.index, meta.membership);
        self.memberships.forget_before(meta.index);
        self.verified = meta.index;
        if let Some(leader_id) = self.leader_id {
            self.send(leader_id, MessageKind::Appended { match_index: meta.index });
        }
    }

    /// What was received cannot be used.
    pub fn snapshot_failed(&mut self, index: u64) {
        if let Some(receiving) = self.receiving.take_if(|one| one.index == index) {
            let kind = MessageKind::SnapshotAck { index, offset: 0, failed: true };
            self.send(receiving.from, kind);
        }
    }
}
