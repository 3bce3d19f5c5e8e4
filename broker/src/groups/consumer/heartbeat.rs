//! ConsumerGroupHeartbeat of members that join or stay.

use std::collections::BTreeSet;

use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use ottla_common::kafka::wire::KafkaString;

use super::member::{LEFT_FOR_A_WHILE, Member, MemberState};
use super::overlay::Overlay;
use super::reconcile::{Goal, reconcile};
use super::records::{ConsumerGroupRecord, Draft};
use super::subscription::{compile, metadata_hash, resolve};
use super::target::{Regexes, all_names, assign, names_of, preferred_assignor, subscribed_part};
use super::{ConsumerGroup, Decision, MemberTimer, Refusal, Scene, member_timers};
use crate::groups::assignors::Assignment;
use crate::internal_topics::machine::TimerChange;

/// What a member is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeaten {
    /// Its id.
    pub member_id: KafkaString,
    /// Its epoch.
    pub member_epoch: i32,
    /// When it is to be heard again.
    pub heartbeat_interval_ms: i32,
    /// What it is to own, if it has to be told.
    pub assignment: Option<Assignment>,
}

/// Who sends a request.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Its client id.
    pub id: &'a str,
    /// Its address, as Java writes it.
    pub host: &'a str,
}

/// The member that a request is of.
pub(super) struct Found<'a> {
    /// As it is, or is to begin with.
    pub(super) member: Member,
    /// As it is stored, if it is.
    stored: Option<&'a Member>,
    /// The static member whose place it takes.
    replaced: Option<&'a Member>,
    /// It shows the epoch before its own: it missed the last response.
    is_behind: bool,
}

/// A subscription as it will be, and what follows.
struct Subscribed {
    epoch: i32,
    /// The patterns, if they are other ones.
    regexes: Option<Regexes>,
}

impl ConsumerGroup {
    /// A heartbeat with an epoch of 0 (the member joins) or more. The request is valid, and has a
    /// member id.
    ///
    /// # Errors
    /// What the member is told instead.
    pub fn heartbeat(
        &self,
        request: &ConsumerGroupHeartbeatRequest,
        client: Client<'_>,
        scene: &Scene<'_>,
    ) -> Result<Decision<Heartbeaten>, Refusal> {
        let found = self.find(request, scene)?;
        let updated = updated(&found.member, request, client)?;
        let owned = owned(request).filter(|_| !found.is_behind);
        let (next, records) = self.advance(&found, &updated, owned.as_ref(), scene);
        let timers = timers(&found, &next, scene);
        let is_asked = request.member_epoch == 0 || found.is_behind || is_full(request);
        let has_changed = updated.assigned != next.assigned;
        let response = Heartbeaten {
            member_id: next.id.clone(),
            member_epoch: next.epoch,
            heartbeat_interval_ms: scene.settings.heartbeat_interval_ms,
            assignment: (is_asked || has_changed).then(|| next.assignment()),
        };
        Ok(Decision { response, records, timers })
    }

    /// The member after the next step towards its target, and what is written for all that follows
    /// from what it says.
    pub(super) fn advance(
        &self,
        found: &Found<'_>,
        updated: &Member,
        owned: Option<&Assignment>,
        scene: &Scene<'_>,
    ) -> (Member, Vec<ConsumerGroupRecord>) {
        let mut draft = Draft::new(&self.id);
        if let Some(replaced) = found.replaced {
            self.replace(replaced, &found.member, &mut draft);
        }
        if found.stored.is_none_or(|stored| !stored.has_same_metadata(updated))
            && found.replaced.is_none_or(|replaced| !replaced.has_same_metadata(updated))
        {
            draft.member(updated);
        }
        let gone = found.replaced.map(|replaced| &replaced.id);
        let overlay = Overlay { group: self, member: Some(updated), gone };
        let subscribed = self.subscribe(found, overlay, scene, &mut draft);
        let regexes = subscribed.regexes.as_ref().unwrap_or(&self.regexes);
        let assigned = self.assign_if_due(overlay, regexes, (subscribed.epoch, scene), &mut draft);
        let (goal_epoch, target) = match &assigned {
            Some(target) => (subscribed.epoch, Some(target)),
            None => (self.assignment_epoch, overlay.target(&updated.id)),
        };
        let target = target.map(|target| subscribed_part(target, updated, regexes, scene.image));
        let goal = Goal { epoch: goal_epoch, target: &target.unwrap_or_default(), owned };
        let next = reconcile(updated, &goal, |topic, partition| {
            !self.holders.contains_key(&(topic, partition))
        });
        let is_known = found.stored.is_some() || found.replaced.is_some();
        if !is_known || !next.has_same_progress(updated) {
            draft.progress(&next);
        }
        (next, draft.records)
    }

