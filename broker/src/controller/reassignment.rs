//! Moving replicas from brokers to others. Pure.
//!
//! While it is under way, a partition's replicas are those that it is to have, in their order, and
//! behind them those that will go; `adding` and `removing` tell which are new and which will go.
//! Any broker writes that. When all that are to stay are in sync, the controller takes the others
//! off; a partition's leader epoch rises whenever a replica is taken off, so that what it may still
//! say is late.

use ottla_common::cluster_tree::{PartitionAssignment, PartitionState, TopicAssignment};
use ottla_common::coordination::protocol::Op;
use ottla_common::types::BrokerId;

use crate::metadata::eligible::eligible_after;
use crate::metadata::image::{PartitionImage, TopicImage};

/// Taking replicas off would leave nobody who has all that was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NobodyInSync;

/// Whether replicas are being moved.
pub fn is_under_way(partition: &PartitionImage) -> bool {
    !partition.adding.is_empty() || !partition.removing.is_empty()
}

/// The replicas that a partition is to have in the end, preferred leader first.
pub fn target(partition: &PartitionImage) -> Vec<BrokerId> {
    without(&partition.replicas, &partition.removing)
}

/// A partition on its way to `target`, from wherever it is. What an earlier reassignment was adding
/// and this one does not want is off at once.
pub fn towards(partition: &PartitionImage, target: &[BrokerId]) -> PartitionAssignment {
    let origin = without(&partition.replicas, &partition.adding);
    let removing = without(&origin, target);
    let replicas = target.iter().chain(&removing).copied().collect();
    PartitionAssignment { replicas, adding: without(target, &origin), removing }
}

/// A partition back where it was before the reassignment that is under way.
pub fn cancelled(partition: &PartitionImage) -> PartitionAssignment {
    let replicas = without(&partition.replicas, &partition.adding);
    PartitionAssignment { replicas, ..PartitionAssignment::default() }
}

/// A partition whose reassignment is done, if all that are to stay are in sync.
pub fn finished(partition: &PartitionImage) -> Option<PartitionAssignment> {
    let replicas = target(partition);
    let is_done = is_under_way(partition)
        && !replicas.is_empty()
        && replicas.iter().all(|broker| partition.isr.contains(broker));
    is_done.then_some(PartitionAssignment { replicas, ..PartitionAssignment::default() })
}

/// What the state must become with these replicas; none if no replica is taken off.
///
/// # Errors
/// If none of the new replicas is in sync while others are.
pub fn state_with(
    partition: &PartitionImage,
    placed: &PartitionAssignment,
    (min_insync_replicas, controller_epoch): (usize, i32),
    can_lead: impl Fn(BrokerId) -> bool,
) -> Result<Option<PartitionState>, NobodyInSync> {
    let replicas = &placed.replicas;
    if partition.replicas.iter().all(|broker| replicas.contains(broker)) {
        return Ok(None);
    }
    let PartitionImage { isr: old_isr, elr, leader, leader_epoch, .. } = partition;
    let isr: Vec<_> = old_isr.iter().copied().filter(|b| replicas.contains(b)).collect();
    let elr = eligible_after((old_isr, elr), &isr, min_insync_replicas, replicas);
    if isr.is_empty() && elr.is_empty() {
        return Err(NobodyInSync);
    }
    let stays = leader.filter(|leader| isr.contains(leader));
    let next = || replicas.iter().copied().find(|b| isr.contains(b) && can_lead(*b));
    Ok(Some(PartitionState {
        leader: stays.or_else(next),
        leader_epoch: leader_epoch + 1,
        isr,
        controller_epoch,
        elr,
    }))
}

/// The write that places a topic's partitions anew; those that `placed` has no word on stay.
pub fn placement_write(topic: &TopicImage, placed: &[(i32, PartitionAssignment)]) -> Op {
    let present = topic.partitions.iter().map(|partition| PartitionAssignment {
        replicas: partition.replicas.clone(),
        adding: partition.adding.clone(),
        removing: partition.removing.clone(),
    });
    let mut partitions: Vec<PartitionAssignment> = present.collect();
    for (number, assignment) in placed {
        let index = usize::try_from(*number).unwrap_or(usize::MAX);
        if let Some(partition) = partitions.get_mut(index) {
            partition.clone_from(assignment);
        }
    }
    Op::SetData {
        path: TopicAssignment::path(&topic.name),
        data: TopicAssignment { topic_id: topic.id, partitions }.encode(),
        version: Some(topic.node_version),
    }
}

