//! Where two logs of one partition part, told from leader epochs alone (KIP-101, KIP-279, KIP-595).
//!
//! All records of one leader epoch come from one leader, so two logs that hold records of the same
//! epoch at the same offset are equal up to there. A follower tells how far its log reaches and of
//! which epoch its last record is; the leader knows from its own epochs whether that is a beginning
//! of its log, and if not, the end of the largest epoch that both may have.

/// The end of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    /// The offset of the next record.
    pub offset: i64,
    /// The leader epoch of the last record; negative if there is none, or if it was written before
    /// there were epochs.
    pub epoch: i32,
}

/// The end of an epoch in the log of a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DivergingEpoch {
    /// The epoch.
    pub epoch: i32,
    /// The offset behind its last record.
    pub end_offset: i64,
}

/// Whether a log that ends so is the beginning of one that ends at `log_end_offset`. `end_of` is
/// the largest epoch of the latter that is not above the given one, and where it ends; -1 and -1
/// for an epoch that it never heard of.
pub fn is_prefix(end: LogEnd, log_end_offset: i64, end_of: impl FnOnce(i32) -> (i32, i64)) -> bool {
    if end.offset > log_end_offset {
        return false;
    }
    // Without an epoch there is no record, or only such as were written before there were any.
    if end.epoch < 0 {
        return true;
    }
    let (epoch, end_offset) = end_of(end.epoch);
    epoch == end.epoch && end_offset >= end.offset
}

/// What a leader tells a follower whose log ends so and is no beginning of its own.
pub fn divergence(end: LogEnd, end_of: impl FnOnce(i32) -> (i32, i64)) -> Option<DivergingEpoch> {
    if end.epoch < 0 {
        return None;
    }
    let (epoch, end_offset) = end_of(end.epoch);
    let diverges = epoch < end.epoch || end_offset < end.offset;
    (epoch >= 0 && diverges).then_some(DivergingEpoch { epoch, end_offset })
}

/// Where a follower cuts its log when it is told so: where the largest epoch that both have ends in
/// the shorter. If it does not have the leader's epoch, its own largest one before ends what may be
/// equal, and the leader is asked again from there. `None` if all that it has is newer.
pub fn cut_offset(told: DivergingEpoch, end_of: impl FnOnce(i32) -> (i32, i64)) -> Option<i64> {
    match end_of(told.epoch) {
        (..0, _) => None,
        (epoch, end_offset) if epoch == told.epoch => Some(end_offset.min(told.end_offset)),
        (_, end_offset) => Some(end_offset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log with records of epoch 2 at 0 to 9 and of epoch 5 at 10 to 19.
    fn end_of(epoch: i32) -> (i32, i64) {
        match epoch {
            ..0 | 6.. => (-1, -1),
            0 | 1 => (epoch, 0),
            2..5 => (2, 10),
            5 => (5, 20),
        }
    }

    #[test]
    fn a_log_that_goes_on_where_another_stopped_holds_it() {
        let holds = |offset, epoch| is_prefix(LogEnd { offset, epoch }, 20, end_of);
        assert!(holds(0, -1), "nothing is a beginning of everything");
        assert!(holds(7, 2) && holds(10, 2) && holds(15, 5) && holds(20, 5));
        assert!(!holds(11, 2), "it has more of epoch 2");
        assert!(!holds(12, 3), "nobody here wrote in epoch 3");
        assert!(!holds(21, 5) && !holds(21, -1), "it is longer");
        assert!(!holds(20, 6), "its last epoch is newer");
    }

    #[test]
    fn a_leader_names_the_end_of_the_last_epoch_that_both_may_have() {
        let told = |offset, epoch| {
            divergence(LogEnd { offset, epoch }, end_of).map(|at| (at.epoch, at.end_offset))
        };
        assert_eq!(told(15, 5), None);
        assert_eq!(told(11, 2), Some((2, 10)));
        assert_eq!(told(12, 3), Some((2, 10)));
        assert_eq!(told(23, 5), Some((5, 20)));
    }

    #[test]
    fn a_follower_keeps_what_both_have() {
        let cut = |epoch, end_offset| cut_offset(DivergingEpoch { epoch, end_offset }, end_of);
        assert_eq!(cut(5, 14), Some(14), "the leader's epoch 5 ended sooner");
        assert_eq!(cut(2, 30), Some(10), "ours ended sooner");
        assert_eq!(cut(4, 30), Some(10), "epoch 4 is unknown here: back to the end of 2");
        assert_eq!(cut(6, 30), None);
    }
}
