//! This member's proposals on their way into the log, and those that others send to the leader.
//!
//! A proposal *waits* until a leader is known, then it is *sent*: appended if this member leads,
//! forwarded if another does. Both in the order in which they were proposed. What was sent in a
//! term is decided when an entry of a later term is committed: an entry of the earlier term that
//! was not seen by then never will be, since terms never go back in the log. Only then are those
//! that were not done proposed again, so that nothing is done twice and nothing is overtaken.
//!
//! The leader takes forwarded proposals only for its own term, and each only after the one that was
//! sent before it, so that a message that was lost, doubled or overtaken does no harm: it is sent
//! again until the leader has said that it has it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use ottla_common::types::MemberId;

use super::super::messages::{Forward, PeerMessage};
use crate::limits::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, FORWARD_SIZE_MAX, RUNS_REMEMBERED_MAX};
use crate::tree::Origin;

/// A proposal of this member.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposed {
    /// Its number: one more than that of the proposal before it.
    pub number: u64,
    /// The payload of its entry.
    pub payload: Bytes,
    /// It is to be done in this term, with this member leading, or never.
    pub only_term: Option<u64>,
}

/// Why a proposal has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It was not done and never will be.
    NotDone,
    /// It may have been done, or may still be.
    Unknown,
}

/// How the proposals of this member stand.
#[derive(Debug)]
pub struct OwnProposals {
    member_id: MemberId,
    run: u64,
    patience_ms: u64,
    retry_ms: u64,
    waiting: VecDeque<Waiting>,
    sent: VecDeque<Sent>,
    link: Link,
    failed: Vec<(u64, Failure)>,
}

#[derive(Debug)]
struct Waiting {
    proposed: Proposed,
    since_ms: u64,
}

/// A proposal that was sent to the leader of a term.
#[derive(Debug)]
struct Sent {
    proposed: Proposed,
    since_ms: u64,
    term: u64,
}

/// What was forwarded in a term.
#[derive(Debug, Default)]
struct Link {
    term: u64,
    /// The newest that was forwarded.
    newest: Option<u64>,
    /// The leader has all up to here.
    acked: Option<u64>,
    /// When something was last sent, or confirmed.
    at_ms: u64,
}

impl OwnProposals {
    /// None yet. `run` tells this process from others of the member.
    pub fn new((member_id, run): (MemberId, u64), patience_ms: u64, retry_ms: u64) -> Self {
        Self {
            member_id,
            run,
            patience_ms,
            retry_ms,
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
            link: Link::default(),
            failed: Vec::new(),
        }
    }

    pub fn add(&mut self, proposed: Vec<Proposed>, now_ms: u64) {
        let waiting = proposed.into_iter().map(|proposed| Waiting { proposed, since_ms: now_ms });
        self.waiting.extend(waiting);
    }

    /// Takes those that are to be appended by this member, which leads in `term`, but not too many
    /// at once. They count as sent.
    pub fn take_for_log(&mut self, term: u64) -> Vec<Bytes> {
        let (mut payloads, mut size) = (Vec::new(), 0);
        if self.is_undecided_before(term) {
            return payloads;
        }
        while size < BATCH_BYTES_MAX && payloads.len() < BATCH_COMMANDS_MAX {
            let Some(Waiting { proposed, since_ms }) = self.waiting.pop_front() else { break };
            if proposed.only_term.is_some_and(|only| only != term) {
                self.failed.push((proposed.number, Failure::NotDone));
                continue;
            }
            size += proposed.payload.len();
            payloads.push(proposed.payload.clone());
            self.sent.push_back(Sent { proposed, since_ms, term });
        }
        payloads
    }

    /// The last of those that were to be appended could not be: they wait again.
    pub fn put_back(&mut self, count: usize) {
        let kept = self.sent.len().saturating_sub(count);
        for Sent { proposed, since_ms, .. } in self.sent.drain(kept..).rev() {
            self.waiting.push_front(Waiting { proposed, since_ms });
        }
    }

