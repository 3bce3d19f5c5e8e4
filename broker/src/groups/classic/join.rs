//! How members join, and how a rebalance comes to its end.

use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::join_group::response::JoinGroupResponseMember;
use ottla_common::kafka::messages::join_group::{JoinGroupRequest, JoinGroupResponse};
use ottla_common::types::Uuid;

use super::member::{Client, Member, MemberId};
use super::{ClassicGroup, InitialDelay, State, join_error, sync};
use crate::groups::shard::{Answer, GroupTimer, Scene};
use crate::internal_topics::Ticket;
use crate::limits::{MEMBER_METADATA_SIZE_MAX, PROTOCOLS_PER_MEMBER_MAX};

/// How long a member that does not know its id yet may wait to join: it cannot send heartbeats, and
/// its client may be gone.
const NEW_MEMBER_TIMEOUT_MS: u64 = 5 * 60 * 1000;

/// Characters of a client's id or a static member's name that go into a member's id: the whole must
/// be able to stand in a record.
const MEMBER_ID_PREFIX_MAX: usize = 1024;

/// The first version whose clients join a second time with the id that they were given (KIP-394).
const KNOWN_MEMBERS_FROM: i16 = 4;

/// The first version that can tell a leader not to assign anew (KIP-814).
const SKIP_ASSIGNMENT_FROM: i16 = 9;

/// A JoinGroup that is to be answered.
#[derive(Clone, Debug)]
pub struct Joining {
    /// What it says.
    pub request: JoinGroupRequest,
    /// Its version.
    pub version: i16,
    /// Who sent it.
    pub client: Client,
    /// Where it waits.
    pub ticket: Ticket,
}

impl Joining {
    /// Answers at once.
    pub fn answer(&self, response: JoinGroupResponse, scene: &mut Scene<'_>) {
        scene.turn.answer(self.ticket, Answer::Join(response));
    }

    /// Refuses it at once.
    pub fn refuse(&self, error: ErrorCode, scene: &mut Scene<'_>) {
        self.answer(join_error(&self.request.member_id, error), scene);
    }

    /// Whether the client has no id yet.
    pub fn is_new(&self) -> bool {
        self.request.member_id.is_empty()
    }

    /// Whether what it says is within bounds.
    pub fn is_bounded(&self) -> bool {
        let protocols = &self.request.protocols;
        let size: usize = protocols.iter().map(|p| p.name.len() + p.metadata.len()).sum();
        protocols.len() <= PROTOCOLS_PER_MEMBER_MAX && size <= MEMBER_METADATA_SIZE_MAX
    }
}

impl ClassicGroup {
    /// A client wants to join, or to join again. It is answered now or when the others have joined.
    pub fn join(&mut self, joining: &Joining, scene: &mut Scene<'_>) {
        if !joining.is_bounded() {
            return joining.refuse(ErrorCode::InvalidRequest, scene);
        }
        if !self.has_room_for(&joining.request.member_id, scene.settings.max_size) {
            let id = joining.request.member_id.clone();
            self.remove_member(&id, scene);
            return joining.answer(join_error("", ErrorCode::GroupMaxSizeReached), scene);
        }
        if !self.supports_protocols(&joining.request) {
            return joining.refuse(ErrorCode::InconsistentGroupProtocol, scene);
        }
        if joining.is_new() {
            self.join_new(joining, scene)
        } else {
            self.join_known(joining, scene)
        }
    }

    fn has_room_for(&self, id: &str, size_max: usize) -> bool {
        match self.state {
            State::Empty => self.pending_joins.len() < size_max || self.pending_joins.contains(id),
            State::PreparingRebalance => {
                self.members.get(id).is_some_and(Member::is_joining)
                    || self.joining_count < size_max
                        && (self.pending_joins.len() < size_max || !id.is_empty())
            }
            State::CompletingRebalance | State::Stable => {
                self.members.contains_key(id) || self.members.len() < size_max
            }
        }
    }

