//! Where the replicas of new partitions go: spread over brokers and racks, leaders balanced. Pure.
//!
//! The rule is Kafka's: brokers stand in a ring, ordered so that neighbours are of different racks.
//! Partition `p` puts its first replica, the preferred leader, at place `start + p` of the ring;
//! its other replicas follow at a distance that grows by one each time the ring has gone round, so
//! that the followers of one broker's partitions spread over all others. A rack takes a second
//! replica only when every rack has one, and a broker never takes two.

use std::collections::{BTreeMap, BTreeSet};

use ottla_common::types::BrokerId;

/// A broker that may take replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The broker.
    pub broker_id: BrokerId,
    /// Its rack; a broker without one counts as a rack of its own.
    pub rack: Option<String>,
}

/// What is to be placed.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    /// The number of the first new partition.
    pub first_partition: usize,
    /// How many new partitions.
    pub partitions: usize,
    /// Replicas of each.
    pub replication_factor: usize,
    /// Any number: where in the ring to begin, so that topics do not all begin at one broker.
    pub start: usize,
}

/// The replicas of each new partition, preferred leader first; `None` if there are fewer brokers
/// than replicas, or no replica is asked for.
pub fn place(candidates: &[Candidate], demand: Demand) -> Option<Vec<Vec<BrokerId>>> {
    let Demand { first_partition, partitions, replication_factor, start } = demand;
    if replication_factor == 0 || replication_factor > candidates.len() {
        return None;
    }
    let ring = ring_across_racks(candidates);
    let rack_count = ring.iter().map(|c| &c.1).collect::<BTreeSet<_>>().len();
    let place_one = |partition: usize| {
        let lead = (start % ring.len() + partition) % ring.len();
        let shift = 1 + (start / ring.len() + partition / ring.len()) % ring.len().max(2);
        pick_replicas(&ring, (lead, shift), (replication_factor, rack_count))
    };
    Some((first_partition..first_partition + partitions).map(place_one).collect())
}

type RingPlace = (BrokerId, String);

/// All brokers, taken one a rack in turn.
fn ring_across_racks(candidates: &[Candidate]) -> Vec<RingPlace> {
    let mut by_rack: BTreeMap<String, BTreeSet<BrokerId>> = BTreeMap::new();
    for candidate in candidates {
        let rack = match &candidate.rack {
            Some(rack) => format!("rack {rack}"),
            None => format!("alone {:011}", candidate.broker_id.0),
        };
        by_rack.entry(rack).or_default().insert(candidate.broker_id);
    }
    let mut ring = Vec::with_capacity(candidates.len());
    while !by_rack.is_empty() {
        by_rack.retain(|rack, brokers| {
            if let Some(broker) = brokers.pop_first() {
                ring.push((broker, rack.clone()));
            }
            !brokers.is_empty()
        });
    }
    ring
}

fn pick_replicas(
    ring: &[RingPlace],
    (lead, shift): (usize, usize),
    (replication_factor, rack_count): (usize, usize),
) -> Vec<BrokerId> {
    let walk = std::iter::once(lead).chain((0..ring.len()).map(|i| lead + shift + i));
    let places: Vec<&RingPlace> = walk.filter_map(|place| ring.get(place % ring.len())).collect();
    let mut replicas = Vec::with_capacity(replication_factor);
    let mut racks = BTreeSet::new();
    for (broker, rack) in &places {
        let rack_is_free = racks.len() >= rack_count || !racks.contains(rack);
        if replicas.len() < replication_factor && rack_is_free && !replicas.contains(broker) {
            replicas.push(*broker);
            racks.insert(rack);
        }
    }
    for (broker, _) in &places {
        if replicas.len() < replication_factor && !replicas.contains(broker) {
            replicas.push(*broker);
        }
    }
    replicas
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn brokers(racks: &[Option<&str>]) -> Vec<Candidate> {
        let candidate = |(i, rack): (usize, &Option<&str>)| Candidate {
            broker_id: BrokerId(i32::try_from(i).unwrap()),
            rack: rack.map(str::to_owned),
        };
        racks.iter().enumerate().map(candidate).collect()
    }

    fn demand(partitions: usize, replication_factor: usize) -> Demand {
        Demand { first_partition: 0, partitions, replication_factor, start: 0 }
    }

    #[test]
    fn leaders_go_round_the_ring() {
        let placed = place(&brokers(&[None, None, None]), demand(4, 2)).unwrap();
        let leaders: Vec<i32> = placed.iter().map(|replicas| replicas[0].0).collect();
        assert_eq!(leaders, [0, 1, 2, 0]);
        assert_ne!(placed[0], placed[3], "the second round puts its followers elsewhere");
    }

    #[test]
    fn too_few_brokers_is_no_placement() {
        assert_eq!(place(&brokers(&[None, None]), demand(1, 3)), None);
        assert_eq!(place(&brokers(&[None]), demand(1, 0)), None);
    }

    #[test]
    fn new_partitions_go_on_where_the_old_ones_ended() {
        let all = place(&brokers(&[None, None, None]), demand(5, 2)).unwrap();
        let added = Demand { first_partition: 2, ..demand(3, 2) };
        assert_eq!(place(&brokers(&[None, None, None]), added).unwrap(), all[2..]);
    }

    proptest! {
        #[test]
        fn replicas_are_distinct_and_spread(
            racks in proptest::collection::vec(proptest::option::of("[abc]"), 1..12),
            partitions in 1usize..40, replication_factor in 1usize..5, start in 0usize..100,
        ) {
            let racks: Vec<Option<&str>> = racks.iter().map(Option::as_deref).collect();
            let candidates = brokers(&racks);
            let demand = Demand { first_partition: 0, partitions, replication_factor, start };
            let Some(placed) = place(&candidates, demand) else {
                prop_assert!(replication_factor > candidates.len());
                return Ok(());
            };
            let mut led = BTreeMap::new();
            let rack_of = |b: &BrokerId| racks[usize::try_from(b.0).unwrap()]
                .map_or_else(|| b.to_string(), str::to_owned);
            let rack_count = candidates.iter().map(|c| rack_of(&c.broker_id))
                .collect::<BTreeSet<_>>().len();
            for replicas in &placed {
                prop_assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), replication_factor);
                let used = replicas.iter().map(rack_of).collect::<BTreeSet<_>>().len();
                prop_assert_eq!(used, replication_factor.min(rack_count));
                *led.entry(replicas[0]).or_insert(0usize) += 1;
            }
            let most = led.values().max().copied().unwrap_or(0);
            prop_assert!(most <= partitions.div_ceil(candidates.len()));
        }
    }
}