    /// Takes what is to be forwarded to the leader of `term`.
    pub fn take_to_forward(&mut self, term: u64, now_ms: u64) -> Vec<PeerMessage> {
        if self.link.term != term {
            self.link = Link { term, at_ms: now_ms, ..Link::default() };
        }
        if self.is_undecided_before(term) {
            return Vec::new();
        }
        let mut fresh = Vec::new();
        while let Some(Waiting { proposed, since_ms }) = self.waiting.pop_front() {
            if proposed.only_term.is_some() {
                self.failed.push((proposed.number, Failure::NotDone));
                continue;
            }
            fresh.push((proposed.number, proposed.payload.clone()));
            self.sent.push_back(Sent { proposed, since_ms, term });
        }
        if fresh.is_empty() {
            return Vec::new();
        }
        if self.link.newest == self.link.acked {
            self.link.at_ms = now_ms;
        }
        let messages = self.messages(self.link.newest, fresh.into_iter());
        self.link.newest = self.sent.back().map(|sent| sent.proposed.number);
        messages
    }

    /// Whether something was sent in an earlier term, and is not decided: nothing may overtake it.
    fn is_undecided_before(&self, term: u64) -> bool {
        self.sent.front().is_some_and(|sent| sent.term < term)
    }

    /// What was forwarded to the leader of `term` and has not arrived as far as is known, if it is
    /// time to send it again.
    pub fn take_to_forward_again(
        &mut self,
        term: u64,
        now_ms: u64,
        at_once: bool,
    ) -> Vec<PeerMessage> {
        let link = &mut self.link;
        if link.term != term || link.newest == link.acked {
            return Vec::new();
        }
        if !at_once && now_ms < link.at_ms + self.retry_ms {
            return Vec::new();
        }
        link.at_ms = now_ms;
        let acked = link.acked;
        let missing = self.sent.iter().filter(|sent| sent.term == term);
        let missing = missing.map(|sent| (sent.proposed.number, sent.proposed.payload.clone()));
        let missing: Vec<_> = missing.filter(|(number, _)| Some(*number) > acked).collect();
        self.messages(acked, missing.into_iter())
    }

    /// Puts proposals into messages that are not too long.
    fn messages(
        &self,
        mut previous: Option<u64>,
        proposals: impl Iterator<Item = (u64, Bytes)>,
    ) -> Vec<PeerMessage> {
        let (term, run) = (self.link.term, self.run);
        let mut messages: Vec<Forward> = Vec::new();
        let mut size = 0;
        for (number, payload) in proposals {
            size += payload.len();
            match messages.last_mut() {
                Some(forward) if size <= FORWARD_SIZE_MAX => forward.payloads.push(payload),
                _ => {
                    size = payload.len();
                    let payloads = vec![payload];
                    messages.push(Forward { term, run, previous, payloads });
                }
            }
            previous = Some(number);
        }
        messages.into_iter().map(PeerMessage::Forward).collect()
    }

    /// The leader of a term has taken some.
    pub fn acked(&mut self, (term, run): (u64, u64), last: Option<u64>, now_ms: u64) {
        if self.link.term == term && self.run == run && last > self.link.acked {
            self.link.acked = last.min(self.link.newest);
            self.link.at_ms = now_ms;
        }
    }

    /// An entry was committed; to be told of each, in order. What it decides is proposed again, or
    /// done.
    pub fn committed(&mut self, term: u64, origin: Option<Origin>) {
        if self.is_undecided_before(term) {
            self.propose_again_before(term);
        }
        let Some(origin) = origin.filter(|origin| origin.member_id == self.member_id) else {
            return;
        };
        let done = self.sent.partition_point(|sent| sent.proposed.number <= origin.number);
        for sent in self.sent.drain(..done) {
            if sent.proposed.number < origin.number {
                // Cannot be: the log keeps the order.
                self.failed.push((sent.proposed.number, Failure::Unknown));
            }
        }
    }

