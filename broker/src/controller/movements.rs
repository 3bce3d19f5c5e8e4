//! What clients ask about who leads and who holds replicas: elections, reassignments.
//!
//! Any broker makes these writes itself; they are not forwarded to the controller. Each is guarded
//! by the node version of what it replaces, so it is decided on the newest state or not made, and
//! by the registrations of this broker and of the leader that it names, in the lives that were
//! seen. A check of `/controller_epoch` would add nothing: it keeps a deposed controller from
//! acting on an old image, and no write here can be based on an old state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_common::cluster_tree::{PartitionAssignment, PartitionState};
use ottla_common::coordination::protocol::Op;
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::types::BrokerId;
use tracing::{info, warn};

use super::admin::{AdminError, ClusterAdmin};
use super::election::{Decision, Kind, Presence, Rules, Situation};
use super::leaders::rules_of;
use super::reassignment::{
    NobodyInSync, cancelled, is_under_way, placement_write, state_with, state_write, target,
    towards,
};
use super::writes::{Change, life_check, write};
use crate::metadata::image::{MetadataImage, PartitionImage, TopicImage};

/// How often a write is decided anew because something else was faster.
const ATTEMPTS: usize = 10;

/// How long to wait for the image to show what was faster.
const RACE_PAUSE: Duration = Duration::from_millis(500);

/// What kind of leader is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The first replica, if it is in sync.
    Preferred,
    /// Any replica that lives, if nobody leads: records may be lost.
    Unclean,
}

/// The partitions of some topics, by name and number, each with something.
pub type PerPartition<T> = BTreeMap<Arc<str>, BTreeMap<i32, T>>;

/// What became of partitions.
pub type Outcomes = PerPartition<Result<(), AdminError>>;

/// What is to become of one partition: replicas to move to, or none to stop moving.
pub type Move = Option<Vec<BrokerId>>;

impl ClusterAdmin {
    /// Has leaders elected for these partitions.
    pub async fn elect_leaders(&self, wanted: Wanted, asked: PerPartition<()>) -> Outcomes {
        let decide = |image: &MetadataImage, topic: &str, partitions: &BTreeMap<i32, ()>| {
            let mut decided = Decided::default();
            for number in partitions.keys() {
                match self.election(image, (topic, *number), wanted) {
                    Ok(ops) => decided.changes.push((vec![*number], ops)),
                    Err(error) => decided.refused.push((*number, error)),
                }
            }
            decided
        };
        self.decide_and_write(asked, decide).await
    }

    /// Begins to move replicas, or ends it.
    pub async fn reassign(&self, moves: PerPartition<Move>, may_resize: bool) -> Outcomes {
        let decide = |image: &MetadataImage, topic: &str, moves: &BTreeMap<i32, Move>| {
            self.reassignment(image, topic, (moves, may_resize))
        };
        self.decide_and_write(moves, decide).await
    }

    fn election(
        &self,
        image: &MetadataImage,
        (name, number): (&str, i32),
        wanted: Wanted,
    ) -> Result<Vec<Op>, AdminError> {
        let refused = |code| AdminError::new(code, String::new());
        let (topic, partition) = find(image, name, number)?;
        let presence = |id: BrokerId| image.brokers.get(&id).map(|broker| Presence::of(broker));
        let situation = Situation::new(partition, image.controller_epoch.value, presence);
        let decision = match wanted {
            Wanted::Preferred if partition.leader == partition.replicas.first().copied() => {
                return Err(refused(ErrorCode::ElectionNotNeeded));
            }
            Wanted::Preferred => situation.prefer().ok_or(ErrorCode::PreferredLeaderNotAvailable),
            Wanted::Unclean if partition.leader.is_some() => {
                return Err(refused(ErrorCode::ElectionNotNeeded));
            }
            Wanted::Unclean => {
                let rules = Rules { unclean_allowed: true, ..rules_of(&self.config, image, name) };
                situation.decide(rules).ok_or(ErrorCode::EligibleLeadersNotAvailable)
            }
        };
        let Decision { state, kind } = decision.map_err(refused)?;
        if kind == Kind::Unclean {
            warn!(topic = name, partition = number, "unclean election: records may be lost");
        }
        let mut ops = life_check(image, state.leader);
        ops.push(state_write(topic, number, &state));
        Ok(ops)
    }

