//! A group of the classic protocol: its members meet, one of them divides the work, the others are
//! told. Pure; time passes by timers of the shard.
//!
//! ```text
//!            first JoinGroup             all have joined, or time is up
//!   Empty ─────────────────► Preparing ─────────────────────────────► Completing
//!     ▲                     Rebalance  ◄───────────────────────────── Rebalance
//!     │ nobody has joined    │  ▲        someone joins, leaves or        │
//!     └──────────────────────┘  │        does not sync in time           │ the leader's SyncGroup,
//!                               └──────────────── Stable ◄──────────────┘ once it is written
//! ```
//!
//! The record of a group says who its members are and what each was assigned in a generation. It is
//! written when the leader has divided the work, when a static member comes back under another id,
//! and when the last member has gone. Who is joining is known to this broker alone: after a change
//! of leadership the members notice, and join again.

mod heartbeat;
mod join;
mod leave;
mod member;
mod sync;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::join_group::JoinGroupResponse;
use ottla_common::kafka::messages::records::consumer_protocol_subscription as subscription;
use ottla_common::kafka::messages::records::group_metadata::GroupMetadataValue;
use ottla_common::kafka::wire::{Decode, Reader};

use super::shard::{Answer, GroupTimer, Scene};

pub use join::Joining;
pub use leave::leave_response;
pub use member::{Client, Member, MemberId};
pub use sync::sync_error;

/// The protocol type of consumers, whose subscriptions the broker can read.
pub const CONSUMER_PROTOCOL: &str = "consumer";

/// Where a group stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It has no members; perhaps offsets.
    #[default]
    Empty,
    /// Its members are to join.
    PreparingRebalance,
    /// They have joined, and wait for what the leader assigns.
    CompletingRebalance,
    /// They work.
    Stable,
}

impl State {
    /// The state's name as clients read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// The first rebalance of an empty group waits for more members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InitialDelay {
    /// The wait that goes on.
    delay_ms: u64,
    /// What of the rebalance timeout is left after it.
    remaining_ms: u64,
    /// A member has come meanwhile: wait once more.
    has_new_member: bool,
}

/// A classic group.
#[derive(Clone, Debug)]
pub struct ClassicGroup {
    id: Arc<str>,
    state: State,
    /// When the state was entered, in wall time; `None` if a record of an old format did not say.
    state_since_ms: Option<i64>,
    protocol_type: Option<String>,
    protocol: Option<String>,
    generation: i32,
    leader: Option<MemberId>,
    members: BTreeMap<MemberId, Member>,
    static_members: BTreeMap<Arc<str>, MemberId>,
    /// Ids that were given out and have not been used to join.
    pending_joins: BTreeSet<MemberId>,
    /// Members of this generation that have not sent SyncGroup.
    pending_syncs: BTreeSet<MemberId>,
    /// How many members know each protocol.
    protocol_counts: BTreeMap<String, usize>,
    joining_count: usize,
    initial_delay: Option<InitialDelay>,
    /// The topics that members consume; `None` if that cannot be known.
    subscribed_topics: Option<BTreeSet<String>>,
}

impl ClassicGroup {
    /// A group without members.
    pub fn new(id: Arc<str>, now_ms: i64) -> Self {
        Self {
            id,
            state: State::Empty,
            state_since_ms: Some(now_ms),
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_joins: BTreeSet::new(),
            pending_syncs: BTreeSet::new(),
            protocol_counts: BTreeMap::new(),
            joining_count: 0,
            initial_delay: None,
            subscribed_topics: Some(BTreeSet::new()),
        }
    }

    /// A group as its record says.
    pub fn from_record(id: Arc<str>, value: &GroupMetadataValue) -> Self {
        let mut group = Self::new(id, 0);
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        group.state_since_ms = Some(value.current_state_timestamp).filter(|at_ms| *at_ms != -1);
        group.protocol_type = text(&value.protocol_type);
        group.protocol = value.protocol.as_ref().map(|name| name.as_str().to_owned());
        group.generation = value.generation;
        let protocol = group.protocol.clone().unwrap_or_default();
        for member in &value.members {
            group.add_member(Member::from_record(member, &protocol));
        }
        group.leader = value.leader.as_ref().map(|leader| leader.as_str().into());
        group.leader = group.leader.filter(|leader| group.members.contains_key(leader));
        if !group.members.is_empty() {
            group.state = State::Stable;
        }
        group.subscribed_topics = group.read_subscriptions();
        group
    }