    /// Nothing that was sent in terms before this one will be done any more. It waits again, before
    /// what waits already.
    pub fn propose_again_before(&mut self, term: u64) {
        let undone = self.sent.partition_point(|sent| sent.term < term);
        for Sent { proposed, since_ms, .. } in self.sent.drain(..undone).rev() {
            if proposed.only_term.is_some() {
                self.failed.push((proposed.number, Failure::NotDone));
            } else {
                self.waiting.push_front(Waiting { proposed, since_ms });
            }
        }
    }

    /// Entries were passed over, because a snapshot takes their place: nobody knows what of these
    /// was among them.
    pub fn passed_over(&mut self) {
        let unknown = self.sent.drain(..).map(|sent| (sent.proposed.number, Failure::Unknown));
        self.failed.extend(unknown);
    }

    /// Gives up what has taken too long.
    pub fn expire(&mut self, now_ms: u64) {
        let patience_ms = self.patience_ms;
        let is_late = |since_ms: u64| now_ms >= since_ms + patience_ms;
        let late = self.sent.partition_point(|sent| is_late(sent.since_ms));
        let late = self.sent.drain(..late);
        self.failed.extend(late.map(|sent| (sent.proposed.number, Failure::Unknown)));
        let late = self.waiting.partition_point(|waiting| is_late(waiting.since_ms));
        let late = self.waiting.drain(..late);
        self.failed.extend(late.map(|waiting| (waiting.proposed.number, Failure::NotDone)));
    }

    /// Those that failed since the last time.
    pub fn take_failed(&mut self) -> Vec<(u64, Failure)> {
        std::mem::take(&mut self.failed)
    }
}

/// What a leader has taken from others, and has still to append.
#[derive(Debug, Default)]
pub struct ForwardedProposals {
    payloads: VecDeque<Bytes>,
    /// The newest proposal that was taken in this term, of each process of each member.
    newest: BTreeMap<(MemberId, u64), u64>,
}

impl ForwardedProposals {
    /// Takes what comes next. Returns the newest that was taken of that process, to be confirmed.
    pub fn take(&mut self, from: MemberId, forward: Forward) -> Option<u64> {
        let key = (from, forward.run);
        let newest = self.newest.get(&key).copied();
        if forward.previous > newest || self.has_too_many_runs(from, key) {
            return newest;
        }
        for payload in forward.payloads {
            let Some(origin) = Origin::of_payload(&payload) else { break };
            if origin.member_id != from {
                break;
            }
            let newest = self.newest.get(&key).copied();
            if newest.is_none_or(|newest| origin.number > newest) {
                self.newest.insert(key, origin.number);
                self.payloads.push_back(payload);
            }
        }
        self.newest.get(&key).copied()
    }

    fn has_too_many_runs(&self, from: MemberId, key: (MemberId, u64)) -> bool {
        let runs = self.newest.range((from, 0)..=(from, u64::MAX)).count();
        runs >= RUNS_REMEMBERED_MAX && !self.newest.contains_key(&key)
    }

    /// Takes what is to be appended next, but not too much at once.
    pub fn take_for_log(&mut self, size_left: usize) -> Vec<Bytes> {
        let (mut payloads, mut size) = (Vec::new(), 0);
        while size < size_left && payloads.len() < BATCH_COMMANDS_MAX {
            let Some(payload) = self.payloads.pop_front() else { break };
            size += payload.len();
            payloads.push(payload);
        }
        payloads
    }

    /// Puts back what could not be appended now.
    pub fn put_back(&mut self, payloads: Vec<Bytes>) {
        for payload in payloads.into_iter().rev() {
            self.payloads.push_front(payload);
        }
    }

    /// This member leads no more, or in another term. Those that were not appended are proposed
    /// again by who sent them.
    pub fn clear(&mut self) {
        self.payloads.clear();
        self.newest.clear();
    }
}
