//! What else is asked of a consumer group: whether a request makes sense at all, whether a member
//! may commit or fetch offsets, and what the group looks like.

use std::collections::BTreeMap;

use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::consumer_group_describe::response;
use ottla_common::kafka::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use ottla_common::kafka::wire::KafkaString;
use ottla_common::types::TopicId;

use super::leave::is_leaving;
use super::member::{LEFT_FOR_A_WHILE, Member};
use super::overlay::Overlay;
use super::target::preferred_assignor;
use super::{ConsumerGroup, ConsumerGroupSettings, Refusal};
use crate::groups::assignors::{Assignment, Assignor};
use crate::metadata::image::MetadataImage;

/// The first version of OffsetCommit and OffsetFetch that a member of a consumer group may use.
const MEMBER_EPOCH_VERSION: i16 = 9;

/// Checks a heartbeat of an api version by itself.
///
/// # Errors
/// INVALID_REQUEST or UNSUPPORTED_ASSIGNOR.
pub fn validate(
    request: &ConsumerGroupHeartbeatRequest,
    api_version: i16,
    settings: &ConsumerGroupSettings,
) -> Result<(), Refusal> {
    let epoch = request.member_epoch;
    let refuse = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let is_empty = |text: &Option<KafkaString>| text.as_ref().is_some_and(|text| text.is_empty());
    if request.group_id.trim().is_empty() {
        return refuse("GroupId can't be empty.");
    }
    if request.member_id.trim().is_empty() && (api_version >= 1 || epoch != 0) {
        return refuse("MemberId can't be empty.");
    }
    if is_empty(&request.instance_id) {
        return refuse("InstanceId can't be empty.");
    }
    if is_empty(&request.rack_id) {
        return refuse("RackId can't be empty.");
    }
    if epoch < 0 && !is_leaving(epoch) {
        return refuse("MemberEpoch is invalid.");
    }
    if epoch == LEFT_FOR_A_WHILE && request.instance_id.is_none() {
        return refuse("InstanceId can't be null.");
    }
    if epoch == 0 {
        if request.rebalance_timeout_ms == -1 {
            return refuse("RebalanceTimeoutMs must be provided in first request.");
        }
        if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
            return refuse("TopicPartitions must be empty when (re-)joining.");
        }
        if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
            return refuse(
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when \
                 (re-)joining.",
            );
        }
    }
    match &request.server_assignor {
        Some(name) if !is_offered(name, settings) => {
            let offered: Vec<&str> = settings.assignors.iter().map(|a| a.name()).collect();
            let offered = offered.join(", ");
            let message =
                format!("ServerAssignor {name} is not supported. Supported assignors: {offered}.");
            Err(Refusal::new(ErrorCode::UnsupportedAssignor, message))
        }
        _ => Ok(()),
    }
}

fn is_offered(name: &str, settings: &ConsumerGroupSettings) -> bool {
    Assignor::from_name(name).is_some_and(|assignor| settings.assignors.contains(&assignor))
}

/// Who commits offsets.
#[derive(Clone, Copy, Debug)]
pub struct Committer<'a> {
    /// The member; empty if it is none.
    pub member_id: &'a str,
    /// The epoch that it shows; negative if it is no member.
    pub member_epoch: i32,
    /// The version of its request.
    pub api_version: i16,
}

/// Which partitions offsets may be committed for.
#[derive(Clone, Copy, Debug)]
pub enum Committable<'a> {
    /// All.
    All,
    /// Those that a member has had since this epoch at the latest.
    Since(&'a Member, i32),
}

impl Committable<'_> {
    /// Whether an offset of this partition may be committed.
    ///
    /// # Errors
    /// STALE_MEMBER_EPOCH: it may be someone else's since.
    pub fn check(&self, topic: TopicId, partition: i32) -> Result<(), ErrorCode> {
        let Self::Since(member, epoch) = self else { return Ok(()) };
        let mut owned = [&member.assigned, &member.revoking].into_iter();
        match owned.find_map(|owned| owned.get(&topic)?.get(&partition)) {
            Some(since) if since <= epoch => Ok(()),
            _ => Err(ErrorCode::StaleMemberEpoch),
        }
    }
}

impl ConsumerGroup {
    /// Whether offsets may be committed, and of which partitions.
    ///
    /// # Errors
    /// What the client is told for all partitions.
    pub fn check_commit(&self, who: &Committer<'_>) -> Result<Committable<'_>, ErrorCode> {
        // An empty group's offsets may be set by anyone who is no member.
        if who.member_epoch < 0 && self.members.is_empty() {
            return Ok(Committable::All);
        }
        let member = self.members.get(who.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if member.classic.is_some() {
            let is_current = who.member_epoch == member.epoch;
            return is_current.then_some(Committable::All).ok_or(ErrorCode::IllegalGeneration);
        }
        if who.api_version < MEMBER_EPOCH_VERSION {
            return Err(ErrorCode::UnsupportedVersion);
        }
        match who.member_epoch {
            shown if shown == member.epoch => Ok(Committable::All),
            shown if shown < 0 || shown > member.epoch => Err(ErrorCode::StaleMemberEpoch),
            shown => Ok(Committable::Since(member, shown)),
        }
    }

    /// Whether offsets may be fetched by a client that says it is this member in this epoch.
    ///
    /// # Errors
    /// UNKNOWN_MEMBER_ID, or STALE_MEMBER_EPOCH.
    pub fn check_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        // Tools ask without being members.
        let Some(member_id) = member_id.filter(|_| epoch >= 0) else { return Ok(()) };
        let member = self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if member.epoch == epoch { Ok(()) } else { Err(ErrorCode::StaleMemberEpoch) }
    }

    /// The group as ConsumerGroupDescribe tells it.
    pub fn describe(
        &self,
        settings: &ConsumerGroupSettings,
        image: &MetadataImage,
    ) -> response::DescribedGroup {
        let overlay = Overlay { group: self, member: None, gone: None };
        let assignor = preferred_assignor(&overlay, &settings.assignors);
        let nothing = Assignment::new();
        let members = self.members.values().map(|member| response::Member {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            rack_id: member.rack_id.clone(),
            member_epoch: member.epoch,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            subscribed_topic_names: member.topic_names.iter().cloned().collect(),
            subscribed_topic_regex: Some(member.topic_regex.clone()),
            assignment: named(&member.assignment(), image),
            target_assignment: named(self.target(&member.id).unwrap_or(&nothing), image),
            member_type: i8::from(member.classic.is_none()),
            ..response::Member::default()
        });
        response::DescribedGroup {
            group_id: self.id.clone(),
            group_state: self.state().name().into(),
            group_epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            assignor_name: assignor.name().into(),
            members: members.collect(),
            ..response::DescribedGroup::default()
        }
    }
}

/// An assignment with the names of its topics. Topics that are gone have none and are left out.
fn named(assignment: &Assignment, image: &MetadataImage) -> response::Assignment {
    let mut topics: BTreeMap<&str, response::TopicPartitions> = BTreeMap::new();
    for (topic_id, partitions) in assignment {
        if let Some(topic) = image.topic_by_id(*topic_id) {
            let partitions = response::TopicPartitions {
                topic_id: *topic_id,
                topic_name: (&*topic.name).into(),
                partitions: partitions.iter().copied().collect(),
                ..response::TopicPartitions::default()
            };
            topics.insert(&topic.name, partitions);
        }
    }
    response::Assignment { topic_partitions: topics.into_values().collect(), ..Default::default() }
}
