//! What other members say, and what only the leader can do.

use ottla_common::types::{MemberId, SessionId};

use super::super::messages::{Order, OrderRefused, PeerMessage, Touch};
use super::super::raft::{Message, MessageKind};
use super::{Effect, Node, Now};
use crate::limits::{ORDERS_WAITING_MAX, READS_ASKED_MAX};
use crate::seeded_bugs::{MemberBug, has};

impl Node {
    pub(super) fn peer(&mut self, from: MemberId, message: PeerMessage, now: Now) {
        let now_ms = now.monotonic_ms;
        match message {
            PeerMessage::Raft(message) => self.step(from, message, now_ms),
            PeerMessage::Forward(forward) => {
                let (term, run) = (forward.term, forward.run);
                if self.leads() == Some(term) {
                    let last = self.forwarded.take(from, forward);
                    self.send(from, PeerMessage::ForwardAck { term, run, last });
                }
            }
            PeerMessage::ForwardAck { term, run, last } => {
                self.own.acked((term, run), last, now_ms);
            }
            PeerMessage::Touch(touch) => {
                let number = touch.number;
                // Without an answer it is told again.
                if self.leads().is_some()
                    && let Some(refused) = self.touched(&touch, now_ms)
                {
                    self.send(from, PeerMessage::TouchAck { number, refused });
                }
            }
            PeerMessage::TouchAck { number, refused } => self.touches.acked(number, &refused),
            PeerMessage::Barrier { number } => self.asked_for_barrier(from, number, now_ms),
            PeerMessage::BarrierDone { number, index } => self.barriers.answered(number, index),
            PeerMessage::Order { number, order } => {
                let result = self.carry_out_order(order, now_ms);
                self.send(from, PeerMessage::OrderDone { number, result });
            }
            PeerMessage::OrderDone { number, result } => {
                if self.orders.remove(&number).is_some() {
                    self.effects.push(Effect::OrderDone(number, result));
                }
            }
        }
    }

    fn step(&mut self, from: MemberId, message: Message, now_ms: u64) {
        if message.from != from || message.to != self.member_id() {
            return;
        }
        // The log is about to begin anew: nothing may be promised that would go with it.
        if self.is_installing && matches!(message.kind, MessageKind::Append { .. }) {
            return;
        }
        self.raft.step(message, now_ms);
    }

    /// Counts sessions as heard from. Returns those whose time was over; none if this member cannot
    /// promise anything about them.
    pub(super) fn touched(&self, touch: &Touch, now_ms: u64) -> Option<Vec<SessionId>> {
        let refused = self.keeper.touch(&touch.sessions, now_ms)?;
        self.keeper.disconnected(&touch.disconnected, now_ms);
        let is_safe = self.raft.holds_lease(now_ms) || has(MemberBug::TouchWithoutLease);
        is_safe.then_some(refused)
    }

    fn asked_for_barrier(&mut self, from: MemberId, number: u64, now_ms: u64) {
        let id = self.next_read;
        self.next_read = id.wrapping_add(1) | (1 << 63);
        if self.asked.len() < READS_ASKED_MAX && self.raft.request_read(id, now_ms).is_ok() {
            self.asked.insert(id, (from, number));
        }
    }

    /// Carries an order out, or has the leader do so.
    pub(super) fn order(&mut self, id: u64, order: Order, now_ms: u64) {
        let Some(leader_id) = self.other_leader() else {
            let result = self.carry_out_order(order, now_ms);
            return self.effects.push(Effect::OrderDone(id, result));
        };
        if self.orders.len() >= ORDERS_WAITING_MAX {
            return self.effects.push(Effect::OrderDone(id, Err(OrderRefused::Unavailable)));
        }
        self.orders.insert(id, now_ms);
        self.send(leader_id, PeerMessage::Order { number: id, order });
    }

    fn carry_out_order(&mut self, order: Order, now_ms: u64) -> Result<u64, OrderRefused> {
        match order {
            Order::Change { change, time_ms } => {
                Ok(self.raft.propose_membership(change, time_ms)?)
            }
            Order::Transfer { to } => {
                self.raft.transfer_leadership(to, now_ms)?;
                Ok(0)
            }
        }
    }
}
