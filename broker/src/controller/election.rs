//! Who leads a partition. Pure: everything known comes in, a decision goes out.

use ottla_common::types::BrokerId;

/// What is known of a partition when its leader may have to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidates<'a> {
    /// All replicas, preferred leader first.
    pub replicas: &'a [BrokerId],
    /// The in-sync replicas of the record.
    pub isr: &'a [BrokerId],
    /// Replicas out of the ISR that still have all that was committed (KIP-966).
    pub elr: &'a [BrokerId],
    /// Whether a replica that may lack committed records may lead if no other lives.
    pub unclean_allowed: bool,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Elected {
    /// This replica has all that was committed.
    Clean {
        /// The new leader.
        leader: BrokerId,
        /// The new in-sync replicas.
        isr: Vec<BrokerId>,
    },
    /// This replica may lack committed records, and the topic's owner has allowed it.
    Unclean {
        /// The new leader and only in-sync replica.
        leader: BrokerId,
    },
    /// Nobody may lead now; the last in-sync replicas stay on record, so that one of them can.
    Nobody,
}

/// Elects the leader of a partition whose present leader is gone. `is_live` tells who can lead.
///
/// The first live in-sync replica in the order of the replicas leads, and the ISR keeps those that
/// live; if none lives, an eligible leader replica; if none and it is allowed, any live replica.
pub fn elect(partition: &Candidates<'_>, is_live: impl Fn(BrokerId) -> bool) -> Elected {
    let first_live = |among: &[BrokerId]| {
        partition.replicas.iter().copied().find(|b| among.contains(b) && is_live(*b))
    };
    if let Some(leader) = first_live(partition.isr) {
        let isr = partition.isr.iter().copied().filter(|b| is_live(*b)).collect();
        return Elected::Clean { leader, isr };
    }
    if let Some(leader) = first_live(partition.elr) {
        return Elected::Clean { leader, isr: vec![leader] };
    }
    match first_live(partition.replicas) {
        Some(leader) if partition.unclean_allowed => Elected::Unclean { leader },
        _ => Elected::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[i32]) -> Vec<BrokerId> {
        numbers.iter().copied().map(BrokerId).collect()
    }

    fn elected(isr: &[i32], elr: &[i32], live: &[i32], unclean_allowed: bool) -> Elected {
        let (replicas, isr, elr) = (ids(&[1, 2, 3]), ids(isr), ids(elr));
        let candidates = Candidates { replicas: &replicas, isr: &isr, elr: &elr, unclean_allowed };
        elect(&candidates, |b| live.contains(&b.0))
    }

    #[test]
    fn the_preferred_of_the_live_in_sync_replicas_leads() {
        let expected = Elected::Clean { leader: BrokerId(2), isr: ids(&[3, 2]) };
        assert_eq!(elected(&[3, 2, 1], &[], &[2, 3], false), expected);
    }

    #[test]
    fn a_replica_out_of_the_isr_never_leads_unless_allowed() {
        assert_eq!(elected(&[1], &[], &[2, 3], false), Elected::Nobody);
        assert_eq!(elected(&[1], &[], &[2, 3], true), Elected::Unclean { leader: BrokerId(2) });
    }

    #[test]
    fn an_eligible_replica_leads_before_an_unclean_one() {
        let expected = Elected::Clean { leader: BrokerId(3), isr: ids(&[3]) };
        assert_eq!(elected(&[1], &[3], &[2, 3], true), expected);
    }

    #[test]
    fn with_nobody_alive_nobody_leads() {
        assert_eq!(elected(&[1, 2, 3], &[], &[], true), Elected::Nobody);
    }
}
