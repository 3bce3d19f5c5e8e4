//! The `range` assignor: each topic's partitions in order, cut into one range for each subscriber.
//!
//! Subscribers stand in the order of their instance ids, then of their member ids; the first ones
//! get one partition more if it does not come out even. What was assigned before plays no part.

use std::collections::BTreeMap;

use ottla_common::types::TopicId;

use super::{Assignment, Subscriber, Topics};

/// See [`Assignor::assign`](super::Assignor::assign).
pub fn assign(members: &[Subscriber<'_>], topics: &Topics) -> Vec<Assignment> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    // Static members come first.
    order.sort_by_key(|index| {
        members.get(*index).map(|m| (m.instance_id.is_none(), m.instance_id, m.member_id))
    });
    let mut subscribers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
    for index in order {
        for topic in members.get(index).into_iter().flat_map(|member| member.topics) {
            subscribers.entry(*topic).or_default().push(index);
        }
    }
    let mut result = vec![Assignment::new(); members.len()];
    for (topic, subscribers) in subscribers {
        let Some(count) = topics.get(&topic) else { continue };
        let total = i32::try_from(subscribers.len()).unwrap_or(i32::MAX);
        let (share, extra) = (count / total, count % total);
        let mut start = 0;
        for (number, index) in (0..).zip(subscribers) {
            let end = start + share + i32::from(number < extra);
            if let Some(assignment) = result.get_mut(index).filter(|_| start < end) {
                assignment.insert(topic, (start..end).collect());
            }
            start = end;
        }
    }
    result
}
