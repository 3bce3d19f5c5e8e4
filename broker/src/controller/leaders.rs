//! Which partitions need a new state because brokers came or went. Pure.
//!
//! The controller looks at all partitions when it takes office and when the brokers or the
//! defaults for all topics have changed; else only at topics that have changed since it looked
//! last, and at partitions whose election lost a race.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_common::cluster_tree::PartitionState;
use ottla_common::types::BrokerId;

use super::election::{Decision, Kind, Presence, Rules, Situation};
use super::reassignment::{finished, placement_write, state_with, state_write};
use super::writes::{Change, life_check};
use crate::config::{BrokerConfig, TopicConfig};
use crate::metadata::image::{MetadataImage, Overrides, TopicImage};

/// A topic's name and a partition's number.
pub type PartitionName = (Arc<str>, i32);

/// A state that is to replace a partition's present one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Election {
    /// The partition's topic.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
    /// The version that the state's node must still have.
    pub state_version: i32,
    /// The new state.
    pub state: PartitionState,
    /// What kind of a change it is.
    pub kind: Kind,
}

/// What a controller looks at.
pub struct Survey<'a> {
    /// The cluster as it is.
    pub image: &'a MetadataImage,
    /// As it was when the controller looked last; none if it has not looked yet.
    pub seen: Option<&'a MetadataImage>,
    /// Partitions to look at in any case.
    pub again: &'a BTreeSet<PartitionName>,
    /// The rules of a topic.
    pub rules: &'a dyn Fn(&str) -> Rules,
    /// The controller's epoch.
    pub controller_epoch: i32,
}

impl Survey<'_> {
    /// Everything that has to be written now.
    pub fn elections(&self) -> Vec<Election> {
        let mut elections = Vec::new();
        for topic in self.topics() {
            let rules = OnceCell::new();
            let rules = || *rules.get_or_init(|| (self.rules)(&topic.name));
            for number in (0_i32..).take(topic.partitions.len()) {
                elections.extend(self.election(topic, number, rules));
            }
        }
        elections
    }

    /// Where preferred leaders could lead again and do not.
    pub fn preferred(&self) -> Vec<Election> {
        let topics = self.image.topics.values();
        let numbered = topics.flat_map(|t| (0_i32..).zip(&t.partitions).map(move |p| (t, p)));
        let back = numbered.filter_map(|(topic, (number, partition))| {
            let situation = Situation::new(partition, self.controller_epoch, self.presence());
            Some(election_of(topic, number, situation.prefer()?))
        });
        back.collect()
    }

    /// The reassignments that are done, a change for each topic. A topic with an election among
    /// `elections` has to wait: it is looked at again when that has been made.
    pub fn completions(&self, elections: &[Election]) -> Vec<Change> {
        let waiting: BTreeSet<&str> = elections.iter().map(|each| &*each.topic).collect();
        let topics = self.topics().into_iter().filter(|topic| !waiting.contains(&*topic.name));
        topics.filter_map(|topic| self.completion(topic)).collect()
    }

    fn completion(&self, topic: &TopicImage) -> Option<Change> {
        let mut placed = Vec::new();
        let mut states = Vec::new();
        let mut leaders = BTreeSet::new();
        for (number, partition) in (0_i32..).zip(&topic.partitions) {
            let Some(assignment) = finished(partition) else { continue };
            let rest = ((self.rules)(&topic.name).min_insync_replicas, self.controller_epoch);
            let can_lead = |broker| self.image.is_electable(broker);
            let Ok(state) = state_with(partition, &assignment, rest, can_lead) else { continue };
            leaders.extend(state.as_ref().and_then(|state| state.leader));
            states.extend(state.map(|state| state_write(topic, number, &state)));
            placed.push((number, assignment));
        }
        let write = (!placed.is_empty()).then(|| placement_write(topic, &placed))?;
        // The new leader epoch is for the life of the leader that the image shows, for no later
        // one.
        let lives = leaders.into_iter().flat_map(|leader| life_check(self.image, Some(leader)));
        Some(Change {
            topic: topic.name.clone(),
            partitions: placed.into_iter().map(|(number, _)| number).collect(),
            ops: lives.chain(std::iter::once(write)).chain(states).collect(),
        })
    }

    /// The topics that have to be looked at.
    fn topics(&self) -> Vec<&Arc<TopicImage>> {
        let Some(seen) = self.seen.filter(|seen| !rules_for_all_changed(seen, self.image)) else {
            return self.image.topics.values().collect();
        };
        let again: BTreeSet<&str> = self.again.iter().map(|(topic, _)| &**topic).collect();
        let topics = self.image.topics.values();
        topics
            .filter(|topic| topic_changed(seen, self.image, topic) || again.contains(&*topic.name))
            .collect()
    }

    fn election(
        &self,
        topic: &TopicImage,
        number: i32,
        rules: impl Fn() -> Rules,
    ) -> Option<Election> {
        let partition = topic.partition(number)?;
        let situation = Situation::new(partition, self.controller_epoch, self.presence());
        if situation.is_settled() {
            return None;
        }
        Some(election_of(topic, number, situation.decide(rules())?))
    }

    fn presence(&self) -> impl Fn(BrokerId) -> Option<Presence> {
        |broker| self.image.brokers.get(&broker).map(|broker| Presence::of(broker))
    }
}

fn election_of(topic: &TopicImage, number: i32, decision: Decision) -> Election {
    Election {
        topic: topic.name.clone(),
        partition: number,
        state_version: topic.partition(number).map_or(0, |partition| partition.state_version),
        state: decision.state,
        kind: decision.kind,
    }
}

/// Whether something changed that may matter to every partition.
fn rules_for_all_changed(seen: &MetadataImage, image: &MetadataImage) -> bool {
    seen.brokers != image.brokers
        || seen.default_broker_overrides() != image.default_broker_overrides()
}

fn topic_changed(seen: &MetadataImage, image: &MetadataImage, topic: &Arc<TopicImage>) -> bool {
    let is_same = seen.topics.get(&topic.name).is_some_and(|before| Arc::ptr_eq(before, topic));
    let configs = |image: &MetadataImage| image.topic_configs.get(&topic.name).cloned();
    !is_same || configs(seen).map(|c| c.node_version) != configs(image).map(|c| c.node_version)
}

/// The rules of a topic, as this broker's file and the settings in the tree have them.
pub fn rules_of(config: &BrokerConfig, image: &MetadataImage, topic: &str) -> Rules {
    let all = image.default_broker_overrides();
    let own = Overrides::new();
    let config = TopicConfig::effective(&image.topic_overrides(topic), &config.layers(&own, &all));
    Rules {
        min_insync_replicas: usize::try_from(config.min_insync_replicas).unwrap_or(1),
        unclean_allowed: config.unclean_leader_election_enable,
    }
}

#[cfg(test)]
mod tests;
