//! The consumer group of KIP-848 (`group.protocol=consumer`): the broker assigns, each member gets
//! there at its own pace.
//!
//! ```text
//!  subscriptions or topics change ──► group epoch + 1
//!  group epoch > assignment epoch ──► assignor ──► targets, assignment epoch = group epoch
//!  each heartbeat of a member     ──► one step from what it owns towards its target
//!
//!             ┌────────── all given up ─────────────┐
//!             │                                     ▼
//!   UNREVOKED_PARTITIONS ◄── has to give up ──── STABLE, in the target's epoch
//!             │                                     ▲
//!             └─ given up ─► UNRELEASED_PARTITIONS ─┘ all were given up by others
//! ```
//!
//! No partition is given to a member while another holds it, which is: owns it or has still to say
//! that it has given it up. A member that does not give up in time, or is silent, is removed.
//!
//! Pure: [`ConsumerGroup::heartbeat`] and its like look at the group and return a [`Decision`]; the
//! group changes only by [`ConsumerGroup::replay`] of the decision's records, which are Kafka's. A
//! group that is not there yet is `ConsumerGroup::new`, and begins to exist with its first record.
//!
//! Not as in Kafka: assignments are made and patterns are resolved at once, not in the background;
//! patterns are not narrowed by what the member may see, since nobody may be forbidden to as yet.

pub mod classic;
pub mod heartbeat;
pub mod leave;
pub mod member;
pub mod migration;
pub mod overlay;
pub mod reconcile;
pub mod records;
pub mod requests;
pub mod subscription;
pub mod target;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::wire::KafkaString;
use ottla_common::types::TopicId;

use super::assignors::{Assignment, Assignor};
use crate::config::broker::ConsumerGroupsConfig;
use crate::internal_topics::Now;
use crate::internal_topics::machine::TimerChange;
use crate::limits::MEMBERS_PER_GROUP_MAX;
use crate::metadata::image::{MetadataImage, Overrides};
use member::{Member, MemberState};
use records::ConsumerGroupRecord;
use target::Regexes;

/// What consumer groups are bounded and timed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupSettings {
    /// `group.consumer.assignors`: those that are offered, the default first.
    pub assignors: Vec<Assignor>,
    /// `group.consumer.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: i32,
    /// `group.consumer.session.timeout.ms`.
    pub session_timeout_ms: i32,
    /// `group.consumer.assignment.interval.ms`.
    pub assignment_interval_ms: i32,
    /// `group.consumer.max.size`, and never more than [`MEMBERS_PER_GROUP_MAX`].
    pub size_max: usize,
    /// Whether members of a classic group may go over to the consumer protocol one by one.
    pub may_upgrade: bool,
    /// Whether a group may go back to the classic protocol once its last other member is gone.
    pub may_downgrade: bool,
}

impl Default for ConsumerGroupSettings {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            assignors: vec![Assignor::Uniform, Assignor::Range],
            heartbeat_interval_ms: 5_000,
            session_timeout_ms: 45_000,
            assignment_interval_ms: 1_000,
            size_max: MEMBERS_PER_GROUP_MAX,
            may_upgrade: true,
            may_downgrade: true,
        }
    }
}

impl ConsumerGroupSettings {
    /// From the broker's configs.
    pub fn new(config: &ConsumerGroupsConfig) -> Self {
        let assignors = config.assignors.iter().filter_map(|name| Assignor::from_name(name));
        Self {
            assignors: assignors.collect(),
            heartbeat_interval_ms: config.heartbeat_interval_ms,
            session_timeout_ms: config.session_timeout_ms,
            assignment_interval_ms: config.assignment_interval_ms,
            size_max: usize::try_from(config.max_size)
                .unwrap_or(usize::MAX)
                .min(MEMBERS_PER_GROUP_MAX),
            may_upgrade: config.may_upgrade,
            may_downgrade: config.may_downgrade,
        }
    }

    /// Takes over what is configured for one group. What does not make sense is passed over.
    pub fn apply(&mut self, overrides: &Overrides) {
        let places = [
            ("consumer.heartbeat.interval.ms", &mut self.heartbeat_interval_ms),
            ("consumer.session.timeout.ms", &mut self.session_timeout_ms),
            ("consumer.assignment.interval.ms", &mut self.assignment_interval_ms),
        ];
        for (key, place) in places {
            let value = overrides.get(key).and_then(|value| value.parse().ok());
            *place = value.filter(|value| *value >= 0).unwrap_or(*place);
        }
    }
}

/// What a decision looks at besides the group.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The time.
    pub now: Now,
    /// The cluster.
    pub image: &'a MetadataImage,
    /// The settings of this group.
    pub settings: &'a ConsumerGroupSettings,
}

/// The timers of one group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberTimer {
    /// A member was silent for too long.
    Session(KafkaString),
    /// A member did not give up partitions in time.
    Rebalance(KafkaString),
    /// A member of the classic protocol did not join again in time.
    Join(KafkaString),
    /// A member of the classic protocol did not ask for its assignment in time.
    Sync(KafkaString),
}

/// What is to happen.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision<R> {
    /// What the client is told once the records are committed.
    pub response: R,
    /// What is to be written, in order.
    pub records: Vec<ConsumerGroupRecord>,
    /// What is to be done about timers.
    pub timers: Vec<TimerChange<MemberTimer>>,
}

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub code: ErrorCode,
    /// In words.
    pub message: Option<String>,
}

