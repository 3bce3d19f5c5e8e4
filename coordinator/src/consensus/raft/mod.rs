//! Raft without disk, network, clock or threads: a state that messages, time and proposals change,
//! and that says what to do next. The same calls with the same seed always give the same.
//!
//! **What the caller does.** It calls [`Raft::tick`] about every 20 ms, [`Raft::step`] for each
//! message, and after those, or after several of them, [`Raft::ready`] until that has nothing more.
//! For each [`Ready`]:
//!
//! 1. It sends `messages` at once, each peer's in this order. Messages may get lost.
//! 2. It makes `hard_state` and `entries` durable. If the first entry's index is not behind the end
//!    of the log on disk, the log is cut before it. The next `Ready` may be fetched and begun
//!    meanwhile; several may be made durable by one flush, in their order.
//! 3. When that and all before it is durable (at once, if nothing is on its way to the disk), it
//!    sends `messages_after_persist` and calls [`Raft::persisted`] with the number. A number stands
//!    for all below it; for a `Ready` without `hard_state` and `entries` there need be no call.
//! 4. It applies `committed` in order and calls [`Raft::applied`], now and then. These entries are
//!    committed and durable here. Entries of kind `Blank` and `Membership` are among them.
//! 5. It answers `reads` when the index they name is applied.
//! 6. For each of `snapshots_wanted` it calls [`Raft::snapshot_to_send`] with a snapshot whose
//!    index is not below [`Raft::snapshot_index_min`], taking a new one if it must, or
//!    [`Raft::snapshot_unavailable`]. For each of `chunks_wanted` it reads the piece and calls
//!    [`Raft::send_chunk`]; one that cannot be read is answered by `snapshot_unavailable`.
//! 7. It writes `chunks_received` aside. After the last one, and after all that was to be made
//!    durable before, it makes the snapshot durable, loads it, empties the log so that it begins
//!    behind the snapshot, and calls [`Raft::snapshot_installed`]; or [`Raft::snapshot_failed`].
//! 8. It tells of `role` to whom it concerns. What was proposed and not applied when another leads
//!    may still happen, or never.
//! 9. It calls [`Raft::compact`] when a snapshot of its own is durable, [`Raft::peer_unreachable`]
//!    when a connection is lost, and [`Raft::disk_stalled`] when a flush takes longer than the
//!    election timeout.
//! 10. `now_ms` comes from a clock that is never set, and that goes on while the process is
//!     stopped. [`Raft::holds_lease`] and [`Raft::request_read`] are given the time of the call.
//! 11. It lets in any peer that has proved who it is and belongs to the same ensemble, also one
//!     that this member does not know yet. The core itself ignores who is not known to it.
//!
//! | file | subject |
//! |---|---|
//! | `election.rs` | who leads: pre-vote, votes, the followers' patience |
//! | `formation.rs` | members with empty folders: a new ensemble, or data lost |
//! | `replication.rs` | how entries get to followers and are committed |
//! | `progress.rs`, `log.rs`, `quorum.rs` | a follower as its leader sees it; the log; majorities |
//! | `persistence.rs` | what is on its way to the disk |
//! | `heartbeat.rs` | heartbeats, the leader's lease, the check of the quorum |
//! | `read_index.rs` | reads that are as new as their request |
//! | `transfer.rs` | leadership handed over |
//! | `membership.rs`, `readmission.rs` | changes of the members; those that had lost their data |
//! | `snapshot.rs` | snapshots for members that lack too much |

mod election;
mod face;
mod formation;
mod heartbeat;
mod log;
mod membership;
pub mod message;
mod persistence;
mod progress;
mod quorum;
mod read_index;
mod readmission;
mod replication;
pub mod seeded_bugs;
mod snapshot;
#[cfg(test)]
mod tests;
mod transfer;

use std::collections::BTreeMap;

use bytes::Bytes;
pub use face::*;
pub use message::{Message, MessageKind};
use ottla_common::types::{MemberId, Uuid};

use self::election::{Campaign, Patience};
use self::formation::Formation;
use self::log::Log;
use self::membership::Memberships;
use self::persistence::Persistence;
use self::progress::Progress;
use self::read_index::PendingReads;
use self::snapshot::Receiving;
use self::transfer::Transfer;
pub use crate::storage::hard_state::{HardState, Standing};
pub use crate::storage::membership::{Member, MemberRole, Membership, SnapshotMeta};
pub use crate::storage::wal_record::{Entry, EntryKind};

