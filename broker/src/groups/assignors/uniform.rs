//! The `uniform` assignor: evenly, and with as few moves as that allows.
//!
//! Where all members subscribe to the same topics, each is due the same number of partitions or one
//! more, and keeps what it has up to that. Where they differ, what is free goes to the subscriber
//! with the least, scarcest topics first; then partitions move from members that have more to ones
//! that have at least two less, until there is no such pair.

use std::collections::{BTreeMap, BTreeSet};

use ottla_common::types::TopicId;

use super::{Assignment, Subscriber, Topics};

/// See [`Assignor::assign`](super::Assignor::assign).
pub fn assign(members: &[Subscriber<'_>], topics: &Topics) -> Vec<Assignment> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|index| members.get(*index).map(|member| member.member_id));
    let ordered: Vec<&Subscriber<'_>> = order.iter().filter_map(|i| members.get(*i)).collect();
    let mut draft = Draft::keep(&ordered, topics);
    let first = ordered.first().map(|member| member.topics);
    if ordered.iter().all(|member| Some(member.topics) == first) {
        draft.level();
    } else {
        draft.place();
        draft.balance();
    }
    let mut result = vec![Assignment::new(); members.len()];
    for (assignment, index) in draft.assignments.into_iter().zip(order) {
        if let Some(place) = result.get_mut(index) {
            *place = assignment;
        }
    }
    result
}

/// An assignment in the making. Members are numbers, in the order of their ids.
struct Draft {
    assignments: Vec<Assignment>,
    /// How many partitions each member has.
    loads: Vec<usize>,
    /// Who may have each topic.
    subscribers: BTreeMap<TopicId, Vec<usize>>,
    /// What nobody has yet.
    free: Vec<(TopicId, i32)>,
}

impl Draft {
    /// Each member with what it was assigned before, as far as that exists, is subscribed to and
    /// belongs to nobody else.
    fn keep(members: &[&Subscriber<'_>], topics: &Topics) -> Self {
        let mut subscribers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
        for (index, member) in members.iter().enumerate() {
            for topic in member.topics.iter().filter(|topic| topics.contains_key(topic)) {
                subscribers.entry(*topic).or_default().push(index);
            }
        }
        let mut unowned: BTreeMap<TopicId, BTreeSet<i32>> = subscribers
            .keys()
            .map(|topic| (*topic, (0..topics.get(topic).copied().unwrap_or(0)).collect()))
            .collect();
        let mut assignments = Vec::with_capacity(members.len());
        for member in members {
            let mut kept = Assignment::new();
            for (topic, partitions) in member.assigned {
                let Some(unowned) = unowned.get_mut(topic) else { continue };
                if member.topics.contains(topic) {
                    let mine: BTreeSet<i32> =
                        partitions.iter().copied().filter(|p| unowned.remove(p)).collect();
                    if !mine.is_empty() {
                        kept.insert(*topic, mine);
                    }
                }
            }
            assignments.push(kept);
        }
        let loads = assignments.iter().map(load).collect();
        let free = unowned.iter().flat_map(|(topic, all)| all.iter().map(|p| (*topic, *p)));
        Self { assignments, loads, free: free.collect(), subscribers }
    }

    /// Brings every member to its share, where all may have everything.
    fn level(&mut self) {
        let total = self.free.len() + self.loads.iter().sum::<usize>();
        let Some(share) = total.checked_div(self.loads.len()) else { return };
        // So many members have one more than the share; those who have it already come first.
        let mut extra = total - share * self.loads.len();
        let mut due = vec![share; self.loads.len()];
        let has_more = |load: &usize| *load > share;
        for wants in [true, false] {
            for (due, load) in due.iter_mut().zip(&self.loads) {
                if extra > 0 && has_more(load) == wants {
                    *due += 1;
                    extra -= 1;
                }
            }
        }
        for (assignment, due) in self.assignments.iter_mut().zip(&due) {
            let mut surplus = load(assignment).saturating_sub(*due);
            while let Some(mut last) = assignment.last_entry().filter(|_| surplus > 0) {
                self.free.extend(last.get_mut().pop_last().map(|p| (*last.key(), p)));
                if last.get().is_empty() {
                    last.remove();
                }
                surplus -= 1;
            }
        }
        self.free.sort_unstable();
        let mut free = std::mem::take(&mut self.free).into_iter();
        for (assignment, due) in self.assignments.iter_mut().zip(&due) {
            let missing = due.saturating_sub(load(assignment));
            for (topic, partition) in free.by_ref().take(missing) {
                assignment.entry(topic).or_default().insert(partition);
            }
        }
    }

    /// Gives away what is free, topics with the fewest subscribers first.
    fn place(&mut self) {
        let mut free = std::mem::take(&mut self.free);
        free.sort_by_key(|(topic, p)| {
            (self.subscribers.get(topic).map_or(0, Vec::len), *topic, *p)
        });
        for (topic, partition) in free {
            let subscribers = self.subscribers.get(&topic).map(Vec::as_slice).unwrap_or_default();
            if let Some(member) = least_loaded(subscribers, &self.loads) {
                self.give(member, topic, partition);
            }
        }
    }

    /// Moves partitions until nobody has two more than someone else who could have one of them.
    /// Each move makes the sum of the squares of the loads smaller, so it comes to an end.
    fn balance(&mut self) {
        loop {
            let mut has_moved = false;
            let mut order: Vec<usize> = (0..self.loads.len()).collect();
            order.sort_by_key(|m| (std::cmp::Reverse(self.loads.get(*m).copied()), *m));
            for member in order {
                has_moved |= self.relieve(member);
            }
            if !has_moved {
                return;
            }
        }
    }

    /// Takes partitions off a member as long as someone else should have them.
    fn relieve(&mut self, member: usize) -> bool {
        let topics: Vec<TopicId> =
            self.assignments.get(member).map(|a| a.keys().copied().collect()).unwrap_or_default();
        let mut has_moved = false;
        for topic in topics {
            let Some(subscribers) = self.subscribers.get(&topic).cloned() else { continue };
            while let Some(to) = least_loaded(&subscribers, &self.loads)
                && self.load_of(member) >= self.load_of(to) + 2
                && let Some(partition) = self.take(member, topic)
            {
                self.give(to, topic, partition);
                has_moved = true;
            }
        }
        has_moved
    }

    fn load_of(&self, member: usize) -> usize {
        self.loads.get(member).copied().unwrap_or(0)
    }

    fn give(&mut self, member: usize, topic: TopicId, partition: i32) {
        if let (Some(assignment), Some(load)) =
            (self.assignments.get_mut(member), self.loads.get_mut(member))
        {
            assignment.entry(topic).or_default().insert(partition);
            *load += 1;
        }
    }

    fn take(&mut self, member: usize, topic: TopicId) -> Option<i32> {
        let assignment = self.assignments.get_mut(member)?;
        let partitions = assignment.get_mut(&topic)?;
        let partition = partitions.pop_last()?;
        if partitions.is_empty() {
            assignment.remove(&topic);
        }
        if let Some(load) = self.loads.get_mut(member) {
            *load -= 1;
        }
        Some(partition)
    }
}

fn least_loaded(members: &[usize], loads: &[usize]) -> Option<usize> {
    members.iter().copied().min_by_key(|member| (loads.get(*member).copied(), *member))
}

fn load(assignment: &Assignment) -> usize {
    assignment.values().map(BTreeSet::len).sum()
}
