//! A classic group becomes one of consumers, and the other way round, with all its members: the
//! records that say so (KIP-848, "migration").

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_common::kafka::messages::records::consumer_group_member_metadata::{
    ClassicMemberMetadata, ClassicProtocol,
};
use ottla_common::kafka::messages::records::group_metadata::{GroupMetadataValue, MemberMetadata};
use ottla_common::kafka::wire::{KafkaString, WireError};

use super::classic::{CONSUMER_PROTOCOL, read_assignment, read_subscription, write_assignment};
use super::member::{Member, Owned};
use super::records::{ConsumerGroupRecord, Draft};
use super::{ConsumerGroup, ConsumerGroupSettings, GroupState};
use crate::groups::assignors::Assignment;
use crate::groups::classic::{ClassicGroup, Member as ClassicMember};
use crate::metadata::image::MetadataImage;

/// Whether a classic group with members may become one of consumers while it works.
pub fn may_upgrade(group: &ClassicGroup, settings: &ConsumerGroupSettings) -> bool {
    settings.may_upgrade && group.is_of_consumers() && group.size() <= settings.size_max
}

/// The records of a consumer group with the members of a classic one, each with what it was
/// assigned there, in an epoch that is the classic group's generation.
///
/// # Errors
/// What a member has said or was assigned cannot be read.
pub fn upgrade(
    group: &ClassicGroup,
    image: &MetadataImage,
) -> Result<Vec<ConsumerGroupRecord>, WireError> {
    let mut members = Vec::new();
    for member in group.members() {
        members.push(upgraded(member, group, image)?);
    }
    let mut draft = Draft::new(&(&**group.id()).into());
    members.iter().for_each(|member| draft.member(member));
    draft.epoch(group.generation(), 0);
    members.iter().for_each(|member| draft.target(&member.id, &member.assignment()));
    draft.assignment_epoch(group.generation(), 0);
    members.iter().for_each(|member| draft.progress(member));
    Ok(draft.records)
}

fn upgraded(
    member: &ClassicMember,
    group: &ClassicGroup,
    image: &MetadataImage,
) -> Result<Member, WireError> {
    let first = member.protocols.first().map(|(name, _)| name.as_str());
    let protocol = group.protocol().or(first).unwrap_or_default();
    let (_, said) = read_subscription(&member.metadata(protocol))?;
    let epoch = group.generation();
    let mut assigned = Owned::new();
    for (topic, partitions) in read_assignment(&member.assignment, image)? {
        assigned.insert(topic, partitions.into_iter().map(|p| (p, epoch)).collect());
    }
    let protocols = member.protocols.iter().map(|(name, metadata)| ClassicProtocol {
        name: name.as_str().into(),
        metadata: metadata.clone(),
        ..ClassicProtocol::default()
    });
    let classic = ClassicMemberMetadata {
        session_timeout_ms: member.session_timeout_ms,
        supported_protocols: protocols.collect(),
        ..ClassicMemberMetadata::default()
    };
    Ok(Member {
        id: (&*member.id).into(),
        instance_id: member.instance_id.as_deref().map(Into::into),
        rack_id: said.rack_id.as_ref().map(KafkaString::detached),
        client_id: member.client.id.as_str().into(),
        client_host: member.client.host.as_str().into(),
        topic_names: said.topics.iter().map(KafkaString::detached).collect(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        classic: Some(classic),
        epoch,
        previous_epoch: epoch,
        assigned,
        ..Member::default()
    })
}

impl ConsumerGroup {
    /// What is written when the members that use the consumer protocol are gone and the others go
    /// on as a classic group: what takes this group away, and the record of the other.
    ///
    /// # Errors
    /// A text that is too long.
    pub fn downgrade(
        &self,
        gone: &[KafkaString],
        (now_ms, image): (i64, &MetadataImage),
    ) -> Result<(Vec<ConsumerGroupRecord>, GroupMetadataValue), WireError> {
        let mut draft = Draft::new(&self.id);
        for member in self.members.values() {
            draft.gone(&member.id);
        }
        self.regexes.keys().for_each(|regex| draft.regex(regex, None));
        draft.group_gone();
        let stay: Vec<&Member> =
            self.members.values().filter(|member| !gone.contains(&member.id)).collect();
        let protocol = elected(&stay);
        let mut members = Vec::with_capacity(stay.len());
        for member in &stay {
            members.push(self.downgraded(member, &protocol, image)?);
        }
        let value = GroupMetadataValue {
            protocol_type: CONSUMER_PROTOCOL.into(),
            generation: self.epoch,
            leader: members.first().map(|member| member.member_id.clone()),
            protocol: Some(protocol),
            current_state_timestamp: now_ms,
            members,
            ..GroupMetadataValue::default()
        };
        Ok((draft.records, value))
    }

    fn downgraded(
        &self,
        member: &Member,
        protocol: &str,
        image: &MetadataImage,
    ) -> Result<MemberMetadata, WireError> {
        let subscription = metadata(member, protocol);
        let version = read_subscription(&subscription).map_or(0, |(version, _)| version);
        let nothing = Assignment::new();
        let target = self.targets.get(&member.id).unwrap_or(&nothing);
        Ok(MemberMetadata {
            member_id: member.id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout: member.rebalance_timeout_ms,
            session_timeout: member.classic.as_ref().map_or(0, |c| c.session_timeout_ms),
            subscription,
            assignment: write_assignment(target, version, image)?,
            ..MemberMetadata::default()
        })
    }

    /// Whether members of the classic protocol are among the members.
    pub fn is_mixed(&self) -> bool {
        self.state() != GroupState::Empty && self.members.values().any(|m| m.classic.is_some())
    }
}

fn protocols(member: &Member) -> &[ClassicProtocol] {
    member.classic.as_ref().map(|c| c.supported_protocols.as_slice()).unwrap_or_default()
}

fn metadata(member: &Member, protocol: &str) -> Bytes {
    let found = protocols(member).iter().find(|known| known.name == *protocol);
    found.map(|known| known.metadata.clone()).unwrap_or_default()
}

/// The protocol that all know and most like best, as in a classic group.
fn elected(members: &[&Member]) -> KafkaString {
    let knows = |member: &Member, name: &KafkaString| {
        protocols(member).iter().any(|known| known.name == *name)
    };
    let is_candidate = |name: &KafkaString| members.iter().all(|member| knows(member, name));
    let mut votes: BTreeMap<&KafkaString, usize> = BTreeMap::new();
    for member in members {
        let mut names = protocols(member).iter().map(|known| &known.name);
        if let Some(best) = names.find(|name| is_candidate(name)) {
            *votes.entry(best).or_default() += 1;
        }
    }
    // Of several with as many votes the first by name, so that it is always the same.
    let best = votes.into_iter().rev().max_by_key(|(_, votes)| *votes);
    best.map(|(name, _)| name.clone()).unwrap_or_default()
}
