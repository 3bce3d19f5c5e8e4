//! How entries get to followers, and when they are committed. A leader sends without waiting for
//! answers, and without waiting for its own disk; what a majority holds durably is committed, if an
//! entry of the leader's own term is among it.

use bytes::Bytes;
use ottla_common::types::MemberId;

use super::membership::membership_of;
use super::progress::{Probed, Progress, ProgressState};
use super::seeded_bugs::SeededBug;
use super::{Entry, EntryKind, MessageKind, NUMBER_MAX, Raft, quorum};

impl Raft {
    /// As leader: appends an entry of its term. The time never goes back.
    pub(super) fn append_own(&mut self, kind: EntryKind, payload: Bytes, time_ms: i64) -> u64 {
        let index = self.log.last_index() + 1;
        let time_ms = self.log.last_time_ms().map_or(time_ms, |last_ms| last_ms.max(time_ms));
        self.log.push(Entry { index, term: self.hard.term, time_ms, kind, payload });
        index
    }

    /// As leader: sends what may be sent.
    pub(super) fn send_appends(&mut self) {
        let header = self.header();
        let Self { leading: Some(leading), log, out, config, now_ms, .. } = self else { return };
        let (last_index, commit_index) = (log.last_index(), log.commit());
        for (id, progress) in &mut leading.progress {
            while progress.may_send(last_index, config.appends_in_flight_max) {
                let prev_index = progress.next - 1;
                let Some(prev_term) = log.term(prev_index) else {
                    progress.state = ProgressState::SnapshotWanted { asked_ms: *now_ms };
                    out.snapshots_wanted.push(*id);
                    break;
                };
                let entries = log.slice(progress.next, config.append_size_max);
                progress.sent(entries.len() as u64, commit_index, *now_ms);
                let kind = MessageKind::Append { prev_index, prev_term, commit_index, entries };
                out.messages.push(header.message(*id, kind));
            }
            if progress.wants_commit(commit_index) {
                progress.commit_sent = commit_index;
                out.messages.push(header.message(*id, MessageKind::Committed { commit_index }));
            }
        }
    }

    pub(super) fn refuse_append(&mut self, to: MemberId, prev_index: u64, hint: (u64, u64)) {
        let (hint_index, hint_term) = hint;
        self.send(to, MessageKind::AppendRefused { prev_index, hint_index, hint_term });
    }

    /// As follower: takes entries.
    pub(super) fn append(&mut self, from: MemberId, prev: (u64, u64), entries: Vec<Entry>) {
        let (prev_index, prev_term) = prev;
        if self.is_installing() || !is_sound(prev, self.hard.term, &entries) {
            return;
        }
        // What is not in memory any more is committed, and so the leader has the same.
        if prev_index >= self.log.base_index() && self.log.term(prev_index) != Some(prev_term) {
            let from_index = prev_index.min(self.log.last_index());
            let hint = self.log.newest_not_above(from_index, prev_term);
            return self.refuse_append(from, prev_index, hint);
        }
        let end = prev_index + entries.len() as u64;
        let is_new = |entry: &&Entry| {
            entry.index > self.log.base_index() && self.log.term(entry.index) != Some(entry.term)
        };
        if let Some(first_new) = entries.iter().find(is_new).map(|entry| entry.index) {
            if first_new <= self.log.commit() && !self.config.has(SeededBug::TruncateCommitted) {
                // No leader can ask for that.
                tracing::error!(%from, first_new, "a leader contradicts what is committed");
                return;
            }
            self.replace_from(first_new, entries);
        }
        self.verified = self.verified.max(end);
        let kind = MessageKind::Appended { match_index: self.verified };
        if self.config.has(SeededBug::AckBeforePersist) {
            self.send(from, kind);
        } else {
            self.send_after_persist(from, kind);
        }
    }

    /// Puts the entries from `first` on in place of what the log holds there.
    fn replace_from(&mut self, first: u64, entries: Vec<Entry>) {
        if first <= self.log.last_index() {
            self.log.truncate(first);
            self.persistence.truncate(first);
            self.memberships.truncate(first);
        }
        for entry in entries.into_iter().filter(|entry| entry.index >= first) {
            if entry.kind == EntryKind::Membership
                && let Some(membership) = membership_of(&entry)
            {
                self.memberships.push(entry.index, membership);
            }
            self.log.push(entry);
        }
    }

