//! The rules' properties; their stories are `tests/scenarios/election`.

use super::*;
use std::collections::BTreeMap;

use ottla_common::types::Zxid;
use proptest::prelude::*;

const RULES: Rules = Rules { min_insync_replicas: 2, unclean_allowed: false };

fn ids(numbers: &[i32]) -> Vec<BrokerId> {
    numbers.iter().copied().map(BrokerId).collect()
}

fn apply(partition: &mut PartitionImage, decision: &Decision, zxid: i64) {
    let PartitionState { leader, leader_epoch, isr, elr, .. } = decision.state.clone();
    partition.state_version += 1;
    partition.state_mzxid = Zxid(zxid);
    (partition.leader, partition.leader_epoch) = (leader, leader_epoch);
    (partition.isr, partition.elr) = (isr, elr);
}

/// Replicas 1 to 5, some of them in sync, some eligible, one of them leading or none.
fn partitions() -> impl Strategy<Value = PartitionImage> {
    let replicas = proptest::sample::subsequence(vec![1, 2, 3, 4, 5], 1..=5).prop_shuffle();
    let roles = proptest::collection::vec(0..3u8, 5);
    (replicas, roles, 0..6usize).prop_map(|(replicas, roles, leader)| {
        let with = |role: u8| {
            let zipped = replicas.iter().zip(&roles).filter(move |(_, each)| **each == role);
            zipped.map(|(id, _)| BrokerId(*id)).collect::<Vec<_>>()
        };
        PartitionImage {
            replicas: ids(&replicas),
            leader: with(0).get(leader).copied(),
            isr: with(0),
            elr: with(1),
            leader_epoch: 7,
            state_mzxid: Zxid(100),
            ..PartitionImage::default()
        }
    })
}

/// Who is registered: before or after the state was written, staying or leaving.
fn brokers() -> impl Strategy<Value = BTreeMap<BrokerId, Presence>> {
    let presence = (any::<bool>(), any::<bool>()).prop_map(|(is_new, is_leaving)| Presence {
        broker_epoch: if is_new { 200 } else { 50 },
        is_leaving,
    });
    proptest::collection::btree_map((1..6).prop_map(BrokerId), presence, 0..=5)
}

proptest! {
    #[test]
    fn a_decision_keeps_what_was_committed(
        partition in partitions(), brokers in brokers(), unclean_allowed in any::<bool>(),
    ) {
        let rules = Rules { unclean_allowed, ..RULES };
        let presence = |broker| brokers.get(&broker).copied();
        let Some(decision) = Situation::new(&partition, 3, presence).decide(rules) else {
            return Ok(());
        };
        let Decision { state, kind } = &decision;
        let had_all = |b: &BrokerId| partition.isr.contains(b) || partition.elr.contains(b);
        if *kind == Kind::Unclean {
            prop_assert!(unclean_allowed && !partition.isr.iter().chain(&partition.elr)
                .any(|b| presence(*b).is_some_and(|p| !p.is_leaving)));
        } else {
            // Only who had all that was committed is in sync or eligible.
            prop_assert!(state.isr.iter().chain(&state.elr).all(had_all));
        }
        prop_assert!(state.isr.is_empty() == partition.isr.is_empty()
            || partition.isr.is_empty() && state.leader.is_some(), "an empty ISR by a shrink");
        prop_assert!(state.leader.is_none_or(|leader| state.isr.contains(&leader)));
        prop_assert!(state.isr.iter().all(|b| partition.replicas.contains(b)));
        prop_assert!(state.elr.iter().all(|b| !state.isr.contains(b)));
        let rise = i32::from(*kind != Kind::Isr);
        prop_assert_eq!(state.leader_epoch, partition.leader_epoch + rise);
        if state.leader != partition.leader {
            prop_assert_ne!(*kind, Kind::Isr);
        }
    }

    #[test]
    fn what_was_decided_needs_no_second_decision(
        partition in partitions(), brokers in brokers(), unclean_allowed in any::<bool>(),
    ) {
        let rules = Rules { unclean_allowed, ..RULES };
        let mut partition = partition;
        let presence = |broker| brokers.get(&broker).copied();
        let situation = Situation::new(&partition, 3, presence);
        let decision = situation.decide(rules);
        prop_assert!(!situation.is_settled() || decision.is_none());
        let Some(decision) = decision else { return Ok(()) };
        apply(&mut partition, &decision, 300);
        prop_assert_eq!(Situation::new(&partition, 3, presence).decide(rules), None);
    }

    #[test]
    fn a_live_replica_that_has_everything_leads(
        partition in partitions(), brokers in brokers(),
    ) {
        let presence = |broker| brokers.get(&broker).copied();
        let stays = |b: &BrokerId| presence(*b).is_some_and(|p| !p.is_leaving);
        let could = partition.isr.iter().chain(&partition.elr).any(stays);
        let mut after = partition.clone();
        if let Some(decision) = Situation::new(&partition, 3, presence).decide(RULES) {
            apply(&mut after, &decision, 300);
        }
        prop_assert!(!could || after.leader.is_some_and(|leader| presence(leader).is_some()));
    }

    #[test]
    fn the_preferred_leader_leads_again_without_loss(
        partition in partitions(), brokers in brokers(),
    ) {
        let presence = |broker| brokers.get(&broker).copied();
        let Some(decision) = Situation::new(&partition, 3, presence).prefer() else {
            return Ok(());
        };
        prop_assert_eq!(decision.state.leader, partition.replicas.first().copied());
        prop_assert_eq!(&decision.state.isr, &partition.isr);
        prop_assert_eq!(decision.state.leader_epoch, partition.leader_epoch + 1);
    }
}
