//! Word of sessions on its way to the leader, and clients that wait to hear that it has arrived.
//!
//! One message is under way at a time; what comes meanwhile goes with the next. A client's ping is
//! confirmed when the leader has counted its session as heard from *and* held its lease then: no
//! other leader can have expired it.

use std::collections::BTreeSet;

use ottla_common::types::SessionId;

use super::super::messages::Touch;
use crate::limits::DISCONNECTS_REMEMBERED_MAX;
use crate::sessions::keeper::SessionConnection;

/// What a member has heard and not yet told.
#[derive(Debug)]
pub struct Touches {
    interval_ms: u64,
    retry_ms: u64,
    patience_ms: u64,
    heard: Heard,
    under_way: Option<UnderWay>,
    next_number: u64,
    /// When the last message was sent.
    sent_ms: u64,
    done: Vec<(u64, bool)>,
}

#[derive(Debug, Default)]
struct Heard {
    sessions: BTreeSet<SessionId>,
    disconnected: Vec<SessionConnection>,
    confirms: Vec<Confirm>,
}

/// A client that waits.
#[derive(Clone, Copy, Debug)]
struct Confirm {
    id: u64,
    session_id: SessionId,
    since_ms: u64,
}

#[derive(Debug)]
struct UnderWay {
    number: u64,
    sent_ms: u64,
    heard: Heard,
}

impl Touches {
    /// Nothing was heard yet. Messages are numbered from `first_number`.
    pub fn new(first_number: u64, interval_ms: u64, retry_ms: u64, patience_ms: u64) -> Self {
        Self {
            interval_ms,
            retry_ms,
            patience_ms,
            heard: Heard::default(),
            under_way: None,
            next_number: first_number,
            sent_ms: 0,
            done: Vec::new(),
        }
    }

    pub fn add(
        &mut self,
        sessions: impl IntoIterator<Item = SessionId>,
        disconnected: Vec<SessionConnection>,
    ) {
        self.heard.sessions.extend(sessions);
        self.heard.disconnected.extend(disconnected);
        // The oldest go first: their sessions still have their timeouts.
        let surplus = self.heard.disconnected.len().saturating_sub(DISCONNECTS_REMEMBERED_MAX);
        self.heard.disconnected.drain(..surplus);
    }

    /// A client waits to hear that its session lives.
    pub fn confirm(&mut self, confirms: Vec<(u64, SessionId)>, now_ms: u64) {
        for (id, session_id) in confirms {
            self.heard.sessions.insert(session_id);
            self.heard.confirms.push(Confirm { id, session_id, since_ms: now_ms });
        }
    }

    /// What is to be told now, if anything; to the leader, who is known.
    pub fn take_touch(&mut self, now_ms: u64) -> Option<Touch> {
        if let Some(under_way) = &self.under_way {
            if now_ms < under_way.sent_ms + self.retry_ms {
                return None;
            }
            self.recall();
        }
        let heard = &self.heard;
        let is_urgent = !heard.confirms.is_empty() || !heard.disconnected.is_empty();
        let is_due = now_ms >= self.sent_ms + self.interval_ms && !heard.sessions.is_empty();
        if !is_urgent && !is_due {
            return None;
        }
        let heard = std::mem::take(&mut self.heard);
        let number = self.next_number;
        self.next_number += 1;
        self.sent_ms = now_ms;
        let sessions = heard.sessions.iter().copied().collect();
        let touch = Touch { number, sessions, disconnected: heard.disconnected.clone() };
        self.under_way = Some(UnderWay { number, sent_ms: now_ms, heard });
        Some(touch)
    }

    /// What is under way may not have arrived, or not at who leads now: it is told again.
    pub fn recall(&mut self) {
        let Some(UnderWay { heard: Heard { sessions, disconnected, confirms }, .. }) =
            self.under_way.take()
        else {
            return;
        };
        self.heard.sessions.extend(sessions);
        self.heard.disconnected.splice(0..0, disconnected);
        self.heard.confirms.splice(0..0, confirms);
    }

    /// The leader has it.
    pub fn acked(&mut self, number: u64, refused: &[SessionId]) {
        let Some(under_way) = self.under_way.take_if(|under_way| under_way.number == number) else {
            return;
        };
        let confirms = under_way.heard.confirms.into_iter();
        self.done
            .extend(confirms.map(|confirm| (confirm.id, !refused.contains(&confirm.session_id))));
    }

    /// Gives up what waits too long.
    pub fn expire(&mut self, now_ms: u64) {
        let is_late = |confirm: &Confirm| now_ms >= confirm.since_ms + self.patience_ms;
        let under_way = self.under_way.as_mut().map(|under_way| &mut under_way.heard.confirms);
        for confirms in under_way.into_iter().chain([&mut self.heard.confirms]) {
            let late = confirms.extract_if(.., |confirm| is_late(confirm));
            self.done.extend(late.map(|confirm| (confirm.id, false)));
        }
    }

    /// Clients that wait no more, and whether their sessions live.
    pub fn take_done(&mut self) -> Vec<(u64, bool)> {
        std::mem::take(&mut self.done)
    }
}