    /// As follower: the leader has committed up to here; what it has of that is equal up to
    /// `verified`.
    pub(super) fn follow_commit(&mut self, commit_index: u64) {
        self.log.commit_to(commit_index.min(self.verified));
    }

    /// As leader: a follower's log is equal up to here.
    pub(super) fn appended(&mut self, from: MemberId, match_index: u64) {
        let last_index = self.log.last_index();
        let Some(progress) = self.progress_of(from) else { return };
        if match_index > last_index {
            return;
        }
        let news = progress.matches(match_index);
        self.snapshot_overtaken(from);
        if news {
            self.advance_commit();
        }
    }

    /// As leader: a follower's log parts from this one somewhere before.
    pub(super) fn append_refused(
        &mut self,
        from: MemberId,
        prev_index: u64,
        (hint_index, hint_term): (u64, u64),
    ) {
        let Self { leading: Some(leading), log, .. } = self else { return };
        let Some(progress) = leading.progress.get_mut(&from) else { return };
        let current = match &progress.state {
            ProgressState::Probe { .. } => prev_index == progress.next - 1,
            ProgressState::Replicate { .. } => prev_index > progress.matched,
            _ => false,
        };
        if current && prev_index > 0 {
            let (equal, _) = log.newest_not_above(hint_index.min(prev_index - 1), hint_term);
            // What is older than memory may still be the follower's last: a snapshot will tell.
            let equal = if hint_index < log.base_index() { hint_index } else { equal };
            progress.refused_at(equal.min(prev_index - 1) + 1);
        }
    }

    pub(super) fn progress_of(&mut self, id: MemberId) -> Option<&mut Progress> {
        self.leading.as_mut().and_then(|leading| leading.progress.get_mut(&id))
    }

    /// As leader: commits what a majority holds durably.
    pub(super) fn advance_commit(&mut self) {
        let Some(leading) = &self.leading else { return };
        let own_id = self.config.member_id;
        let own = if self.config.has(SeededBug::LeaderCountsUnpersisted) {
            self.log.last_index()
        } else {
            self.log.durable()
        };
        let index = quorum::reached(self.membership(), |id| {
            let matched = leading.progress.get(&id).map_or(0, |progress| progress.matched);
            if id == own_id { own } else { matched }
        });
        let own_term = self.log.term(index) == Some(self.hard.term);
        if !own_term && !self.config.has(SeededBug::CommitOldTermByCount) {
            return;
        }
        let Some(before) = self.log.commit_to(index) else { return };
        let membership_index = self.memberships.newest().0;
        if membership_index > before && membership_index <= self.log.commit() {
            self.membership_committed();
        }
    }

    /// A connection is lost, and what was under way with it.
    pub fn peer_unreachable(&mut self, peer: MemberId) {
        let now_ms = self.now_ms;
        if let Some(progress) = self.progress_of(peer) {
            match &mut progress.state {
                ProgressState::Replicate { .. } => {
                    progress.probe(0);
                    // Not before it answers a heartbeat.
                    let end = progress.next - 1;
                    let sent = Some(Probed { sent_ms: now_ms, end });
                    progress.state = ProgressState::Probe { sent };
                }
                // The piece that was under way is sent again when it answers.
                ProgressState::Snapshot { active_ms, .. } => *active_ms = 0,
                _ => {}
            }
        }
    }
}

/// Whether entries from elsewhere can be what a leader of this term sends: without gaps, terms that
/// never fall, memberships that can be.
fn is_sound((prev_index, prev_term): (u64, u64), term: u64, entries: &[Entry]) -> bool {
    if prev_index >= NUMBER_MAX {
        return false;
    }
    let mut before = prev_term;
    let follow = (prev_index + 1..).zip(entries).all(|(index, entry)| {
        let rising = entry.term >= before && entry.index == index;
        before = entry.term;
        let sound = entry.kind != EntryKind::Membership || membership_of(entry).is_some();
        rising && sound
    });
    follow && before <= term
}