impl Refusal {
    /// A refusal in words.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: Some(message.into()) }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self { code, message: None }
    }
}

/// What a group is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// It has no members.
    Empty,
    /// Its targets are older than its epoch.
    Assigning,
    /// Not all members are where they are to be.
    Reconciling,
    /// All are.
    Stable,
}

impl GroupState {
    /// Its name in responses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

/// A group.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerGroup {
    id: KafkaString,
    epoch: i32,
    metadata_hash: i64,
    /// The epoch of the targets.
    assignment_epoch: i32,
    /// When they were made, in milliseconds since 1970; 0 if any time will do for the next.
    assigned_at_ms: i64,
    members: BTreeMap<KafkaString, Member>,
    static_members: BTreeMap<KafkaString, KafkaString>,
    targets: BTreeMap<KafkaString, Assignment>,
    regexes: Regexes,
    /// Who holds each partition.
    holders: HashMap<(TopicId, i32), KafkaString>,
    /// Topics may have changed since the hash was taken. No record stands for it.
    has_stale_topics: bool,
    /// Members of the classic protocol that were called to join again. No record stands for it.
    called: BTreeSet<KafkaString>,
}

impl ConsumerGroup {
    /// A group that nobody has joined.
    pub fn new(id: &KafkaString) -> Self {
        Self {
            id: id.detached(),
            // As in Kafka: the first epoch that a record tells is 2.
            epoch: 1,
            metadata_hash: 0,
            assignment_epoch: 1,
            assigned_at_ms: 0,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            targets: BTreeMap::new(),
            regexes: Regexes::new(),
            holders: HashMap::new(),
            has_stale_topics: true,
            called: BTreeSet::new(),
        }
    }

    /// Its id.
    pub fn id(&self) -> &KafkaString {
        &self.id
    }

    /// Its epoch.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// The members, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// A member.
    pub fn member(&self, id: &str) -> Option<&Member> {
        self.members.get(id)
    }

    /// What it is doing.
    pub fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.epoch > self.assignment_epoch {
            GroupState::Assigning
        } else if self.members.values().all(|m| m.is_reconciled_to(self.assignment_epoch)) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    /// Whether it has no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether any member subscribes to a topic.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        let mut members = self.members.values();
        members.any(|member| target::names_of(member, &self.regexes).any(|name| *name == *topic))
    }

    /// The names of all topics that members subscribe to.
    pub fn subscribed_topics(&self) -> BTreeSet<&KafkaString> {
        let members = self.members.values();
        members.flat_map(|member| target::names_of(member, &self.regexes)).collect()
    }

    /// Topics changed. If any is, or may come to be, of concern, the next heartbeat looks closer.
    pub fn topics_changed<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        let has_regexes = !self.regexes.is_empty();
        let members = &self.members;
        self.has_stale_topics |= names.into_iter().any(|name| {
            has_regexes || members.values().any(|member| member.topic_names.contains(name))
        });
    }

    /// A heartbeat was decided. If it found that nothing has come of topics that may have changed,
    /// the next need not look again; if something has, a record of the group's epoch says so.
    pub fn heard<R>(&mut self, decision: &Decision<R>) {
        let is_epoch =
            |record: &ConsumerGroupRecord| matches!(record, ConsumerGroupRecord::Group(_, Some(_)));
        self.has_stale_topics &= decision.records.iter().any(is_epoch);
    }

    /// A member of the classic protocol that was called to join again has done so.
    pub fn came(&mut self, member_id: &str) {
        self.called.remove(member_id);
    }

    /// What is done about timers when the group goes.
    pub fn no_timers(&self) -> Vec<TimerChange<MemberTimer>> {
        self.members.keys().flat_map(member_timers).map(TimerChange::Cancel).collect()
    }

    /// All records were replayed: what timers the members have. Sets the whole session timeout,
    /// since nobody knows when they were heard.
    pub fn loaded(&mut self, scene: &Scene<'_>) -> Vec<TimerChange<MemberTimer>> {
        self.has_stale_topics = true;
        self.called.clear();
        let now_ms = scene.now.monotonic_ms;
        let after = |ms: i32| now_ms.saturating_add(u64::try_from(ms).unwrap_or(0));
        let mut timers = Vec::new();
        for member in self.members.values() {
            let session = MemberTimer::Session(member.id.clone());
            let classic = member.classic.as_ref().map(|classic| classic.session_timeout_ms);
            let timeout_ms = classic.unwrap_or(scene.settings.session_timeout_ms);
            timers.push(TimerChange::Set(session, after(timeout_ms)));
            if classic.is_none() && member.state == MemberState::UnrevokedPartitions {
                let rebalance = MemberTimer::Rebalance(member.id.clone());
                timers.push(TimerChange::Set(rebalance, after(member.rebalance_timeout_ms)));
            }
        }
        timers
    }
}

/// All timers that a member may have.
fn member_timers(id: &KafkaString) -> [MemberTimer; 4] {
    [
        MemberTimer::Session(id.clone()),
        MemberTimer::Rebalance(id.clone()),
        MemberTimer::Join(id.clone()),
        MemberTimer::Sync(id.clone()),
    ]
}