/// Terms and indexes beyond this are not believed: they leave room to count on.
const NUMBER_MAX: u64 = 1 << 62;

/// One member's part in the consensus.
#[derive(Debug)]
pub struct Raft {
    config: RaftConfig,
    hard: HardState,
    leader_id: Option<MemberId>,
    /// While it asks for votes.
    campaign: Option<Campaign>,
    /// While it leads.
    leading: Option<Leading>,
    patience: Patience,
    formation: Formation,
    log: Log,
    memberships: Memberships,
    persistence: Persistence,
    /// The log is equal to that of the leader of this term up to here.
    verified: u64,
    receiving: Option<Receiving>,
    /// The newest time that was told.
    now_ms: u64,
    random: fastrand::Rng,
    /// No flush has ended since the disk was said to have stalled.
    disk_is_stalled: bool,
    out: Ready,
    role_told: Option<RoleChange>,
}

/// What only a leader has.
#[derive(Debug)]
struct Leading {
    /// All members but this one, and those that leave.
    progress: BTreeMap<MemberId, Progress>,
    /// Its first entry. When that is committed, it knows all that is.
    first_index: u64,
    elected_ms: u64,
    /// The newest round of heartbeats.
    round: u64,
    /// A round is to be sent at once.
    round_wanted: bool,
    heartbeat_due_ms: u64,
    /// The lease counts only with answers to this round or later.
    lease_from_round: u64,
    reads: PendingReads,
    transfer: Option<Transfer>,
    /// What was last thought of the lease; only a mistake believes it.
    lease_believed: bool,
}

/// What all messages of this moment have in common.
#[derive(Clone, Copy, Debug)]
struct Header {
    from: MemberId,
    term: u64,
    cluster_id: Option<Uuid>,
}

impl Header {
    fn message(self, to: MemberId, kind: MessageKind) -> Message {
        let Self { from, term, cluster_id } = self;
        Message { from, to, term, cluster_id, kind }
    }
}

impl Raft {
    /// A member that starts with what its disk held.
    pub fn new(config: RaftConfig, restored: Restored, now_ms: u64) -> Self {
        let Restored { hard_state, snapshot, membership, entries } = restored;
        let used = hard_state.term > 0 || snapshot.is_some() || !entries.is_empty();
        let base_index = snapshot.as_ref().map_or(0, |meta| meta.index);
        let memberships = Memberships::new(base_index, membership, &entries);
        let log = Log::new(snapshot.as_ref(), entries);
        let seed = config.seed;
        let mut raft = Self {
            config,
            hard: hard_state,
            leader_id: None,
            campaign: None,
            leading: None,
            patience: Patience::default(),
            formation: Formation::new(now_ms),
            verified: log.commit(),
            log,
            memberships,
            persistence: Persistence::new(hard_state),
            receiving: None,
            now_ms,
            random: fastrand::Rng::with_seed(seed),
            disk_is_stalled: false,
            out: Ready::default(),
            role_told: None,
        };
        raft.take_standing(used);
        raft.begin_patience();
        raft
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64) {
        self.advance_clock(now_ms);
        self.tick_formation();
        if self.leading.is_some() {
            self.tick_leader();
        } else {
            self.tick_election();
        }
    }