    /// The member of a request, if it may go on or join.
    fn find<'a>(
        &'a self,
        request: &ConsumerGroupHeartbeatRequest,
        scene: &Scene<'_>,
    ) -> Result<Found<'a>, Refusal> {
        let is_joining = request.member_epoch == 0;
        let stored = self.members.get(&request.member_id);
        if stored.is_none() && is_joining && self.members.len() >= scene.settings.size_max {
            let size_max = scene.settings.size_max;
            let message = format!(
                "The consumer group has reached its maximum capacity of {size_max} members."
            );
            return Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message));
        }
        if let Some(instance_id) = &request.instance_id {
            if !is_joining {
                let member = self.static_member(instance_id, &request.member_id)?;
                return self.continuing(member, request);
            }
            return self.join_static(instance_id, &request.member_id);
        }
        match stored {
            Some(member) if is_joining => Ok(Found::again(member)),
            Some(member) => self.continuing(member, request),
            None if is_joining => Ok(Found::new(&request.member_id)),
            None => Err(self.unknown_member(&request.member_id)),
        }
    }

    fn join_static(&self, instance: &str, member_id: &KafkaString) -> Result<Found<'_>, Refusal> {
        let holder = self.static_members.get(instance).and_then(|id| self.members.get(id));
        match holder {
            None => Ok(Found::new(member_id)),
            Some(holder) if holder.epoch != LEFT_FOR_A_WHILE && holder.classic.is_none() => {
                let message = format!(
                    "Static member {member_id} with instance id {instance} cannot join the group \
                     because the instance id is owned by {} member.",
                    holder.id
                );
                Err(Refusal::new(ErrorCode::UnreleasedInstanceId, message))
            }
            Some(holder) => Ok(Found::in_place_of(holder, member_id)),
        }
    }

    /// A member that shows an epoch that it may show.
    fn continuing<'a>(
        &self,
        member: &'a Member,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<Found<'a>, Refusal> {
        let (shown, known) = (request.member_epoch, member.epoch);
        let fenced = |how| {
            let message = format!(
                "The consumer group member has a {how} member epoch ({shown}) than the one known \
                 by the group coordinator ({known}). The member must abandon all its partitions \
                 and rejoin."
            );
            Err(Refusal::new(ErrorCode::FencedMemberEpoch, message))
        };
        if shown > known {
            return fenced("greater");
        }
        let is_behind = shown < known;
        let is_part = || {
            let owned = owned(request);
            owned.is_some_and(|owned| {
                owned.iter().all(|(topic, owned)| {
                    let assigned = member.assigned.get(topic);
                    owned.iter().all(|p| assigned.is_some_and(|all| all.contains_key(p)))
                })
            })
        };
        if is_behind && (shown != member.previous_epoch || !is_part()) {
            return fenced("smaller");
        }
        Ok(Found { is_behind, ..Found::again(member) })
    }

    /// Records that put a static member's next life in the place of its last.
    fn replace(&self, old: &Member, new: &Member, draft: &mut Draft) {
        draft.gone(&old.id);
        draft.member(new);
        if let Some(target) = self.targets.get(&old.id) {
            draft.target(&new.id, target);
        }
        draft.progress(new);
    }

    /// What follows from a changed subscription or changed topics: patterns, and the group's epoch.
    fn subscribe(
        &self,
        found: &Found<'_>,
        overlay: Overlay<'_>,
        scene: &Scene<'_>,
        draft: &mut Draft,
    ) -> Subscribed {
        let before = found.stored.or(found.replaced);
        let nobody = Member::default();
        let (old, new) = (before.unwrap_or(&nobody), overlay.member.unwrap_or(&nobody));
        let is_same_regex = old.topic_regex == new.topic_regex;
        let is_same = old.topic_names == new.topic_names && is_same_regex;
        if is_same && old.assignor == new.assignor && !self.has_stale_topics {
            return Subscribed { epoch: self.epoch, regexes: None };
        }
        let regexes = (!is_same_regex || self.has_stale_topics)
            .then(|| self.resolve_regexes(overlay, scene, draft));
        let resolved = regexes.as_ref().unwrap_or(&self.regexes);
        let names = |member, regexes| names_of(member, regexes).collect::<BTreeSet<_>>();
        let hash = metadata_hash(all_names(&overlay, resolved), scene.image);
        let offered = &scene.settings.assignors;
        let unchanged = Overlay { group: self, member: None, gone: None };
        let is_changed = names(old, &self.regexes) != names(new, resolved)
            || hash != self.metadata_hash
            || preferred_assignor(&unchanged, offered) != preferred_assignor(&overlay, offered);
        if !is_changed {
            return Subscribed { epoch: self.epoch, regexes };
        }
        let epoch = self.epoch.saturating_add(1);
        draft.epoch(epoch, hash);
        Subscribed { epoch, regexes }
    }

    /// The patterns of all members with what they stand for: anew if topics may have changed.
    pub(super) fn resolve_regexes(
        &self,
        overlay: Overlay<'_>,
        scene: &Scene<'_>,
        draft: &mut Draft,
    ) -> Regexes {
        let used = overlay.members().map(|member| &member.topic_regex);
        let used: BTreeSet<&KafkaString> = used.filter(|regex| !regex.is_empty()).collect();
        for unused in self.regexes.keys().filter(|regex| !used.contains(regex)) {
            draft.regex(unused, None);
        }
        let mut regexes = Regexes::new();
        for regex in used {
            let known = self.regexes.get(regex);
            let resolved = match known {
                Some(known) if !self.has_stale_topics => known.clone(),
                _ => resolve(regex, scene.image, scene.now.wall_time_ms),
            };
            if known.map(|known| &known.topics) != Some(&resolved.topics) {
                draft.regex(regex, Some(&resolved));
            }
            regexes.insert(regex.clone(), resolved);
        }
        regexes
    }

    /// Makes new targets if the group's epoch asks for them and the last ones are not too fresh.
    /// Returns the one of the overlay's member.
    fn assign_if_due(
        &self,
        overlay: Overlay<'_>,
        regexes: &Regexes,
        (epoch, scene): (i32, &Scene<'_>),
        draft: &mut Draft,
    ) -> Option<Assignment> {
        let now_ms = scene.now.wall_time_ms;
        let age_ms = now_ms.saturating_sub(self.assigned_at_ms);
        // A clock that was set back holds nobody up.
        let is_fresh = (0..i64::from(scene.settings.assignment_interval_ms)).contains(&age_ms);
        if self.assignment_epoch >= epoch || is_fresh {
            return None;
        }
        let assignor = preferred_assignor(&overlay, &scene.settings.assignors);
        let mut own = None;
        for (id, target) in assign(&overlay, regexes, (assignor, scene.image)) {
            if overlay.target(&id) != Some(&target) {
                draft.target(&id, &target);
            }
            if overlay.member.is_some_and(|member| member.id == id) {
                own = Some(target);
            }
        }
        draft.assignment_epoch(epoch, now_ms);
        own
    }

    /// A static member by both of its ids.
    pub(super) fn static_member(
        &self,
        instance_id: &str,
        member_id: &str,
    ) -> Result<&Member, Refusal> {
        let holder = self.static_members.get(instance_id).and_then(|id| self.members.get(id));
        let Some(holder) = holder else {
            let message = format!("Instance id {instance_id} is unknown.");
            return Err(Refusal::new(ErrorCode::UnknownMemberId, message));
        };
        if holder.id != *member_id {
            let message = format!(
                "Static member {member_id} with instance id {instance_id} was fenced by member {}.",
                holder.id
            );
            return Err(Refusal::new(ErrorCode::FencedInstanceId, message));
        }
        Ok(holder)
    }

    pub(super) fn unknown_member(&self, member_id: &str) -> Refusal {
        let message = format!("Member {member_id} is not a member of group {}.", self.id);
        Refusal::new(ErrorCode::UnknownMemberId, message)
    }
}