    /// One write of the topic for all moves that can be made, and of the states that they change.
    fn reassignment(
        &self,
        image: &MetadataImage,
        name: &str,
        (moves, may_resize): (&BTreeMap<i32, Move>, bool),
    ) -> Decided {
        let mut decided = Decided::default();
        let mut placed = Vec::new();
        let (mut checks, mut states) = (Vec::new(), Vec::new());
        for (number, wanted) in moves {
            match self.placed(image, (name, *number), (wanted, may_resize)) {
                Err(error) => decided.refused.push((*number, error)),
                Ok((assignment, state)) => {
                    placed.push((*number, assignment));
                    checks.extend(life_check(image, state.as_ref().and_then(|s| s.leader)));
                    states.extend(state.map(|state| (*number, state)));
                }
            }
        }
        let Some(topic) = image.topic(name).filter(|_| !placed.is_empty()) else { return decided };
        checks.push(placement_write(topic, &placed));
        checks.extend(states.iter().map(|(number, state)| state_write(topic, *number, state)));
        decided.changes.push((placed.iter().map(|(number, _)| *number).collect(), checks));
        decided
    }

    fn placed(
        &self,
        image: &MetadataImage,
        (name, number): (&str, i32),
        (wanted, may_resize): (&Move, bool),
    ) -> Result<(PartitionAssignment, Option<PartitionState>), AdminError> {
        let (_, partition) = find(image, name, number)?;
        let placed = match wanted {
            Some(replicas) => {
                check_target(image, partition, (replicas, may_resize))?;
                towards(partition, replicas)
            }
            None if is_under_way(partition) => cancelled(partition),
            None => {
                let text = "No partition reassignment is in progress.";
                return Err(AdminError::new(ErrorCode::NoReassignmentInProgress, text));
            }
        };
        let rules = rules_of(&self.config, image, name);
        let rest = (rules.min_insync_replicas, image.controller_epoch.value);
        let state = state_with(partition, &placed, rest, |broker| image.is_electable(broker));
        let state = state.map_err(|NobodyInSync| {
            let text = format!(
                "Unable to revert partition assignment for {name}:{number} because it would \
                 require an unclean leader election."
            );
            AdminError::new(ErrorCode::InvalidReplicaAssignment, text)
        })?;
        Ok((placed, state))
    }

    /// Writes what is decided topic by topic, and again what lost a race, on a newer image.
    async fn decide_and_write<T: Clone>(
        &self,
        mut asked: PerPartition<T>,
        decide: impl Fn(&MetadataImage, &str, &BTreeMap<i32, T>) -> Decided,
    ) -> Outcomes {
        let mut outcomes = Outcomes::new();
        for _ in 0..ATTEMPTS {
            let mut news = self.image.changed();
            let image = self.image.load();
            let mut changes = Vec::new();
            for (topic, partitions) in &asked {
                let decided = decide(&image, topic, partitions);
                let outcome = outcomes.entry(topic.clone()).or_default();
                outcome.extend(decided.refused.into_iter().map(|(p, error)| (p, Err(error))));
                changes.extend(decided.changes.into_iter().map(|(partitions, ops)| Change {
                    topic: topic.clone(),
                    partitions,
                    ops,
                }));
            }
            let written: Vec<(Arc<str>, Vec<i32>)> =
                changes.iter().map(|c| (c.topic.clone(), c.partitions.clone())).collect();
            let lost = match self.write_as_registered(&image, changes).await {
                Ok(lost) => lost,
                Err(error) => {
                    fill(&mut outcomes, written, &Err(error));
                    return outcomes;
                }
            };
            fill(&mut outcomes, written, &Ok(()));
            if lost.is_empty() {
                return outcomes;
            }
            let is_lost = |topic: &Arc<str>, number: i32| {
                lost.iter().any(|c| c.topic == *topic && c.partitions.contains(&number))
            };
            asked.retain(|topic, partitions| {
                partitions.retain(|number, _| is_lost(topic, *number));
                !partitions.is_empty()
            });
            let _ = tokio::time::timeout(RACE_PAUSE, news.changed()).await;
        }
        let text = "Other changes of these partitions were faster again and again.";
        let error = AdminError::new(ErrorCode::RequestTimedOut, text);
        let left = asked.into_iter().map(|(topic, numbers)| (topic, numbers.into_keys().collect()));
        fill(&mut outcomes, left, &Err(error));
        outcomes
    }