    fn supports_protocols(&self, request: &JoinGroupRequest) -> bool {
        if self.state == State::Empty {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        let is_known_by_all =
            |name: &str| self.protocol_counts.get(name) == Some(&self.members.len());
        self.protocol_type.as_deref() == Some(request.protocol_type.as_str())
            && request.protocols.iter().any(|protocol| is_known_by_all(&protocol.name))
    }

    fn join_new(&mut self, joining: &Joining, scene: &mut Scene<'_>) {
        let instance_id = joining.request.group_instance_id.as_deref();
        let prefix = instance_id.unwrap_or(&joining.client.id);
        let prefix: String = prefix.chars().take(MEMBER_ID_PREFIX_MAX).collect();
        let id: MemberId = format!("{prefix}-{}", java_uuid(scene.turn.unique_id())).into();
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id).cloned() {
                Some(old_id) => self.replace_static(&old_id, id, joining, scene),
                None => self.add(id, joining, scene),
            }
        } else if joining.version >= KNOWN_MEMBERS_FROM {
            let timeout_ms = u64::try_from(joining.request.session_timeout_ms).unwrap_or(0);
            let timer = GroupTimer::Session(self.id.clone(), id.clone());
            scene.turn.set_timer_in(timer, timeout_ms);
            joining.answer(join_error(&id, ErrorCode::MemberIdRequired), scene);
            self.pending_joins.insert(id);
        } else {
            self.add(id, joining, scene);
        }
    }

    fn join_known(&mut self, joining: &Joining, scene: &mut Scene<'_>) {
        let request = &joining.request;
        let instance_id = request.group_instance_id.as_deref();
        if let Some(id) = self.pending_joins.get(request.member_id.as_str()).cloned()
            && instance_id.is_none()
        {
            return self.add(id, joining, scene);
        }
        if let Err(error) = self.check_member(&request.member_id, instance_id) {
            return joining.refuse(error, scene);
        }
        let Some(member) = self.members.get(request.member_id.as_str()) else { return };
        let is_leader = self.leader.as_ref() == Some(&member.id);
        let rejoins = match self.state {
            State::PreparingRebalance => true,
            // The same again means that the first answer was lost.
            State::CompletingRebalance => !member.matches(request),
            // A leader may have seen what the broker cannot: new partitions, say.
            State::Stable => is_leader || !member.matches(request),
            State::Empty => return joining.refuse(ErrorCode::UnknownMemberId, scene),
        };
        if rejoins {
            self.update(&request.member_id, joining, scene);
            self.rebalance_or_complete_join(scene);
        } else {
            let response = self.join_response(member);
            joining.answer(response, scene);
        }
    }

    /// Adds a member, which waits for the others from now on.
    fn add(&mut self, id: MemberId, joining: &Joining, scene: &mut Scene<'_>) {
        let member =
            Member::new(id.clone(), &joining.request, joining.client.clone(), joining.ticket);
        if let Some(delay) = &mut self.initial_delay {
            delay.has_new_member = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(joining.request.protocol_type.as_str().to_owned());
        }
        self.add_member(member);
        let timer = GroupTimer::Session(self.id.clone(), id);
        scene.turn.set_timer_in(timer, NEW_MEMBER_TIMEOUT_MS);
        self.rebalance_or_complete_join(scene);
    }

    /// Takes over what a member says now, and lets it wait.
    fn update(&mut self, id: &str, joining: &Joining, scene: &mut Scene<'_>) {
        let Some(mut member) = self.members.remove(id) else { return };
        // An earlier try of the same member, whose client has stopped waiting.
        let earlier = join_error(id, ErrorCode::RebalanceInProgress);
        self.answer_join(&mut member, earlier, scene);
        for name in member.protocol_names() {
            if let Some(count) = self.protocol_counts.get_mut(name) {
                *count -= 1;
            }
        }
        member.update(&joining.request);
        for name in member.protocol_names() {
            *self.protocol_counts.entry(name.to_owned()).or_default() += 1;
        }
        self.protocol_counts.retain(|_, count| *count > 0);
        member.joining = Some(joining.ticket);
        self.joining_count += 1;
        self.members.insert(member.id.clone(), member);
    }

    /// A static member has come back: it takes the place of its former self, which is fenced.
    fn replace_static(
        &mut self,
        old_id: &MemberId,
        id: MemberId,
        joining: &Joining,
        scene: &mut Scene<'_>,
    ) {
        let Some(mut member) = self.members.remove(old_id) else { return };
        let was_leader = self.leader.as_ref() == Some(old_id);
        let former_leader = self.leader.clone();
        self.answer_join(&mut member, join_error(old_id, ErrorCode::FencedInstanceId), scene);
        sync::answer_error(&mut member, ErrorCode::FencedInstanceId, scene);
        scene.turn.cancel_timer(GroupTimer::Session(self.id.clone(), old_id.clone()));
        if self.pending_syncs.remove(old_id) {
            self.pending_syncs.insert(id.clone());
        }
        if was_leader {
            self.leader = Some(id.clone());
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), id.clone());
        }
        member.id = id.clone();
        self.expect_heartbeat(&member, scene);
        self.members.insert(id.clone(), member);
        self.update(&id, joining, scene);
        match self.state {
            State::Stable if self.elect_protocol() == self.protocol => {
                self.store_replaced(&id, (joining, former_leader), scene);
            }
            State::CompletingRebalance => self.prepare_rebalance(scene),
            _ => self.rebalance_or_complete_join(scene),
        }
    }

    /// Nothing changes but the id: the group goes on with what was assigned.
    fn store_replaced(
        &mut self,
        id: &MemberId,
        (joining, former_leader): (&Joining, Option<MemberId>),
        scene: &mut Scene<'_>,
    ) {
        let since_ms = self.state_since_ms.unwrap_or(-1);
        let value = self.to_record(since_ms, |member| member.assignment.clone());
        scene.write_classic(&self.id, Some(value));
        let Some(mut member) = self.members.remove(id) else { return };
        member.is_new = false;
        self.members.insert(id.clone(), member.clone());
        let mut response = self.join_response(&member);
        if joining.version >= SKIP_ASSIGNMENT_FROM {
            response.skip_assignment = self.leader.as_ref() == Some(id);
        } else {
            // An old client that is told to lead would assign anew, so it is told of the former
            // leader: it follows.
            response.members = Vec::new();
            response.leader = former_leader.as_deref().unwrap_or_default().into();
        }
        self.answer_join(&mut member, response, scene);
        self.members.insert(id.clone(), member);
    }

    /// What a member is told of the generation; the leader also of the members.
    fn join_response(&self, member: &Member) -> JoinGroupResponse {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let is_leader = self.leader.as_ref() == Some(&member.id);
        let members = self.members.values().filter(|_| is_leader);
        JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: self.protocol_type.as_deref().map(Into::into),
            protocol_name: self.protocol.as_deref().map(Into::into),
            leader: self.leader.as_deref().unwrap_or_default().into(),
            member_id: (&*member.id).into(),
            members: members
                .map(|member| JoinGroupResponseMember {
                    member_id: (&*member.id).into(),
                    group_instance_id: member.instance_id.as_deref().map(Into::into),
                    metadata: member.metadata(protocol),
                    ..JoinGroupResponseMember::default()
                })
                .collect(),
            ..JoinGroupResponse::default()
        }
    }

    /// Begins a rebalance; if there is one already, sees whether all have joined.
    pub(super) fn rebalance_or_complete_join(&mut self, scene: &mut Scene<'_>) {
        if self.state == State::PreparingRebalance {
            self.maybe_complete_join(scene);
        } else {
            self.prepare_rebalance(scene);
        }
    }

    /// Asks all members to join.
    pub(super) fn prepare_rebalance(&mut self, scene: &mut Scene<'_>) {
        if self.state == State::CompletingRebalance {
            self.fail_syncs(ErrorCode::RebalanceInProgress, scene);
        }
        self.pending_syncs.clear();
        scene.turn.cancel_timer(GroupTimer::Sync(self.id.clone()));
        let was_empty = self.state == State::Empty;
        self.transition(State::PreparingRebalance, scene);
        if was_empty {
            let delay_ms = scene.settings.initial_rebalance_delay_ms;
            let remaining_ms = self.rebalance_timeout_ms().saturating_sub(delay_ms);
            self.initial_delay =
                Some(InitialDelay { delay_ms, remaining_ms, has_new_member: false });
            scene.turn.set_timer_in(GroupTimer::Join(self.id.clone()), delay_ms);
        } else if self.have_all_joined() {
            self.complete_join(scene);
        } else {
            let timer = GroupTimer::Join(self.id.clone());
            scene.turn.set_timer_in(timer, self.rebalance_timeout_ms());
        }
    }

    fn have_all_joined(&self) -> bool {
        self.joining_count == self.members.len() && self.pending_joins.is_empty()
    }

    /// Ends the rebalance if nobody is missing. The first one of a group takes its time.
    pub(super) fn maybe_complete_join(&mut self, scene: &mut Scene<'_>) {
        let is_under_way = self.state == State::PreparingRebalance && self.initial_delay.is_none();
        if is_under_way && self.have_all_joined() {
            self.complete_join(scene);
        }
    }

    /// The time to join is up.
    pub fn join_timeout(&mut self, scene: &mut Scene<'_>) {
        if self.state != State::PreparingRebalance {
            return;
        }
        match self.initial_delay {
            Some(delay) if delay.has_new_member && delay.remaining_ms > 0 => {
                let delay_ms = scene.settings.initial_rebalance_delay_ms.min(delay.remaining_ms);
                let remaining_ms = delay.remaining_ms.saturating_sub(delay.delay_ms);
                self.initial_delay =
                    Some(InitialDelay { delay_ms, remaining_ms, has_new_member: false });
                scene.turn.set_timer_in(GroupTimer::Join(self.id.clone()), delay_ms);
            }
            _ => self.complete_join(scene),
        }
    }

    /// Goes on with those who have joined. Static members stay until their sessions expire.
    fn complete_join(&mut self, scene: &mut Scene<'_>) {
        self.initial_delay = None;
        scene.turn.cancel_timer(GroupTimer::Join(self.id.clone()));
        let is_missing = |member: &&Member| !member.is_joining() && member.instance_id.is_none();
        let missing = self.members.values().filter(is_missing).map(|member| member.id.clone());
        for id in missing.collect::<Vec<_>>() {
            self.remove_member(&id, scene);
        }
        if !self.members.is_empty() && !self.elect_joined_leader() {
            // Nobody who could lead is here: wait for the static members once more.
            let timer = GroupTimer::Join(self.id.clone());
            scene.turn.set_timer_in(timer, self.rebalance_timeout_ms());
            return;
        }
        self.begin_generation(scene);
    }

    /// Sees to it that the leader is one of those who have joined. Returns false if nobody has.
    fn elect_joined_leader(&mut self) -> bool {
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        if leader.is_some_and(Member::is_joining) {
            return true;
        }
        let joined = self.members.values().find(|member| member.is_joining());
        let Some(joined) = joined.map(|member| member.id.clone()) else { return false };
        self.leader = Some(joined);
        true
    }

    fn begin_generation(&mut self, scene: &mut Scene<'_>) {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.pending_syncs.clear();
        self.protocol = self.elect_protocol();
        self.subscribed_topics = self.read_subscriptions();
        if self.members.is_empty() {
            self.transition(State::Empty, scene);
            let now_ms = scene.turn.now().wall_time_ms;
            let value = self.to_record(now_ms, |member| member.assignment.clone());
            return scene.write_classic(&self.id, Some(value));
        }
        self.transition(State::CompletingRebalance, scene);
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in ids {
            let Some(member) = self.members.get(&id) else { continue };
            let response = self.join_response(member);
            let Some(mut member) = self.members.remove(&id) else { continue };
            // Another member's list of members must not miss this one.
            self.answer_join(&mut member, response, scene);
            member.is_new = false;
            self.expect_heartbeat(&member, scene);
            self.members.insert(id.clone(), member);
            self.pending_syncs.insert(id);
        }
        let timer = GroupTimer::Sync(self.id.clone());
        scene.turn.set_timer_in(timer, self.rebalance_timeout_ms());
    }
}

/// An id as `java.util.UUID` prints it, which clients are used to.
fn java_uuid(id: Uuid) -> String {
    let number = u128::from_be_bytes(id.0);
    let part = |shift: u32, bits: u32| (number >> shift) & ((1 << bits) - 1);
    let (a, b, c, d) = (part(96, 32), part(80, 16), part(64, 16), part(48, 16));
    format!("{a:08x}-{b:04x}-{c:04x}-{d:04x}-{:012x}", part(0, 48))
}