impl<'a> Found<'a> {
    pub(super) fn new(id: &KafkaString) -> Self {
        let member = Member { id: id.detached(), rebalance_timeout_ms: -1, ..Member::default() };
        Self { member, stored: None, replaced: None, is_behind: false }
    }

    pub(super) fn again(stored: &'a Member) -> Self {
        let member = stored.clone();
        Self { member, stored: Some(stored), replaced: None, is_behind: false }
    }

    /// The next life of a static member.
    pub(super) fn in_place_of(holder: &'a Member, id: &KafkaString) -> Self {
        let is_same = holder.id == *id;
        let id = id.detached();
        let member = Member { id, epoch: 0, previous_epoch: 0, ..holder.clone() };
        let stored = is_same.then_some(holder);
        let replaced = (!is_same).then_some(holder);
        Self { member, stored, replaced, is_behind: false }
    }

    /// What becomes of the timers of the member whose place this one takes.
    pub(super) fn timers_of_replaced(&self) -> Vec<TimerChange<MemberTimer>> {
        let replaced = self.replaced.iter();
        replaced.flat_map(|member| member_timers(&member.id)).map(TimerChange::Cancel).collect()
    }
}

/// The member with what a request says of it. What the request leaves out stays.
fn updated(
    member: &Member,
    request: &ConsumerGroupHeartbeatRequest,
    client: Client<'_>,
) -> Result<Member, Refusal> {
    let mut updated = member.clone();
    if let Some(names) = &request.subscribed_topic_names {
        updated.topic_names = names.iter().map(KafkaString::detached).collect();
    }
    if let Some(regex) = &request.subscribed_topic_regex
        && *regex != updated.topic_regex
    {
        compile(regex).map_err(|what| {
            let message = format!(
                "SubscribedTopicRegex `{regex}` is not a valid regular expression: {what}."
            );
            Refusal::new(ErrorCode::InvalidRegularExpression, message)
        })?;
        updated.topic_regex = regex.detached();
    }
    let set = |place: &mut Option<KafkaString>, value: &Option<KafkaString>| {
        if value.is_some() && place != value {
            *place = value.as_ref().map(KafkaString::detached);
        }
    };
    set(&mut updated.instance_id, &request.instance_id);
    set(&mut updated.rack_id, &request.rack_id);
    set(&mut updated.assignor, &request.server_assignor);
    if request.rebalance_timeout_ms != -1 {
        updated.rebalance_timeout_ms = request.rebalance_timeout_ms;
    }
    if (&*updated.client_id, &*updated.client_host) != (client.id, client.host) {
        updated.client_id = client.id.into();
        updated.client_host = client.host.into();
    }
    updated.classic = None;
    Ok(updated)
}