    /// Takes over a record that a decision of this group has written: what was assigned is valid
    /// from now on.
    pub fn confirm(&mut self, value: &GroupMetadataValue) {
        if value.generation != self.generation {
            return;
        }
        for member in &value.members {
            if let Some(known) = self.members.get_mut(member.member_id.as_str()) {
                known.assignment = member.assignment.clone();
            }
        }
        if self.state == State::CompletingRebalance {
            self.state = State::Stable;
            self.state_since_ms = Some(value.current_state_timestamp);
        }
    }

    /// The group as a record has it, with what `assignment` gives each member.
    fn to_record(&self, now_ms: i64, assignment: impl Fn(&Member) -> Bytes) -> GroupMetadataValue {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.values();
        GroupMetadataValue {
            protocol_type: self.protocol_type.as_deref().unwrap_or_default().into(),
            generation: self.generation,
            protocol: self.protocol.as_deref().map(Into::into),
            leader: self.leader.as_deref().map(Into::into),
            current_state_timestamp: now_ms,
            members: members.map(|m| m.to_record(protocol, assignment(m))).collect(),
            ..GroupMetadataValue::default()
        }
    }

    /// The group's id.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// When it came to stand there, in wall time.
    pub fn state_since_ms(&self) -> Option<i64> {
        self.state_since_ms
    }

    /// What kind of group it is, in its clients' words. `None` for one that only has offsets.
    pub fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    /// The protocol that its members have agreed on.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// One more with every rebalance.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Its members.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// How many members it has.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Whether it has no members.
    pub fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    /// Whether ids were given out that may still join.
    pub fn has_pending_joins(&self) -> bool {
        !self.pending_joins.is_empty()
    }