    /// Makes the changes in this broker's present life. Returns those that lost a race.
    async fn write_as_registered(
        &self,
        image: &MetadataImage,
        changes: Vec<Change>,
    ) -> Result<Vec<Change>, AdminError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let own = life_check(image, Some(self.config.broker_id)).pop().ok_or_else(|| {
            let text = "This broker is not registered with the coordinator.";
            AdminError::new(ErrorCode::RequestTimedOut, text)
        })?;
        let count = changes.len();
        let written = write(&self.client, &own, changes).await;
        let written = written.map_err(|error| AdminError::from_client(&error))?;
        info!(changes = count - written.lost.len(), "partitions changed on request");
        self.shown_at(written.zxid).await;
        Ok(written.lost)
    }
}

/// What is to be done about one topic's partitions.
#[derive(Default)]
struct Decided {
    /// Which partitions each is about, and what it writes.
    changes: Vec<(Vec<i32>, Vec<Op>)>,
    refused: Vec<(i32, AdminError)>,
}

fn fill(
    outcomes: &mut Outcomes,
    of: impl IntoIterator<Item = (Arc<str>, Vec<i32>)>,
    with: &Result<(), AdminError>,
) {
    for (topic, numbers) in of {
        let outcome = outcomes.entry(topic).or_default();
        outcome.extend(numbers.into_iter().map(|number| (number, with.clone())));
    }
}

fn find<'a>(
    image: &'a MetadataImage,
    name: &str,
    number: i32,
) -> Result<(&'a Arc<TopicImage>, &'a PartitionImage), AdminError> {
    let unknown = |text| AdminError::new(ErrorCode::UnknownTopicOrPartition, text);
    let topic = image.topic(name);
    let topic = topic.ok_or_else(|| unknown(format!("Unable to find a topic named {name}.")))?;
    let partition = topic.partition(number);
    let text = || unknown(format!("Unable to find partition {name}:{number}."));
    Ok((topic, partition.ok_or_else(text)?))
}

fn check_target(
    image: &MetadataImage,
    partition: &PartitionImage,
    (replicas, may_resize): (&[BrokerId], bool),
) -> Result<(), AdminError> {
    let invalid = |text: String| {
        let text = format!("The manual partition assignment includes {text}");
        Err(AdminError::new(ErrorCode::InvalidReplicaAssignment, text))
    };
    if replicas.is_empty() {
        return invalid("an empty replica list.".to_owned());
    }
    for (place, broker) in replicas.iter().enumerate() {
        if replicas.iter().take(place).any(|earlier| earlier == broker) {
            return invalid(format!("the broker {broker} more than once."));
        }
        // A replica whose broker is down may stay one.
        if !image.brokers.contains_key(broker) && !partition.replicas.contains(broker) {
            return invalid(format!("broker {broker}, but no such broker is registered."));
        }
    }
    let present = target(partition).len();
    if !may_resize && replicas.len() != present {
        let wanted = replicas.len();
        let text = format!("The replication factor is changed from {present} to {wanted}");
        return Err(AdminError::new(ErrorCode::InvalidReplicationFactor, text));
    }
    Ok(())
}
