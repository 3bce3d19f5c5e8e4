//! What follows from what happened: what waits goes to who leads now, and what the raft core
//! demands becomes effects.

use super::super::messages::{OrderRefused, PeerMessage};
use super::super::raft::{Entry, EntryKind, ReadDone, Ready, RoleChange};
use super::{Effect, Node, Now, Persist};
use crate::limits::{BATCH_BYTES_MAX, PERSISTS_UNDER_WAY_MAX};
use crate::seeded_bugs::{MemberBug, has};
use crate::tree::Origin;

impl Node {
    /// Hands proposals to who leads.
    pub(super) fn append_and_forward(&mut self, now: Now) {
        if let Some(term) = self.leads() {
            // While the disk is busy, more come together and go with one flush.
            if self.under_way.len() < PERSISTS_UNDER_WAY_MAX {
                self.append(term, now);
            }
        } else if let Some(leader_id) = self.other_leader() {
            let messages = self.own.take_to_forward(self.term, now.monotonic_ms);
            self.send_all(leader_id, messages);
        }
    }

    fn append(&mut self, term: u64, now: Now) {
        let own = self.own.take_for_log(term);
        let own_size: usize = own.iter().map(|payload| payload.len()).sum();
        let others = self.forwarded.take_for_log(BATCH_BYTES_MAX.saturating_sub(own_size));
        if own.is_empty() && others.is_empty() {
            return;
        }
        let own_count = own.len();
        let payloads = own.into_iter().chain(others.iter().cloned()).collect();
        if self.raft.propose(payloads, now.wall_time_ms).is_err() {
            // Leadership is being handed over: when that fails, they are appended after all.
            self.own.put_back(own_count);
            self.forwarded.put_back(others);
        }
    }

    /// Tells the leader of sessions, and asks it how far to apply.
    pub(super) fn tell_and_ask(&mut self, now_ms: u64) {
        if self.leads().is_some() {
            if let Some(touch) = self.touches.take_touch(now_ms) {
                let number = touch.number;
                if let Some(refused) = self.touched(&touch, now_ms) {
                    self.touches.acked(number, &refused);
                }
            }
            if let Some(number) = self.barriers.take_question(now_ms) {
                // If it does not lead any more, it asks again who does.
                let _ = self.raft.request_read(number, now_ms);
            }
        } else if let Some(leader_id) = self.other_leader() {
            if let Some(touch) = self.touches.take_touch(now_ms) {
                self.send(leader_id, PeerMessage::Touch(touch));
            }
            if let Some(number) = self.barriers.take_question(now_ms) {
                self.send(leader_id, PeerMessage::Barrier { number });
            }
        }
    }

    /// Makes effects of the core's demands.
    pub(super) fn carry_out(&mut self, ready: Ready, now_ms: u64) {
        let new_term = ready.hard_state.as_ref().map(|hard_state| hard_state.term);
        if let Some(term) = new_term.filter(|term| *term > self.term) {
            self.take_role(RoleChange::Follower { term, leader_id: None });
        }
        if let Some(role) = ready.role {
            self.take_role(role);
        }
        let may_change_members = self.changes_members(&ready);
        let messages = ready.messages.into_iter();
        let sends = messages.map(|message| Effect::Send(message.to, PeerMessage::Raft(message)));
        self.effects.extend(sends);
        let later = ready.messages_after_persist.into_iter();
        let later: Vec<_> = later.map(|message| (message.to, PeerMessage::Raft(message))).collect();
        let persists = ready.hard_state.is_some() || !ready.entries.is_empty();
        if persists {
            self.under_way.insert(ready.number, now_ms);
            let (number, hard_state) = (ready.number, ready.hard_state);
            let persist = Persist { number, hard_state, entries: ready.entries };
            self.effects.push(Effect::Persist(persist));
        }
        match self.under_way.last_key_value() {
            Some((newest, _)) => self.to_send.entry(*newest).or_default().extend(later),
            None => self.effects.extend(later.into_iter().map(|(to, said)| Effect::Send(to, said))),
        }
        self.commit(ready.committed);
        for done in ready.reads {
            self.read_done(done);
        }
        for to in ready.snapshots_wanted {
            let index_min = self.raft.snapshot_index_min();
            self.effects.push(Effect::SnapshotWanted { to, index_min });
        }
        self.effects.extend(ready.chunks_wanted.into_iter().map(Effect::ReadChunk));
        for chunk in ready.chunks_received {
            self.is_installing |= chunk.last;
            self.effects.push(Effect::ReceiveChunk(chunk));
        }
        if may_change_members {
            self.look_at_members();
        }
    }

    /// Whether other members may be in force now.
    fn changes_members(&mut self, ready: &Ready) -> bool {
        let Some((first, last)) = ready.entries.first().zip(ready.entries.last()) else {
            return ready.role.is_some();
        };
        let is_cut = first.index <= self.last_index;
        self.last_index = last.index;
        is_cut
            || ready.role.is_some()
            || ready.entries.iter().any(|entry| entry.kind == EntryKind::Membership)
    }

    pub(super) fn look_at_members(&mut self) {
        if *self.raft.membership() != self.membership {
            self.membership = self.raft.membership().clone();
            self.effects.push(Effect::Members(self.membership.clone()));
        }
    }

    fn take_role(&mut self, role: RoleChange) {
        if let Some(term) = self.leads() {
            self.keeper.step_down(term);
        }
        (self.term, self.leader_id) = match role {
            RoleChange::Leader { term } => (term, Some(self.member_id())),
            RoleChange::Follower { term, leader_id } => (term, leader_id),
        };
        if has(MemberBug::ForwardAgainAtOnce) {
            self.own.propose_again_before(u64::MAX);
        }
        self.is_established = false;
        self.forwarded.clear();
        self.asked.clear();
        self.touches.recall();
        self.barriers.recall();
        self.effects.push(Effect::Role(role));
    }

    fn commit(&mut self, committed: Vec<Entry>) {
        let Some(newest_term) = committed.last().map(|entry| entry.term) else { return };
        for entry in &committed {
            let is_command = entry.kind == EntryKind::Command;
            let origin = if is_command { Origin::of_payload(&entry.payload) } else { None };
            self.own.committed(entry.term, origin);
        }
        self.effects.push(Effect::Apply(committed));
        if !self.is_established && self.leads() == Some(newest_term) {
            self.is_established = true;
            self.effects.push(Effect::Lead { term: newest_term });
        }
    }

    fn read_done(&mut self, done: ReadDone) {
        match (self.asked.remove(&done.id), done.index) {
            (Some((to, number)), Some(index)) => {
                self.send(to, PeerMessage::BarrierDone { number, index });
            }
            (None, Some(index)) => self.barriers.answered(done.id, index),
            // Who asked asks again.
            (Some(_), None) => {}
            (None, None) if self.barriers.is_under_way(done.id) => self.barriers.recall(),
            (None, None) => {}
        }
    }

    pub(super) fn expire_orders(&mut self, now_ms: u64) {
        let patience_ms = self.config.patience_ms;
        let effects = &mut self.effects;
        self.orders.retain(|id, since_ms| {
            let is_late = now_ms >= *since_ms + patience_ms;
            if is_late {
                effects.push(Effect::OrderDone(*id, Err(OrderRefused::Unavailable)));
            }
            !is_late
        });
    }
}
