//! How a member gets from what it owns to what it is to own: first it gives up, then it is given
//! what nobody else holds any more.

use std::collections::BTreeMap;

use ottla_common::types::TopicId;

use super::member::{Member, MemberState, Owned};
use crate::groups::assignors::Assignment;

/// What a member is to come to.
pub struct Goal<'a> {
    /// The epoch of the group's target assignment.
    pub epoch: i32,
    /// The member's part of it, as far as it still subscribes to the topics.
    pub target: &'a Assignment,
    /// What the member says it owns; none if it does not say.
    pub owned: Option<&'a Assignment>,
}

/// The member after the next step towards its goal. `is_free` tells whether nobody holds a
/// partition.
pub fn reconcile(
    member: &Member,
    goal: &Goal<'_>,
    is_free: impl Fn(TopicId, i32) -> bool,
) -> Member {
    match member.state {
        MemberState::Stable if member.epoch == goal.epoch && has_exactly(member, goal.target) => {
            member.clone()
        }
        MemberState::UnrevokedPartitions if may_own(goal.owned, &member.revoking) => member.clone(),
        // What it was told to give up it has given up, which completes one epoch.
        MemberState::UnrevokedPartitions => {
            step(member, member.epoch.saturating_add(1).min(goal.epoch), goal, is_free)
        }
        MemberState::Stable | MemberState::UnreleasedPartitions => {
            step(member, member.epoch, goal, is_free)
        }
    }
}

/// The next step of a member that has nothing left to give up from the last one.
fn step(
    member: &Member,
    epoch: i32,
    goal: &Goal<'_>,
    is_free: impl Fn(TopicId, i32) -> bool,
) -> Member {
    let is_wanted = |topic: &TopicId, partition: &i32| {
        goal.target.get(topic).is_some_and(|wanted| wanted.contains(partition))
    };
    let (mut assigned, mut revoking) = (Owned::new(), Owned::new());
    for (topic, partitions) in &member.assigned {
        for (partition, since) in partitions {
            let side = if is_wanted(topic, partition) { &mut assigned } else { &mut revoking };
            side.entry(*topic).or_default().insert(*partition, *since);
        }
    }
    let next = Member { previous_epoch: member.epoch, ..member.clone() };
    if !revoking.is_empty() && may_own(goal.owned, &revoking) {
        let state = MemberState::UnrevokedPartitions;
        return Member { epoch, state, assigned, revoking, ..next };
    }
    let mut state = MemberState::Stable;
    for (topic, wanted) in goal.target {
        let has: Option<&BTreeMap<i32, i32>> = member.assigned.get(topic);
        for partition in wanted.iter().filter(|p| !has.is_some_and(|has| has.contains_key(p))) {
            if is_free(*topic, *partition) {
                assigned.entry(*topic).or_default().insert(*partition, goal.epoch);
            } else {
                state = MemberState::UnreleasedPartitions;
            }
        }
    }
    Member { epoch: goal.epoch, state, assigned, revoking: Owned::new(), ..next }
}

/// Whether a member may still own one of these partitions, by what it says.
fn may_own(owned: Option<&Assignment>, partitions: &Owned) -> bool {
    let Some(owned) = owned else { return !partitions.is_empty() };
    owned.iter().any(|(topic, owned)| {
        partitions.get(topic).is_some_and(|all| owned.iter().any(|p| all.contains_key(p)))
    })
}

fn has_exactly(member: &Member, target: &Assignment) -> bool {
    member.assigned.len() == target.len()
        && member.assigned.iter().zip(target).all(|((topic, has), (wanted_topic, wanted))| {
            topic == wanted_topic && has.keys().eq(wanted.iter())
        })
}
