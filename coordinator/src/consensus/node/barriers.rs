//! Reads that must see all that was acknowledged before them, by any member.
//!
//! One question is under way to the leader at a time; its answer holds for all who had asked before
//! it was sent. Who comes later waits for the next one.

/// Who waits to know how far this member must apply.
#[derive(Debug)]
pub struct Barriers {
    retry_ms: u64,
    patience_ms: u64,
    waiting: Vec<Waiting>,
    under_way: Option<UnderWay>,
    next_number: u64,
    done: Vec<(u64, Option<u64>)>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: u64,
    since_ms: u64,
}

#[derive(Debug)]
struct UnderWay {
    number: u64,
    sent_ms: u64,
    waiting: Vec<Waiting>,
}

impl Barriers {
    /// Nobody waits yet. Questions are numbered from `first_number`.
    pub fn new(first_number: u64, retry_ms: u64, patience_ms: u64) -> Self {
        Self {
            retry_ms,
            patience_ms,
            waiting: Vec::new(),
            under_way: None,
            next_number: first_number,
            done: Vec::new(),
        }
    }

    pub fn add(&mut self, ids: Vec<u64>, now_ms: u64) {
        self.waiting.extend(ids.into_iter().map(|id| Waiting { id, since_ms: now_ms }));
    }

    /// The number of the question that is to be asked now, if any; of the leader, who is known.
    pub fn take_question(&mut self, now_ms: u64) -> Option<u64> {
        if let Some(under_way) = &self.under_way {
            if now_ms < under_way.sent_ms + self.retry_ms {
                return None;
            }
            self.recall();
        }
        if self.waiting.is_empty() {
            return None;
        }
        let (number, waiting) = (self.next_number, std::mem::take(&mut self.waiting));
        self.next_number += 1;
        self.under_way = Some(UnderWay { number, sent_ms: now_ms, waiting });
        Some(number)
    }

    /// The question may have been lost, or asked of someone who leads no more: it is asked again.
    pub fn recall(&mut self) {
        if let Some(under_way) = self.under_way.take() {
            self.waiting.splice(0..0, under_way.waiting);
        }
    }

    /// The answer.
    pub fn answered(&mut self, number: u64, index: u64) {
        if let Some(under_way) = self.under_way.take_if(|under_way| under_way.number == number) {
            let waiting = under_way.waiting.iter();
            self.done.extend(waiting.map(|waiting| (waiting.id, Some(index))));
        }
    }

    /// Whether this question is under way.
    pub fn is_under_way(&self, number: u64) -> bool {
        self.under_way.as_ref().is_some_and(|under_way| under_way.number == number)
    }

    /// Gives up what waits too long.
    pub fn expire(&mut self, now_ms: u64) {
        let is_late = |waiting: &Waiting| now_ms >= waiting.since_ms + self.patience_ms;
        let under_way = self.under_way.as_mut().map(|under_way| &mut under_way.waiting);
        for waiting in under_way.into_iter().chain([&mut self.waiting]) {
            let late = waiting.extract_if(.., |waiting| is_late(waiting));
            self.done.extend(late.map(|waiting| (waiting.id, None)));
        }
    }

    /// Those who wait no more, and up to where they must apply; none if nobody could tell.
    pub fn take_done(&mut self) -> Vec<(u64, Option<u64>)> {
        std::mem::take(&mut self.done)
    }
}
