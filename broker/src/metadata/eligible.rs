//! Eligible leader replicas (KIP-966): who is out of the ISR and still has all that was committed.
//! Pure.
//!
//! While the ISR is smaller than `min.insync.replicas`, the high watermark stands still: nothing
//! more is committed. So a replica that was in the ISR when it fell below has all that there is to
//! have, for as long as that lasts. Such replicas may lead when the last one in sync is lost.
//!
//! Two duties of the leader follow from it. It commits nothing while the state names an eligible
//! replica, whatever its own view of `min.insync.replicas` is: it clears the list first. And every
//! write of a state, the controller's and the leader's, takes its list from [`eligible_after`].

use ottla_common::types::BrokerId;

/// How small the ISR may be before nothing is committed any more: `min.insync.replicas`, but never
/// more than there are replicas.
pub fn effective_min_insync(min_insync_replicas: usize, replicas: usize) -> usize {
    min_insync_replicas.min(replicas)
}

/// The eligible replicas once the ISR has become `isr`, in the order of the replicas. Before, the
/// ISR was `old_isr` and the eligible replicas `old_elr`.
///
/// They are none if the ISR is large enough for the high watermark to move; else all that were in
/// sync or eligible and are not in sync now. A replica whose log was lost must have been taken out
/// of `old_isr` and `old_elr` by the caller.
pub fn eligible_after(
    (old_isr, old_elr): (&[BrokerId], &[BrokerId]),
    isr: &[BrokerId],
    min_insync_replicas: usize,
    replicas: &[BrokerId],
) -> Vec<BrokerId> {
    if isr.len() >= effective_min_insync(min_insync_replicas, replicas.len()) {
        return Vec::new();
    }
    let had_all = |broker: &BrokerId| old_isr.contains(broker) || old_elr.contains(broker);
    replicas.iter().copied().filter(|b| had_all(b) && !isr.contains(b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[i32]) -> Vec<BrokerId> {
        numbers.iter().copied().map(BrokerId).collect()
    }

    fn after(old_isr: &[i32], old_elr: &[i32], new_isr: &[i32]) -> Vec<BrokerId> {
        eligible_after((&ids(old_isr), &ids(old_elr)), &ids(new_isr), 2, &ids(&[1, 2, 3]))
    }

    #[test]
    fn who_leaves_while_enough_stay_in_sync_is_not_eligible() {
        assert_eq!(after(&[1, 2, 3], &[], &[1, 2]), ids(&[]));
    }

    #[test]
    fn who_leaves_when_too_few_stay_in_sync_is_eligible() {
        assert_eq!(after(&[1, 2], &[], &[1]), ids(&[2]));
        assert_eq!(after(&[3, 2, 1], &[], &[3]), ids(&[1, 2]));
        assert_eq!(after(&[1], &[2], &[]), ids(&[1, 2]));
    }

    #[test]
    fn nobody_is_eligible_once_enough_are_in_sync_again() {
        assert_eq!(after(&[1], &[2], &[1, 3]), ids(&[]));
    }

    #[test]
    fn one_who_is_in_sync_or_no_replica_is_not_eligible() {
        assert_eq!(after(&[1, 9], &[2, 8], &[2]), ids(&[1]));
    }

    #[test]
    fn a_partition_never_needs_more_in_sync_than_it_has_replicas() {
        assert_eq!(eligible_after((&ids(&[1]), &[]), &ids(&[1]), 2, &ids(&[1])), ids(&[]));
        assert_eq!(effective_min_insync(2, 1), 1);
    }
}
