//! Members of the classic protocol in a consumer group: a group changes over to the consumer
//! protocol while it works, one member after the other, and back (KIP-848, "migration").
//!
//! Such a member is assigned by the broker as all others are. What they are told by one heartbeat,
//! it is told by a JoinGroup (which is answered at once, and whose generation is the member's
//! epoch), a SyncGroup and the Heartbeats that call it to join again.

use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::heartbeat::HeartbeatRequest;
use ottla_common::kafka::messages::join_group::JoinGroupRequest;
use ottla_common::kafka::messages::records::consumer_group_member_metadata::{
    ClassicMemberMetadata, ClassicProtocol,
};
use ottla_common::kafka::messages::records::consumer_protocol_assignment as assignment_format;
use ottla_common::kafka::messages::records::consumer_protocol_subscription as subscription;
use ottla_common::kafka::messages::sync_group::SyncGroupRequest;
use ottla_common::kafka::wire::{Decode, Encode, KafkaString, Reader, WireError};

use bytes::Bytes;

use super::heartbeat::{Client, Found};
use super::member::{Member, MemberState};
use super::subscription::existing;
use super::{ConsumerGroup, Decision, MemberTimer, Scene};
use crate::groups::assignors::Assignment;
use crate::internal_topics::machine::TimerChange;
use crate::metadata::image::MetadataImage;

/// The protocol type of consumers.
pub const CONSUMER_PROTOCOL: &str = "consumer";

/// A subscription as a client of the classic protocol says it.
pub type Subscription = subscription::ConsumerProtocolSubscription;

/// Reads what a member says under a protocol.
///
/// # Errors
/// It cannot be read.
pub fn read_subscription(metadata: &Bytes) -> Result<(i16, Subscription), WireError> {
    let mut reader = Reader::new(metadata.clone());
    // As Kafka does: the fields of a version of the future begin with those that are known.
    let version = reader.i16()?.min(Subscription::MAX_VERSION);
    Ok((version, Subscription::decode(&mut reader, version)?))
}

/// An assignment in the classic protocol's words. Topics that are gone are left out.
///
/// # Errors
/// A name that is too long, which no topic has.
pub fn write_assignment(
    assignment: &Assignment,
    version: i16,
    image: &MetadataImage,
) -> Result<Bytes, WireError> {
    use assignment_format::{ConsumerProtocolAssignment, TopicPartition};
    let topics = assignment.iter().filter_map(|(id, partitions)| {
        let topic = image.topic_by_id(*id)?;
        Some(TopicPartition {
            topic: (&*topic.name).into(),
            partitions: partitions.iter().copied().collect(),
        })
    });
    let assigned_partitions = topics.collect();
    let value = ConsumerProtocolAssignment { assigned_partitions, ..Default::default() };
    let version = version.clamp(0, ConsumerProtocolAssignment::MAX_VERSION);
    value.to_prefixed_bytes(version, version)
}

/// Reads an assignment of the classic protocol. Topics that are gone are left out.
///
/// # Errors
/// It cannot be read.
pub fn read_assignment(bytes: &Bytes, image: &MetadataImage) -> Result<Assignment, WireError> {
    if bytes.is_empty() {
        return Ok(Assignment::new());
    }
    let mut reader = Reader::new(bytes.clone());
    let latest = assignment_format::ConsumerProtocolAssignment::MAX_VERSION;
    let version = reader.i16()?.min(latest);
    let value = assignment_format::ConsumerProtocolAssignment::decode(&mut reader, version)?;
    let topics = value.assigned_partitions.iter();
    Ok(by_id(topics.map(|topic| (&topic.topic, topic.partitions.as_slice())), image))
}

fn by_id<'a>(
    topics: impl Iterator<Item = (&'a KafkaString, &'a [i32])>,
    image: &MetadataImage,
) -> Assignment {
    let mut assignment = Assignment::new();
    for (name, partitions) in topics.filter(|(_, partitions)| !partitions.is_empty()) {
        if let Some((id, _)) = existing([name], image).first() {
            assignment.entry(*id).or_default().extend(partitions);
        }
    }
    assignment
}

/// What a member is told that has joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its id.
    pub member_id: KafkaString,
    /// Its epoch, which it takes for a generation.
    pub generation: i32,
    /// The protocol that it likes best.
    pub protocol: KafkaString,
}

/// What a member is told that asks for its assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The protocol that it likes best.
    pub protocol: KafkaString,
    /// The assignment, as clients read it.
    pub assignment: Bytes,
}

