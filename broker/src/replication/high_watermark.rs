//! How far a partition is committed. Pure.
//!
//! The offsets of a leader stand in this order, always:
//!
//! `log start ≤ last stable ≤ high watermark ≤ log end`
//!
//! The high watermark is the smallest of the ends that the in-sync replicas have reported: the ends
//! of what is *on disk* there, or with `acks.all.durability=page-cache` of what is written. It
//! never moves back while a leader leads, and it stands still while there are fewer in-sync
//! replicas than `min.insync.replicas` asks for (KIP-966, the strict rule).

/// The high watermark of a partition that leads here.
#[derive(Debug)]
pub struct HighWatermark {
    offset: i64,
}

/// What the ends of the in-sync replicas say.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaEnds {
    /// The leader's own end: flushed, or written, by the partition's durability.
    pub leader_end_offset: i64,
    /// The smallest of the ends of the other in-sync replicas, and of those that a pending change
    /// of the ISR would add; negative if one of them has not been heard of.
    pub slowest_follower_end_offset: Option<i64>,
    /// How many replicas are in sync.
    pub in_sync_count: usize,
    /// How many in-sync replicas there must be: `min.insync.replicas`, at most the replication
    /// factor.
    pub min_insync: usize,
}

impl HighWatermark {
    /// The high watermark of a partition that begins to lead.
    pub fn new(offset: i64) -> Self {
        Self { offset }
    }

    /// The first offset that is not committed.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Moves to where the replicas' ends allow. Returns the new offset if it moved.
    pub fn advance(&mut self, ends: ReplicaEnds) -> Option<i64> {
        if ends.in_sync_count < ends.min_insync {
            return None;
        }
        let follower_end = ends.slowest_follower_end_offset.unwrap_or(i64::MAX);
        let end = ends.leader_end_offset.min(follower_end);
        (end > self.offset).then(|| {
            self.offset = end;
            end
        })
    }

    /// Moves up to the log's start, when records below it are deleted; never back.
    pub fn at_least(&mut self, log_start_offset: i64) {
        self.offset = self.offset.max(log_start_offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(leader_end_offset: i64, followers: &[i64], min_insync: usize) -> ReplicaEnds {
        ReplicaEnds {
            leader_end_offset,
            slowest_follower_end_offset: followers.iter().copied().min(),
            in_sync_count: followers.len() + 1,
            min_insync,
        }
    }

    #[test]
    fn alone_it_follows_the_leaders_end() {
        let mut hw = HighWatermark::new(5);
        assert_eq!(hw.advance(ends(9, &[], 1)), Some(9));
        assert_eq!(hw.advance(ends(9, &[], 1)), None);
    }

    #[test]
    fn the_slowest_in_sync_replica_decides() {
        let mut hw = HighWatermark::new(0);
        assert_eq!(hw.advance(ends(9, &[7, 4], 1)), Some(4));
        assert_eq!(hw.advance(ends(9, &[7, -1], 1)), None, "one was never heard of");
    }

    #[test]
    fn it_never_moves_back() {
        let mut hw = HighWatermark::new(8);
        assert_eq!(hw.advance(ends(9, &[3], 1)), None);
        assert_eq!(hw.offset(), 8);
    }

    #[test]
    fn too_few_in_sync_replicas_commit_nothing() {
        let mut hw = HighWatermark::new(0);
        assert_eq!(hw.advance(ends(9, &[], 2)), None);
        assert_eq!(hw.advance(ends(9, &[9], 2)), Some(9));
    }
}
