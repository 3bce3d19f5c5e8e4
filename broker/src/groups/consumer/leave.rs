//! Members that go: because they say so, or because their time is up. And groups that go.

use ottla_common::kafka::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use ottla_common::kafka::wire::KafkaString;

use super::heartbeat::Heartbeaten;
use super::member::{LEFT, LEFT_FOR_A_WHILE, Member, MemberState, Owned};
use super::overlay::Overlay;
use super::records::Draft;
use super::subscription::metadata_hash;
use super::target::all_names;
use super::{ConsumerGroup, Decision, MemberTimer, Refusal, Scene, member_timers};
use crate::internal_topics::machine::TimerChange;

impl ConsumerGroup {
    /// A heartbeat with an epoch of -1 (the member leaves) or -2 (a static member leaves and will
    /// be back before its session is over).
    ///
    /// # Errors
    /// What the member is told instead.
    pub fn leave(
        &self,
        request: &ConsumerGroupHeartbeatRequest,
        scene: &Scene<'_>,
    ) -> Result<Decision<Heartbeaten>, Refusal> {
        let member_id = &request.member_id;
        let member = match &request.instance_id {
            Some(instance_id) => self.static_member(instance_id, member_id)?,
            None => self.members.get(member_id).ok_or_else(|| self.unknown_member(member_id))?,
        };
        let response = Heartbeaten {
            member_id: member.id.clone(),
            member_epoch: request.member_epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        };
        let is_back_soon = request.member_epoch == LEFT_FOR_A_WHILE;
        let Decision { records, timers, .. } =
            if is_back_soon { self.pause(member) } else { self.remove_member(member, scene) };
        Ok(Decision { response, records, timers })
    }

    /// A timer's time is up: the member that has to go for it. It may have been for what is long
    /// past.
    pub fn due(&self, timer: &MemberTimer) -> Option<&KafkaString> {
        let member = match timer {
            MemberTimer::Session(id) => self.members.get(id),
            MemberTimer::Join(id) | MemberTimer::Sync(id) => {
                self.members.get(id).filter(|member| member.classic.is_some())
            }
            MemberTimer::Rebalance(id) => {
                let member = self.members.get(id);
                member.filter(|member| member.state == MemberState::UnrevokedPartitions)
            }
        }?;
        Some(&member.id)
    }

    /// A member is removed.
    pub fn remove(&self, member_id: &str, scene: &Scene<'_>) -> Option<Decision<()>> {
        self.members.get(member_id).map(|member| self.remove_member(member, scene))
    }

    /// What takes the group away, once it has no members.
    pub fn remove_group(&self) -> Decision<()> {
        let mut draft = Draft::new(&self.id);
        draft.group_gone();
        Decision { response: (), records: draft.records, timers: Vec::new() }
    }

    /// A static member is away: nobody gets what it owns. Its session goes on.
    fn pause(&self, member: &Member) -> Decision<()> {
        let mut assigned = member.assigned.clone();
        for since in assigned.values_mut().flat_map(|partitions| partitions.values_mut()) {
            *since = 0;
        }
        let away = Member {
            epoch: LEFT_FOR_A_WHILE,
            state: MemberState::Stable,
            assigned,
            revoking: Owned::new(),
            ..member.clone()
        };
        let mut draft = Draft::new(&self.id);
        draft.progress(&away);
        let timers = vec![TimerChange::Cancel(MemberTimer::Rebalance(member.id.clone()))];
        Decision { response: (), records: draft.records, timers }
    }

    /// A member is gone, and the group goes on with a new epoch.
    fn remove_member(&self, member: &Member, scene: &Scene<'_>) -> Decision<()> {
        let mut draft = Draft::new(&self.id);
        draft.gone(&member.id);
        let overlay = Overlay { group: self, member: None, gone: Some(&member.id) };
        let regexes = self.resolve_regexes(overlay, scene, &mut draft);
        let epoch = self.epoch.saturating_add(1);
        if overlay.is_empty() {
            draft.epoch(epoch, 0);
            // Nobody is to own anything; the next to join need not wait.
            draft.assignment_epoch(epoch, 0);
        } else {
            draft.epoch(epoch, metadata_hash(all_names(&overlay, &regexes), scene.image));
        }
        let timers = member_timers(&member.id).map(TimerChange::Cancel).to_vec();
        Decision { response: (), records: draft.records, timers }
    }
}

/// Whether an epoch says that a member leaves.
pub fn is_leaving(member_epoch: i32) -> bool {
    member_epoch == LEFT || member_epoch == LEFT_FOR_A_WHILE
}