impl ConsumerGroup {
    /// A JoinGroup of a member that has an id, in a group that is not empty. `is_new_id`: it has
    /// just been given it.
    ///
    /// # Errors
    /// What the client is told instead.
    pub fn join_classic(
        &self,
        (request, is_new_id): (&JoinGroupRequest, bool),
        client: Client<'_>,
        scene: &Scene<'_>,
    ) -> Result<Decision<Joined>, ErrorCode> {
        let found = self.find_classic(request, is_new_id, scene)?;
        let best = request.protocols.first().ok_or(ErrorCode::InconsistentGroupProtocol)?;
        let (_, said) =
            read_subscription(&best.metadata).map_err(|_| ErrorCode::InconsistentGroupProtocol)?;
        let topics = said.owned_partitions.iter();
        let owned = topics.map(|topic| (&topic.topic, topic.partitions.as_slice()));
        let owned = by_id(owned, scene.image);
        let mut updated = found.member.clone();
        updated.topic_names = said.topics.iter().map(KafkaString::detached).collect();
        updated.topic_regex = KafkaString::default();
        updated.assignor = None;
        updated.instance_id = request.group_instance_id.as_ref().map(KafkaString::detached);
        if said.rack_id.is_some() {
            updated.rack_id = said.rack_id.as_ref().map(KafkaString::detached);
        }
        updated.rebalance_timeout_ms = match request.rebalance_timeout_ms {
            -1 => request.session_timeout_ms,
            timeout_ms => timeout_ms,
        };
        (updated.client_id, updated.client_host) = (client.id.into(), client.host.into());
        updated.classic = Some(classic_metadata(request));
        let (next, records) = self.advance(&found, &updated, Some(&owned), scene);
        let after = |ms: i32| deadline(scene, ms);
        let mut timers = found.timers_of_replaced();
        let id = || next.id.clone();
        timers
            .push(TimerChange::Set(MemberTimer::Session(id()), after(request.session_timeout_ms)));
        timers.push(TimerChange::Cancel(MemberTimer::Rebalance(id())));
        timers.push(TimerChange::Cancel(MemberTimer::Join(id())));
        timers.push(TimerChange::Set(MemberTimer::Sync(id()), after(next.rebalance_timeout_ms)));
        let response = Joined {
            member_id: next.id.clone(),
            generation: next.epoch,
            protocol: best.name.detached(),
        };
        Ok(Decision { response, records, timers })
    }