    /// Whether its members are consumers.
    pub fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL)
    }

    /// Whether it is known which topics its members consume.
    pub fn knows_topics(&self) -> bool {
        self.subscribed_topics.is_some()
    }

    /// Whether its members consume a topic, or may.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.is_of_consumers(),
        }
    }

    /// What is wrong with who says to be a member.
    pub fn check_member(&self, id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(known) if &**known != id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        let is_member = self.members.contains_key(id);
        if is_member { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    fn transition(&mut self, state: State, scene: &Scene<'_>) {
        self.state = state;
        self.state_since_ms = Some(scene.turn.now().wall_time_ms);
    }

    fn add_member(&mut self, member: Member) {
        for name in member.protocol_names() {
            *self.protocol_counts.entry(name.to_owned()).or_default() += 1;
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member.id.clone());
        }
        self.leader.get_or_insert_with(|| member.id.clone());
        self.joining_count += usize::from(member.is_joining());
        self.pending_joins.remove(&member.id);
        self.members.insert(member.id.clone(), member);
    }

    /// Takes a member, or an id that was given out, off the group. Whoever waits under it is told
    /// that it is not known.
    fn remove_member(&mut self, id: &str, scene: &mut Scene<'_>) {
        self.pending_joins.remove(id);
        self.pending_syncs.remove(id);
        if let Some((id, mut member)) = self.members.remove_entry(id) {
            self.answer_join(&mut member, join_error(&id, ErrorCode::UnknownMemberId), scene);
            sync::answer_error(&mut member, ErrorCode::UnknownMemberId, scene);
            for name in member.protocol_names() {
                if let Some(count) = self.protocol_counts.get_mut(name) {
                    *count -= 1;
                }
            }
            self.protocol_counts.retain(|_, count| *count > 0);
            if let Some(instance_id) = &member.instance_id
                && self.static_members.get(instance_id) == Some(&id)
            {
                self.static_members.remove(instance_id);
            }
            if self.leader.as_ref() == Some(&id) {
                self.leader = self.members.keys().next().cloned();
            }
        }
        scene.turn.cancel_timer(GroupTimer::Session(self.id.clone(), id.into()));
    }

    /// Answers a member's JoinGroup, if it waits.
    fn answer_join(
        &mut self,
        member: &mut Member,
        response: JoinGroupResponse,
        scene: &mut Scene<'_>,
    ) {
        if let Some(ticket) = member.joining.take() {
            self.joining_count -= 1;
            scene.turn.answer(ticket, Answer::Join(response));
        }
    }

    /// Expects a member's next heartbeat within its session timeout.
    fn expect_heartbeat(&self, member: &Member, scene: &mut Scene<'_>) {
        let timeout_ms = u64::try_from(member.session_timeout_ms).unwrap_or(0);
        let timer = GroupTimer::Session(self.id.clone(), member.id.clone());
        scene.turn.set_timer_in(timer, timeout_ms);
    }

    /// The longest time that a member may take to join again.
    fn rebalance_timeout_ms(&self) -> u64 {
        let longest = self.members.values().map(|member| member.rebalance_timeout_ms).max();
        u64::try_from(longest.unwrap_or(0)).unwrap_or(0)
    }

    /// The protocol that all members know and most like best.
    fn elect_protocol(&self) -> Option<String> {
        let is_candidate = |name: &str| self.protocol_counts.get(name) == Some(&self.members.len());
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(name) = member.vote(is_candidate) {
                *votes.entry(name).or_default() += 1;
            }
        }
        // Of several with as many votes the first by name, so that it is always the same.
        let best = votes.into_iter().rev().max_by_key(|(_, votes)| *votes);
        best.map(|(name, _)| name.to_owned())
    }

    /// The topics of the members' subscriptions.
    fn read_subscriptions(&self) -> Option<BTreeSet<String>> {
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref().filter(|_| self.is_of_consumers())?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscribed_topics(member.metadata(protocol))?);
        }
        Some(topics)
    }

    /// What restarts with a shard: heartbeats are expected of all members.
    pub fn loaded(&mut self, scene: &mut Scene<'_>) {
        for member in self.members.values() {
            self.expect_heartbeat(member, scene);
        }
        if self.members.len() > scene.settings.max_size {
            self.prepare_rebalance(scene);
        }
    }

    /// The members have come over from a consumer group: they are called to join.
    pub fn meet(&mut self, scene: &mut Scene<'_>) {
        if self.state == State::Stable {
            for member in self.members.values() {
                self.expect_heartbeat(member, scene);
            }
            self.prepare_rebalance(scene);
        }
    }

    /// The members go over to a consumer group: who waits is called to join there.
    pub fn disband(&mut self, scene: &mut Scene<'_>) {
        self.cancel_timers(scene);
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in ids {
            let Some(mut member) = self.members.remove(&id) else { continue };
            let again = join_error(&id, ErrorCode::RebalanceInProgress);
            self.answer_join(&mut member, again, scene);
            sync::answer_error(&mut member, ErrorCode::RebalanceInProgress, scene);
            self.members.insert(id, member);
        }
    }

    /// Forgets the timers of a group that is going to be removed.
    pub fn cancel_timers(&self, scene: &mut Scene<'_>) {
        for id in self.members.keys().chain(&self.pending_joins) {
            scene.turn.cancel_timer(GroupTimer::Session(self.id.clone(), id.clone()));
        }
        scene.turn.cancel_timer(GroupTimer::Join(self.id.clone()));
        scene.turn.cancel_timer(GroupTimer::Sync(self.id.clone()));
    }
}

/// The topics of a consumer's subscription. `None` if it cannot be read: clients send what they
/// like.
fn subscribed_topics(metadata: Bytes) -> Option<Vec<String>> {
    let mut reader = Reader::new(metadata);
    let version = reader.i16().ok()?;
    // As Kafka does: the fields of a version of the future begin with those that are known.
    let version = version.min(subscription::ConsumerProtocolSubscription::MAX_VERSION);
    let subscription =
        subscription::ConsumerProtocolSubscription::decode(&mut reader, version).ok()?;
    Some(subscription.topics.iter().map(|topic| topic.as_str().to_owned()).collect())
}

/// A JoinGroup that failed.
pub fn join_error(member_id: &str, error: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code: error.code(),
        member_id: member_id.into(),
        ..JoinGroupResponse::default()
    }
}
