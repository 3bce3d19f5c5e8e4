//! Which partitions need a new leader, and what their states become. Pure.

use std::sync::Arc;

use ottla_common::cluster_tree::PartitionState;
use ottla_common::types::BrokerId;

use super::election::{Candidates, Elected, elect};
use crate::metadata::image::{MetadataImage, PartitionImage};

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
    /// Whether committed records may be lost by it.
    pub unclean: bool,
}

/// Everything that a controller has to decide about the cluster as it is.
///
/// A partition needs an election if nobody leads it, if its leader is not live or is about to
/// leave, or if its leader registered after the state was last written: then it has been away,
/// perhaps so shortly that nobody saw it go, and its followers and clients must learn of it by a
/// new epoch.
pub fn needed_elections(image: &MetadataImage, controller_epoch: i32) -> Vec<Election> {
    let mut elections = Vec::new();
    for topic in image.topics.values() {
        let unclean_allowed = allows_unclean_election(image, &topic.name);
        for (number, partition) in (0_i32..).zip(&topic.partitions) {
            if leads_in_good_standing(image, partition) {
                continue;
            }
            let candidates = Candidates {
                replicas: &partition.replicas,
                isr: &partition.isr,
                elr: &partition.elr,
                unclean_allowed,
            };
            let elected = elect(&candidates, |broker| image.is_electable(broker));
            let unclean = matches!(elected, Elected::Unclean { .. });
            if let Some(state) = state_after(partition, elected, controller_epoch) {
                elections.push(Election {
                    topic: topic.name.clone(),
                    partition: number,
                    state_version: partition.state_version,
                    state,
                    unclean,
                });
            }
        }
    }
    elections
}

fn leads_in_good_standing(image: &MetadataImage, partition: &PartitionImage) -> bool {
    let leader = partition.leader.and_then(|leader| image.brokers.get(&leader));
    leader.is_some_and(|leader| {
        !leader.shutting_down && leader.broker_epoch <= partition.state_mzxid.0
    })
}

fn allows_unclean_election(image: &MetadataImage, topic: &str) -> bool {
    const KEY: &str = "unclean.leader.election.enable";
    let overrides = image.topic_overrides(topic);
    let defaults = image.default_broker_overrides();
    overrides.get(KEY).or_else(|| defaults.get(KEY)).is_some_and(|value| value == "true")
}

fn state_after(
    partition: &PartitionImage,
    elected: Elected,
    controller_epoch: i32,
) -> Option<PartitionState> {
    let with = |leader: Option<BrokerId>, isr: Vec<BrokerId>, elr: Vec<BrokerId>| PartitionState {
        leader,
        leader_epoch: partition.leader_epoch + 1,
        isr,
        controller_epoch,
        elr,
    };
    match elected {
        Elected::Clean { leader, isr } => {
            let elr = partition.elr.iter().copied().filter(|b| !isr.contains(b)).collect();
            Some(with(Some(leader), isr, elr))
        }
        Elected::Unclean { leader } => Some(with(Some(leader), vec![leader], Vec::new())),
        Elected::Nobody if partition.leader.is_none() => None,
        Elected::Nobody => Some(with(None, partition.isr.clone(), partition.elr.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::image::{BrokerImage, TopicImage};
    use ottla_common::types::{Uuid, Zxid};

    /// Broker 1 and 2 (registered at zxids 10 and 20) and one partition on both, led by 1.
    fn cluster(live: &[(i32, i64)], isr: &[i32], leader: Option<i32>) -> MetadataImage {
        let mut image = MetadataImage::default();
        for (id, broker_epoch) in live {
            let id = BrokerId(*id);
            let broker = BrokerImage {
                id,
                broker_epoch: *broker_epoch,
                listeners: Vec::new(),
                rack: None,
                shutting_down: false,
            };
            image.brokers.insert(id, Arc::new(broker));
        }
        let partition = PartitionImage {
            replicas: vec![BrokerId(1), BrokerId(2)],
            isr: isr.iter().copied().map(BrokerId).collect(),
            leader: leader.map(BrokerId),
            leader_epoch: 4,
            state_mzxid: Zxid(50),
            ..PartitionImage::default()
        };
        let name: Arc<str> = "orders".into();
        let topic = TopicImage {
            name: name.clone(),
            id: Uuid([1; 16]),
            partitions: vec![partition],
            node_version: 0,
        };
        image.topics.insert(name, Arc::new(topic));
        image
    }

    fn states(image: &MetadataImage) -> Vec<(Option<i32>, i32, Vec<i32>)> {
        let elections = needed_elections(image, 3);
        let state = |e: &Election| {
            let isr = e.state.isr.iter().map(|b| b.0).collect();
            (e.state.leader.map(|b| b.0), e.state.leader_epoch, isr)
        };
        elections.iter().map(state).collect()
    }

    #[test]
    fn a_leader_in_good_standing_stays() {
        assert_eq!(states(&cluster(&[(1, 10), (2, 20)], &[1, 2], Some(1))), []);
    }

    #[test]
    fn a_dead_leader_is_followed_by_the_next_in_sync_replica() {
        let image = cluster(&[(2, 20)], &[1, 2], Some(1));
        assert_eq!(states(&image), [(Some(2), 5, vec![2])]);
    }

    #[test]
    fn the_last_in_sync_replica_stays_on_record_when_it_dies() {
        assert_eq!(states(&cluster(&[(2, 20)], &[1], Some(1))), [(None, 5, vec![1])]);
        assert_eq!(states(&cluster(&[(2, 20)], &[1], None)), [], "and that is written once");
    }

    #[test]
    fn it_leads_again_when_it_comes_back() {
        let image = cluster(&[(1, 60), (2, 20)], &[1], None);
        assert_eq!(states(&image), [(Some(1), 5, vec![1])]);
    }

    #[test]
    fn a_leader_that_bounced_unseen_gets_a_new_epoch() {
        let image = cluster(&[(1, 60), (2, 20)], &[1, 2], Some(1));
        assert_eq!(states(&image), [(Some(1), 5, vec![1, 2])]);
    }
}
