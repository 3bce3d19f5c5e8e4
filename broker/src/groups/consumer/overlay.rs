//! A group as it will be when a decision's records are applied: decisions look at it, since they
//! change nothing themselves.

use ottla_common::kafka::wire::KafkaString;

use super::ConsumerGroup;
use super::member::Member;
use crate::groups::assignors::Assignment;

/// A group with one member changed, added, replaced or gone.
#[derive(Clone, Copy)]
pub struct Overlay<'a> {
    /// The group as it is.
    pub group: &'a ConsumerGroup,
    /// A member as it will be.
    pub member: Option<&'a Member>,
    /// A member that will be gone. What it was to own is the new one's, if there is one.
    pub gone: Option<&'a KafkaString>,
}

impl<'a> Overlay<'a> {
    /// The members, in the order of their ids but for a new one, which is last.
    pub fn members(self) -> impl Iterator<Item = &'a Member> {
        let (gone, member) = (self.gone, self.member);
        let changed = move |stored: &'a Member| match member {
            Some(member) if member.id == stored.id => member,
            _ => stored,
        };
        let new = member.filter(|member| !self.group.members.contains_key(&member.id));
        let stored = self.group.members.values().filter(move |stored| Some(&stored.id) != gone);
        stored.map(changed).chain(new)
    }

    /// Whether nobody is left.
    pub fn is_empty(self) -> bool {
        self.members().next().is_none()
    }

    /// What a member is to own by the last assignment.
    pub fn target(self, member_id: &KafkaString) -> Option<&'a Assignment> {
        let stored = self.group.targets.get(member_id);
        let is_heir = self.member.is_some_and(|member| member.id == *member_id);
        stored.or_else(|| self.gone.filter(|_| is_heir).and_then(|id| self.group.targets.get(id)))
    }
}