/// The write of a partition's state.
pub fn state_write(topic: &TopicImage, number: i32, state: &PartitionState) -> Op {
    Op::SetData {
        path: PartitionState::path(&topic.name, number),
        data: state.encode(),
        version: topic.partition(number).map(|partition| partition.state_version),
    }
}

fn without(all: &[BrokerId], some: &[BrokerId]) -> Vec<BrokerId> {
    all.iter().copied().filter(|broker| !some.contains(broker)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(numbers: &[i32]) -> Vec<BrokerId> {
        numbers.iter().copied().map(BrokerId).collect()
    }

    fn partition(replicas: &[i32], isr: &[i32]) -> PartitionImage {
        PartitionImage {
            replicas: ids(replicas),
            isr: ids(isr),
            leader: ids(isr).first().copied(),
            ..PartitionImage::default()
        }
    }

    fn place(partition: &mut PartitionImage, placed: PartitionAssignment) {
        let PartitionAssignment { replicas, adding, removing } = placed;
        (partition.replicas, partition.adding, partition.removing) = (replicas, adding, removing);
    }

    #[test]
    fn a_second_reassignment_goes_from_where_the_first_began() {
        let mut moving = partition(&[1, 2, 3], &[1, 2, 3]);
        let first = towards(&moving, &ids(&[3, 4]));
        assert_eq!(first.replicas, ids(&[3, 4, 1, 2]));
        assert_eq!((first.adding.clone(), first.removing.clone()), (ids(&[4]), ids(&[1, 2])));
        place(&mut moving, first);
        let second = towards(&moving, &ids(&[5, 3]));
        assert_eq!(second.replicas, ids(&[5, 3, 1, 2]));
        assert_eq!((second.adding.clone(), second.removing.clone()), (ids(&[5]), ids(&[1, 2])));
        assert_eq!(cancelled(&moving).replicas, ids(&[3, 1, 2]));
    }

    #[test]
    fn another_order_is_no_move() {
        let placed = towards(&partition(&[1, 2], &[1, 2]), &ids(&[2, 1]));
        assert_eq!((placed.adding.len(), placed.removing.len()), (0, 0));
        assert_eq!(placed.replicas, ids(&[2, 1]));
    }

    proptest! {
        #[test]
        fn a_reassignment_ends_where_it_should_with_whom_has_everything(
            replicas in proptest::sample::subsequence(vec![1, 2, 3, 4, 5], 1..4),
            first in proptest::sample::subsequence(vec![1, 2, 3, 4, 5], 1..4).prop_shuffle(),
            second in proptest::sample::subsequence(vec![1, 2, 3, 4, 5], 1..4).prop_shuffle(),
            cancel in any::<bool>(),
        ) {
            let mut moving = partition(&replicas, &replicas);
            let placed = towards(&moving, &ids(&first));
            place(&mut moving, placed);
            prop_assert_eq!(target(&moving), ids(&first));
            if cancel {
                let mut back = cancelled(&moving).replicas;
                back.sort();
                prop_assert_eq!(back, ids(&replicas));
            }
            let placed = towards(&moving, &ids(&second));
            let state = state_with(&moving, &placed, (1, 1), |_| true).unwrap();
            if let Some(state) = state {
                prop_assert!(!state.isr.is_empty());
                (moving.isr, moving.leader) = (state.isr, state.leader);
                prop_assert_eq!(state.leader_epoch, 1);
            }
            place(&mut moving, placed);
            prop_assert!(moving.isr.iter().all(|b| moving.replicas.contains(b)));
            // All are in sync at last.
            moving.isr = moving.replicas.clone();
            let Some(done) = finished(&moving) else {
                prop_assert!(!is_under_way(&moving));
                return Ok(());
            };
            prop_assert_eq!(&done.replicas, &ids(&second));
            if let Some(state) = state_with(&moving, &done, (1, 1), |_| true).unwrap() {
                prop_assert!(state.leader.is_some_and(|leader| done.replicas.contains(&leader)));
                prop_assert!(state.isr.iter().all(|b| done.replicas.contains(b)));
            }
        }
    }
}