    fn find_classic<'a>(
        &'a self,
        request: &JoinGroupRequest,
        is_new_id: bool,
        scene: &Scene<'_>,
    ) -> Result<Found<'a>, ErrorCode> {
        let id = &request.member_id;
        let stored = self.members.get(id);
        let is_full = stored.is_none() && self.members.len() >= scene.settings.size_max;
        if !self.supports_classic(request) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let Some(instance_id) = &request.group_instance_id else {
            return match stored {
                Some(stored) => Ok(Found::again(stored)),
                None if is_full => Err(ErrorCode::GroupMaxSizeReached),
                None => Ok(Found::new(id)),
            };
        };
        let holder = self.static_members.get(instance_id).and_then(|id| self.members.get(id));
        match holder {
            Some(holder) if holder.id == *id => Ok(Found::again(holder)),
            Some(holder) if is_new_id => Ok(Found::in_place_of(holder, id)),
            Some(_) => Err(ErrorCode::FencedInstanceId),
            None if !is_new_id => Err(ErrorCode::UnknownMemberId),
            None if is_full => Err(ErrorCode::GroupMaxSizeReached),
            None => Ok(Found::new(id)),
        }
    }

    /// Whether a client knows a protocol that all members of the classic protocol know.
    fn supports_classic(&self, request: &JoinGroupRequest) -> bool {
        let knows = |member: &ClassicMemberMetadata, name: &str| {
            member.supported_protocols.iter().any(|protocol| protocol.name == *name)
        };
        request.protocol_type.as_str() == CONSUMER_PROTOCOL
            && request.protocols.iter().any(|protocol| {
                let mut classic = self.members.values().filter_map(|m| m.classic.as_ref());
                classic.all(|member| knows(member, &protocol.name))
            })
    }

    /// A SyncGroup: what the member is assigned by now.
    ///
    /// # Errors
    /// What the client is told instead.
    pub fn sync_classic(
        &self,
        request: &SyncGroupRequest,
        scene: &Scene<'_>,
    ) -> Result<Decision<Synced>, ErrorCode> {
        let ids = (&*request.member_id, request.group_instance_id.as_deref());
        let (member, classic) = self.classic_member(ids, request.generation_id)?;
        let best = classic.supported_protocols.first().ok_or(ErrorCode::UnknownMemberId)?;
        let differs = |said: Option<&str>, known: &str| said.is_some_and(|said| said != known);
        if differs(request.protocol_type.as_deref(), CONSUMER_PROTOCOL)
            || differs(request.protocol_name.as_deref(), &best.name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        // One that has still to give up partitions does that first.
        if self.epoch > member.epoch && member.state != MemberState::UnrevokedPartitions {
            return Err(ErrorCode::RebalanceInProgress);
        }
        let (version, _) =
            read_subscription(&best.metadata).map_err(|_| ErrorCode::InconsistentGroupProtocol)?;
        let assignment = write_assignment(&member.assignment(), version, scene.image)
            .map_err(|_| ErrorCode::UnknownServerError)?;
        let session = MemberTimer::Session(member.id.clone());
        let timers = vec![
            TimerChange::Cancel(MemberTimer::Sync(member.id.clone())),
            TimerChange::Set(session, deadline(scene, classic.session_timeout_ms)),
        ];
        let response = Synced { protocol: best.name.clone(), assignment };
        Ok(Decision { response, records: Vec::new(), timers })
    }

    /// A Heartbeat: whether the member is to join again, because there is something new for it.
    ///
    /// # Errors
    /// What the client is told instead.
    pub fn heartbeat_classic(
        &mut self,
        request: &HeartbeatRequest,
        scene: &Scene<'_>,
    ) -> Result<Decision<Result<(), ErrorCode>>, ErrorCode> {
        let ids = (&*request.member_id, request.group_instance_id.as_deref());
        let (member, classic) = self.classic_member(ids, request.generation_id)?;
        let id = member.id.clone();
        let rejoin_at = deadline(scene, member.rebalance_timeout_ms);
        let session = MemberTimer::Session(id.clone());
        let at = deadline(scene, classic.session_timeout_ms);
        let mut timers = vec![TimerChange::Set(session, at)];
        let is_to_join = self.has_stale_topics
            || member.epoch < self.epoch
            || member.state == MemberState::UnrevokedPartitions
            || member.state == MemberState::UnreleasedPartitions && !self.waits(member);
        if !is_to_join {
            return Ok(Decision { response: Ok(()), records: Vec::new(), timers });
        }
        // The first call counts.
        if self.called.insert(id.clone()) {
            timers.push(TimerChange::Set(MemberTimer::Join(id), rejoin_at));
        }
        let response = Err(ErrorCode::RebalanceInProgress);
        Ok(Decision { response, records: Vec::new(), timers })
    }

    /// Whether others hold a partition that a member is to own.
    fn waits(&self, member: &Member) -> bool {
        let Some(target) = self.targets.get(&member.id) else { return false };
        let mut wanted = target.iter().flat_map(|(topic, all)| all.iter().map(|p| (*topic, *p)));
        wanted.any(|place| self.holders.get(&place).is_some_and(|holder| *holder != member.id))
    }

    /// A member of the classic protocol in its epoch.
    fn classic_member(
        &self,
        (member_id, instance_id): (&str, Option<&str>),
        generation: i32,
    ) -> Result<(&Member, &ClassicMemberMetadata), ErrorCode> {
        let member = match instance_id {
            Some(instance_id) => self.static_member(instance_id, member_id).map_err(|r| r.code)?,
            None => self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?,
        };
        let classic = member.classic.as_ref().ok_or(ErrorCode::UnknownMemberId)?;
        if member.epoch != generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        Ok((member, classic))
    }

    /// The member of either protocol that a LeaveGroup names: operators remove both with it.
    /// Without a member id, they mean whoever has the instance id.
    ///
    /// # Errors
    /// What the client is told instead.
    pub fn leaving(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<&Member, ErrorCode> {
        if let (true, Some(instance_id)) = (member_id.is_empty(), instance_id) {
            let id = self.static_members.get(instance_id).ok_or(ErrorCode::UnknownMemberId)?;
            return self.members.get(id).ok_or(ErrorCode::UnknownMemberId);
        }
        match instance_id {
            Some(instance_id) => {
                self.static_member(instance_id, member_id).map_err(|refusal| refusal.code)
            }
            None => self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId),
        }
    }

    /// Whether nobody but these uses the consumer protocol, and others are left.
    pub fn is_classic_without(&self, gone: &[KafkaString]) -> bool {
        let mut rest = self.members.values().filter(|member| !gone.contains(&member.id)).peekable();
        rest.peek().is_some() && rest.all(|member| member.classic.is_some())
    }
}

/// When a time from now is over.
pub(super) fn deadline(scene: &Scene<'_>, ms: i32) -> u64 {
    scene.now.monotonic_ms.saturating_add(u64::try_from(ms).unwrap_or(0))
}

fn classic_metadata(request: &JoinGroupRequest) -> ClassicMemberMetadata {
    let protocols = request.protocols.iter().map(|protocol| ClassicProtocol {
        name: protocol.name.detached(),
        // A copy: a slice would keep the whole request.
        metadata: Bytes::copy_from_slice(&protocol.metadata),
        ..ClassicProtocol::default()
    });
    ClassicMemberMetadata {
        session_timeout_ms: request.session_timeout_ms,
        supported_protocols: protocols.collect(),
        ..ClassicMemberMetadata::default()
    }
}