/// What a member says it owns.
fn owned(request: &ConsumerGroupHeartbeatRequest) -> Option<Assignment> {
    let topics = request.topic_partitions.as_ref()?;
    let mut owned = Assignment::new();
    for topic in topics.iter().filter(|topic| !topic.partitions.is_empty()) {
        owned.entry(topic.topic_id).or_default().extend(&topic.partitions);
    }
    Some(owned)
}

/// Whether a member says everything, as it does when it is not sure what the broker knows.
fn is_full(request: &ConsumerGroupHeartbeatRequest) -> bool {
    let has_topics =
        request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some();
    request.rebalance_timeout_ms != -1 && has_topics && request.topic_partitions.is_some()
}

/// A member was heard; it may have begun, or have done, to give up partitions.
fn timers(found: &Found<'_>, next: &Member, scene: &Scene<'_>) -> Vec<TimerChange<MemberTimer>> {
    let after = |ms: i32| scene.now.monotonic_ms.saturating_add(u64::try_from(ms).unwrap_or(0));
    let mut timers = found.timers_of_replaced();
    if found.member.classic.is_some() {
        timers.push(TimerChange::Cancel(MemberTimer::Join(next.id.clone())));
        timers.push(TimerChange::Cancel(MemberTimer::Sync(next.id.clone())));
    }
    let session = MemberTimer::Session(next.id.clone());
    timers.push(TimerChange::Set(session, after(scene.settings.session_timeout_ms)));
    let rebalance = MemberTimer::Rebalance(next.id.clone());
    let is_same = found.member.has_same_progress(next);
    if next.state == MemberState::UnrevokedPartitions && !is_same {
        timers.push(TimerChange::Set(rebalance, after(next.rebalance_timeout_ms)));
    } else if found.member.state == MemberState::UnrevokedPartitions && !is_same {
        timers.push(TimerChange::Cancel(rebalance));
    }
    timers
}
