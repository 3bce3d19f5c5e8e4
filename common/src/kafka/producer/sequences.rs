//! The order of one partition's batches over retries, and their sequence numbers. Pure.
//!
//! A batch takes the next sequence when it is sent. Once one has failed, the partition *recovers*:
//! nothing of it is sent while anything of it is in flight; then the failed batches go first, one
//! at a time, in their order, with sequences that follow the last one that was acknowledged. That
//! gives a batch the sequence that it had, unless one before it was refused for good, and then no
//! broker can have taken what came after that.

use crate::kafka::record_batch::increment_sequence;

/// What is to be done about a sequence error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SequenceError {
    /// A batch before it is missing; it goes again after that one.
    Retry,
    /// Broker and producer disagree on what was acknowledged.
    Disagreement,
}

/// The sequences of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sequences {
    /// What the next batch gets.
    next: i32,
    /// What follows the last batch that was acknowledged.
    acknowledged: i32,
    in_flight: usize,
    recovering: bool,
}

impl Sequences {
    /// Whether a batch may be sent now.
    pub fn may_send(&self) -> bool {
        !self.recovering || self.in_flight == 0
    }

    /// How many batches are in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether one has failed and was not acknowledged since.
    pub fn is_recovering(&self) -> bool {
        self.recovering
    }

    /// A batch of so many records is sent. Returns its base sequence.
    pub fn sent(&mut self, records_count: i32) -> i32 {
        if self.recovering {
            self.next = self.acknowledged;
        }
        let base_sequence = self.next;
        self.next = increment_sequence(base_sequence, records_count);
        self.in_flight += 1;
        base_sequence
    }

    /// A batch was acknowledged. `more_failed` says whether others wait to be sent again.
    pub fn acknowledged(&mut self, base_sequence: i32, records_count: i32, more_failed: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.acknowledged = increment_sequence(base_sequence, records_count);
        if !more_failed && self.in_flight == 0 {
            self.next = self.acknowledged;
            self.recovering = false;
        }
    }

    /// A batch failed, for now or for good.
    pub fn failed(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.recovering = true;
    }

    /// Nothing is left to be sent again: the batches that failed were given up.
    pub fn recovered_if_idle(&mut self) {
        if self.in_flight == 0 {
            self.next = self.acknowledged;
            self.recovering = false;
        }
    }

    /// A broker said that this batch's sequence does not follow the one before.
    pub fn out_of_order(&self, base_sequence: i32) -> SequenceError {
        if base_sequence == self.acknowledged {
            SequenceError::Disagreement
        } else {
            SequenceError::Retry
        }
    }

    /// Begins at 0 again, for another producer id.
    pub fn reset(&mut self) {
        *self = Self { in_flight: self.in_flight, recovering: self.recovering, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_follow_one_another() {
        let mut sequences = Sequences::default();
        assert_eq!([sequences.sent(3), sequences.sent(2), sequences.sent(1)], [0, 3, 5]);
        sequences.acknowledged(0, 3, false);
        assert_eq!(sequences.sent(1), 6);
        assert!(sequences.may_send());
    }

    #[test]
    fn a_failed_batch_goes_again_with_its_sequence_before_the_others() {
        let mut sequences = Sequences::default();
        assert_eq!([sequences.sent(3), sequences.sent(2)], [0, 3]);
        sequences.failed();
        assert!(!sequences.may_send(), "the second is in flight");
        assert_eq!(sequences.out_of_order(3), SequenceError::Retry);
        sequences.failed();
        assert!(sequences.may_send());
        assert_eq!(sequences.sent(3), 0);
        assert!(!sequences.may_send(), "one at a time");
        sequences.acknowledged(0, 3, true);
        assert_eq!(sequences.sent(2), 3);
        sequences.acknowledged(3, 2, false);
        assert!(!sequences.is_recovering());
        assert_eq!([sequences.sent(1), sequences.sent(1)], [5, 6]);
    }

    #[test]
    fn after_a_batch_was_refused_for_good_the_next_takes_its_sequence() {
        let mut sequences = Sequences::default();
        assert_eq!([sequences.sent(3), sequences.sent(2)], [0, 3]);
        sequences.failed();
        assert_eq!(sequences.out_of_order(3), SequenceError::Retry);
        sequences.failed();
        assert_eq!(sequences.sent(2), 0);
        sequences.acknowledged(0, 2, false);
        assert_eq!(sequences.sent(1), 2);
    }

    #[test]
    fn a_broker_that_lost_what_it_acknowledged_is_found_out() {
        let mut sequences = Sequences::default();
        sequences.sent(3);
        sequences.acknowledged(0, 3, false);
        assert_eq!(sequences.sent(1), 3);
        assert_eq!(sequences.out_of_order(3), SequenceError::Disagreement);
        sequences.failed();
        sequences.reset();
        assert_eq!(sequences.sent(1), 0);
    }

    #[test]
    fn sequences_wrap() {
        let mut sequences = Sequences { next: i32::MAX, ..Sequences::default() };
        assert_eq!([sequences.sent(2), sequences.sent(1)], [i32::MAX, 1]);
    }
}