    fn advance_clock(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// A message has come.
    pub fn step(&mut self, message: Message, now_ms: u64) {
        self.advance_clock(now_ms);
        let from = message.from;
        if from == self.config.member_id || message.to != self.config.member_id {
            return;
        }
        let foreign =
            message.cluster_id.zip(self.hard.cluster_id).is_some_and(|(one, other)| one != other);
        if foreign || message.term >= NUMBER_MAX {
            return;
        }
        // A member that the others have not let in yet asks who they are, too.
        if let MessageKind::Greeting { standing, blank } = message.kind {
            return self.greeted(from, standing, blank);
        }
        if !self.knows(from) {
            return;
        }
        match message.kind {
            MessageKind::GreetingResponse { standing, blank, members } => {
                self.greeting_answered(from, (standing, blank), &members);
            }
            MessageKind::PreVote { campaign_term, last_index, last_term } => {
                self.asked_for_pre_vote(from, campaign_term, (last_index, last_term));
            }
            MessageKind::Vote { last_index, last_term, transfer_round } => {
                self.asked_for_vote((from, message.term), (last_index, last_term), transfer_round);
            }
            kind => self.step_in_term(from, message.term, kind),
        }
    }

    /// Messages that say that a term has begun.
    fn step_in_term(&mut self, from: MemberId, term: u64, kind: MessageKind) {
        let from_leader = matches!(
            kind,
            MessageKind::Append { .. }
                | MessageKind::Heartbeat { .. }
                | MessageKind::Committed { .. }
                | MessageKind::SnapshotChunk { .. }
        );
        // Who is asked for a pre-vote may not have come to the sender's term, and says yes.
        let is_behind = term < self.hard.term;
        if is_behind && !matches!(kind, MessageKind::PreVoteResponse { .. }) {
            if from_leader {
                // It learns of the newer term, and that it does not lead any more.
                self.refuse_append(from, 0, (0, 0));
            }
            return;
        }
        if term > self.hard.term {
            self.become_follower(term);
        }
        if from_leader {
            if !self.follow(from) {
                return;
            }
            return self.step_from_leader(from, kind);
        }
        match kind {
            MessageKind::PreVoteResponse { campaign_term, granted } => {
                self.pre_vote_answered(from, campaign_term, granted);
            }
            MessageKind::VoteResponse { granted } => self.vote_answered(from, granted),
            MessageKind::TimeoutNow { round } => self.told_to_campaign(from, round),
            kind => self.step_from_follower(from, kind),
        }
    }

    fn step_from_leader(&mut self, from: MemberId, kind: MessageKind) {
        match kind {
            MessageKind::Append { prev_index, prev_term, commit_index, entries } => {
                self.append(from, (prev_index, prev_term), entries);
                self.follow_commit(commit_index);
            }
            MessageKind::Heartbeat { commit_index, round, sent_ms, last_index } => {
                self.heartbeat(from, (round, sent_ms), last_index);
                self.follow_commit(commit_index);
            }
            MessageKind::Committed { commit_index } => self.follow_commit(commit_index),
            MessageKind::SnapshotChunk { meta, size, offset, bytes } => {
                self.chunk_arrived((from, meta, size), offset, bytes);
            }
            _ => {}
        }
    }

    fn step_from_follower(&mut self, from: MemberId, kind: MessageKind) {
        match kind {
            MessageKind::Appended { match_index } => self.appended(from, match_index),
            MessageKind::AppendRefused { prev_index, hint_index, hint_term } => {
                self.append_refused(from, prev_index, (hint_index, hint_term));
            }
            MessageKind::HeartbeatResponse {
                round,
                sent_ms,
                match_index,
                verified_index,
                standing,
            } => {
                let (sent, has) = ((round, sent_ms), (match_index, verified_index));
                self.heartbeat_answered(from, sent, has, standing);
            }
            MessageKind::SnapshotAck { index, offset, failed } => {
                self.chunk_acked(from, index, offset, failed);
            }
            _ => {}
        }
    }

    /// Whether a member's word counts here: it is in the ensemble, was or is about to be, or
    /// somebody who is has named it.
    fn knows(&self, id: MemberId) -> bool {
        let progress =
            self.leading.as_ref().is_some_and(|leading| leading.progress.contains_key(&id));
        progress || self.memberships.hold(id) || self.formation.was_introduced(id)
    }

    fn header(&self) -> Header {
        let HardState { term, cluster_id, .. } = self.hard;
        Header { from: self.config.member_id, term, cluster_id }
    }

    fn send(&mut self, to: MemberId, kind: MessageKind) {
        let message = self.header().message(to, kind);
        self.out.messages.push(message);
    }

    fn send_after_persist(&mut self, to: MemberId, kind: MessageKind) {
        let message = self.header().message(to, kind);
        self.out.messages_after_persist.push(message);
    }

    fn not_leader(&self) -> NotLeader {
        let leader_id = self.leader_id.filter(|leader_id| *leader_id != self.config.member_id);
        NotLeader { leader_id }
    }

    /// Leaves whatever it was; in a new term, without a vote.
    fn become_follower(&mut self, term: u64) {
        if term > self.hard.term {
            (self.hard.term, self.hard.vote) = (term, None);
            self.patience.heard_round = 0;
        }
        self.campaign = None;
        self.leader_id = None;
        self.verified = self.log.commit();
        if let Some(leading) = self.leading.take() {
            self.out.reads.extend(leading.reads.give_up());
            self.restart_patience();
        }
    }

    /// Takes `from` for the leader of this term, and has heard from it. False if that cannot be.
    fn follow(&mut self, from: MemberId) -> bool {
        if self.leading.is_some() {
            return false;
        }
        self.campaign = None;
        if self.leader_id != Some(from) {
            self.leader_id = Some(from);
            self.verified = self.log.commit();
            self.patience.heard_round = 0;
        }
        self.leader_heard();
        self.resolve_standing(from);
        true
    }

    /// Proposes commands. Returns the index of the first. While leadership is being handed over
    /// nothing is taken, and nobody is named as the leader: try again when one is known.
    pub fn propose(&mut self, payloads: Vec<Bytes>, time_ms: i64) -> Result<u64, NotLeader> {
        if self.leading.as_ref().is_none_or(|leading| leading.transfer.is_some()) {
            return Err(self.not_leader());
        }
        let first_index = self.log.last_index() + 1;
        for payload in payloads {
            self.append_own(EntryKind::Command, payload, time_ms);
        }
        Ok(first_index)
    }

    /// What there is to do. Ask until there is nothing.
    pub fn ready(&mut self, now_ms: u64) -> Option<Ready> {
        self.advance_clock(now_ms);
        self.proceed_as_leader();
        let committed = self.log.take_committed();
        for entry in committed.iter().filter(|entry| entry.kind == EntryKind::Membership) {
            self.membership_is_certain(entry.index);
        }
        self.regain_standing();
        let entries = self.log.take_unpersisted();
        let hard_state = self.persistence.hand_out(self.hard);
        let role = self.role_to_tell();
        let mut ready =
            Ready { committed, entries, hard_state, role, ..std::mem::take(&mut self.out) };
        let persists = ready.hard_state.is_some() || !ready.entries.is_empty();
        if !persists && self.persistence.is_idle() {
            ready.messages.append(&mut ready.messages_after_persist);
        }
        if ready == Ready::default() {
            return None;
        }
        ready.number = self.persistence.number(persists.then(|| self.log.last_index()));
        Some(ready)
    }

    fn role_to_tell(&mut self) -> Option<RoleChange> {
        let term = self.hard.term;
        let role = match &self.leading {
            Some(_) => RoleChange::Leader { term },
            None => RoleChange::Follower { term, leader_id: self.leader_id },
        };
        // Terms in which nobody leads concern nobody.
        let unknown = |role| matches!(role, RoleChange::Follower { leader_id: None, .. });
        if self.role_told == Some(role) || (self.role_told.is_some_and(unknown) && unknown(role)) {
            return None;
        }
        self.role_told = Some(role);
        Some(role)
    }

    /// Everything up to `index` is applied.
    pub fn applied(&mut self, index: u64) {
        let wanted_from = self.snapshot_being_sent().unwrap_or(u64::MAX);
        self.log.applied_to(index, self.config.kept_entries_size_max, wanted_from);
    }

    /// A snapshot of this member is durable.
    pub fn compact(&mut self, meta: &SnapshotMeta) {
        self.memberships.forget_before(meta.index);
    }

    /// The membership in force.
    pub fn membership(&self) -> &Membership {
        self.memberships.newest().1
    }

    /// The membership that was in force at an entry, not older than the newest snapshot.
    pub fn membership_at(&self, index: u64) -> &Membership {
        self.memberships.at(index)
    }

    /// How things stand.
    pub fn status(&self) -> RaftStatus {
        let role = match (&self.leading, &self.campaign) {
            (Some(_), _) => Role::Leader,
            (None, Some(campaign)) if campaign.is_real() => Role::Candidate,
            (None, Some(_)) => Role::PreCandidate,
            (None, None) => Role::Follower,
        };
        let progress = self.leading.iter().flat_map(|leading| &leading.progress);
        let progress = progress.map(|(id, progress)| ProgressStatus {
            member_id: *id,
            match_index: progress.matched,
            next_index: progress.next,
            state: progress.state_name(),
            acked_ms: progress.acked_ms,
        });
        let transfer = self.leading.as_ref().and_then(|leading| leading.transfer.as_ref());
        RaftStatus {
            role,
            hard_state: self.hard,
            leader_id: self.leader_id,
            commit_index: self.log.commit(),
            applied_index: self.log.applied(),
            durable_index: self.log.durable(),
            last_index: self.log.last_index(),
            last_term: self.log.last_term(),
            membership: self.membership().clone(),
            transferring_to: transfer.map(|transfer| transfer.to),
            progress: progress.collect(),
        }
    }
}
