//! Who is to own what: asking the assignor.

use std::collections::{BTreeMap, BTreeSet};

use ottla_common::kafka::wire::KafkaString;
use ottla_common::types::TopicId;

use super::ConsumerGroup;
use super::member::Member;
use super::overlay::Overlay;
use super::subscription::{ResolvedRegex, existing};
use crate::groups::assignors::{Assignment, Assignor, Subscriber, Topics};
use crate::metadata::image::MetadataImage;

/// Patterns with what they stand for.
pub type Regexes = BTreeMap<KafkaString, ResolvedRegex>;

/// The names of all topics that a member subscribes to.
pub fn names_of<'a>(
    member: &'a Member,
    regexes: &'a Regexes,
) -> impl Iterator<Item = &'a KafkaString> + use<'a> {
    let resolved = regexes.get(&member.topic_regex);
    member.topic_names.iter().chain(resolved.into_iter().flat_map(|resolved| &resolved.topics))
}

/// The part of an assignment that is of topics that a member subscribes to.
pub fn subscribed_part(
    target: &Assignment,
    member: &Member,
    regexes: &Regexes,
    image: &MetadataImage,
) -> Assignment {
    let mut part = target.clone();
    if !part.is_empty() {
        let topics: BTreeSet<TopicId> =
            existing(names_of(member, regexes), image).into_iter().map(|(id, _)| id).collect();
        part.retain(|topic, _| topics.contains(topic));
    }
    part
}

/// The names of all topics that anyone subscribes to.
pub fn all_names<'a>(overlay: &Overlay<'a>, regexes: &'a Regexes) -> BTreeSet<&'a KafkaString> {
    overlay.members().flat_map(|member| names_of(member, regexes)).collect()
}

/// The assignor that most members would like, the first of the offered ones if nobody cares.
pub fn preferred_assignor(overlay: &Overlay<'_>, offered: &[Assignor]) -> Assignor {
    let first = offered.first().copied().unwrap_or(Assignor::Uniform);
    let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
    let wishes = overlay.members().filter_map(|member| member.assignor.as_deref());
    for assignor in wishes.filter_map(Assignor::from_name) {
        *votes.entry(assignor).or_default() += 1;
    }
    let most = votes.values().copied().max();
    let winner = offered.iter().copied().find(|a| most.is_some() && votes.get(a).copied() == most);
    winner.unwrap_or(first)
}

/// What each member is to own, in the order of the members.
pub fn assign(
    overlay: &Overlay<'_>,
    regexes: &Regexes,
    (assignor, image): (Assignor, &MetadataImage),
) -> Vec<(KafkaString, Assignment)> {
    let nothing = Assignment::new();
    let members: Vec<&Member> = overlay.members().collect();
    let mut topics = Topics::new();
    let mut wanted: Vec<BTreeSet<TopicId>> = Vec::with_capacity(members.len());
    for member in &members {
        let existing = existing(names_of(member, regexes), image);
        wanted.push(existing.iter().map(|(id, _)| *id).collect());
        topics.extend(existing);
    }
    let subscribers: Vec<Subscriber<'_>> = members
        .iter()
        .zip(&wanted)
        .map(|(member, topics)| Subscriber {
            member_id: &member.id,
            instance_id: member.instance_id.as_deref(),
            topics,
            assigned: overlay.target(&member.id).unwrap_or(&nothing),
        })
        .collect();
    let result = assignor.assign(&subscribers, &topics);
    members.iter().map(|member| member.id.clone()).zip(result).collect()
}

impl ConsumerGroup {
    /// The target of a member by the last assignment.
    pub fn target(&self, member_id: &str) -> Option<&Assignment> {
        self.targets.get(member_id)
    }
}
