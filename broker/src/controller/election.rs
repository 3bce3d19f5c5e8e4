//! Who leads a partition, and who stays in its ISR when brokers come and go. Pure: everything known
//! comes in, a decision goes out.
//!
//! The rules:
//! 1. A broker that has gone, that is shutting down, or that registered after the state was written
//!    (it has been away, perhaps so shortly that nobody saw it go) leaves the ISR at once; it
//!    comes back through its leader when it has caught up. The last member never leaves. Members
//!    that leave while too few stay are eligible from then on (see [`eligible_after`]).
//! 2. While the leader stays, so does its epoch, whatever becomes of the ISR.
//! 3. A leader that has gone or has been away is followed by the first live member of the ISR, in
//!    the order of the replicas; if there is none, by the first eligible one; if there is none and
//!    it is allowed, by any replica that lives (*unclean*: records may be lost). Else nobody leads,
//!    and the record keeps who was in sync, so that one of them can.
//! 4. A leader that is shutting down hands over to a member of the ISR; if there is none, it leads
//!    until it goes.

use ottla_common::cluster_tree::PartitionState;
use ottla_common::types::BrokerId;

use crate::metadata::eligible::eligible_after;
use crate::metadata::image::{BrokerImage, PartitionImage};

/// What a topic's configs say about elections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `min.insync.replicas`.
    pub min_insync_replicas: usize,
    /// `unclean.leader.election.enable`.
    pub unclean_allowed: bool,
}

/// How a broker stands, if it is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// When it registered.
    pub broker_epoch: i64,
    /// Whether it is about to leave.
    pub is_leaving: bool,
}

impl Presence {
    /// How the broker of an image stands.
    pub fn of(broker: &BrokerImage) -> Self {
        Self { broker_epoch: broker.broker_epoch, is_leaving: broker.shutting_down }
    }
}

/// What kind of a change a decision is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The ISR or the eligible replicas alone.
    Isr,
    /// A member of the ISR leads.
    Clean,
    /// A replica out of the ISR that has all that was committed leads.
    Eligible,
    /// A replica leads that may lack what was committed.
    Unclean,
    /// Nobody leads any more.
    Nobody,
    /// The preferred leader leads again.
    Preferred,
}

/// What a partition's state is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The new state.
    pub state: PartitionState,
    /// What kind of a change it is.
    pub kind: Kind,
}

/// One partition and the brokers, as they are known.
pub struct Situation<'a, P> {
    partition: &'a PartitionImage,
    presence: P,
    controller_epoch: i32,
}

impl<'a, P: Fn(BrokerId) -> Option<Presence>> Situation<'a, P> {
    /// The situation of `partition`. `controller_epoch` is what the new state will name.
    pub fn new(partition: &'a PartitionImage, controller_epoch: i32, presence: P) -> Self {
        Self { partition, presence, controller_epoch }
    }

    /// Whether nothing is to be done, whatever the rules of the topic are.
    pub fn is_settled(&self) -> bool {
        let PartitionImage { leader, isr, elr, .. } = self.partition;
        let member = |broker: &BrokerId| self.is_steady(*broker) && self.is_replica(*broker);
        elr.is_empty() && leader.is_some_and(|l| isr.contains(&l)) && isr.iter().all(member)
    }

    /// What the state is to become, if it has to change at all.
    pub fn decide(&self, rules: Rules) -> Option<Decision> {
        match self.partition.leader.filter(|leader| self.serves(*leader)) {
            Some(leader) => self.keep_or_hand_over(leader, rules),
            None => self.elect(rules),
        }
    }

    /// The state with the preferred leader back in office, if it can be and is not.
    pub fn prefer(&self) -> Option<Decision> {
        let preferred = *self.partition.replicas.first()?;
        let can_lead = self.is_staying(preferred) && self.partition.isr.contains(&preferred);
        if !can_lead || self.partition.leader == Some(preferred) {
            return None;
        }
        let isr = self.partition.isr.clone();
        Some(self.decision(Kind::Preferred, Some(preferred), (isr, self.partition.elr.clone())))
    }

    fn keep_or_hand_over(&self, leader: BrokerId, rules: Rules) -> Option<Decision> {
        let isr = &self.partition.isr;
        let steady = self.members(|b| self.is_steady(b));
        if !self.is_staying(leader)
            && let Some(next) = self.first_replica(|b| steady.contains(&b))
        {
            let elr = self.eligible(&steady, rules);
            return Some(self.decision(Kind::Clean, Some(next), (steady, elr)));
        }
        let kept = self.members(|b| b == leader || self.is_steady(b));
        let elr = self.eligible(&kept, rules);
        if kept == *isr && is_same_set(&elr, &self.partition.elr) {
            return None;
        }
        Some(self.decision(Kind::Isr, Some(leader), (kept, elr)))
    }

    fn elect(&self, rules: Rules) -> Option<Decision> {
        let mut members = self.members(|b| self.is_steady(b));
        if members.is_empty() {
            members = self.members(|b| self.is_staying(b));
        }
        if let Some(leader) = self.first_replica(|b| members.contains(&b)) {
            let elr = self.eligible(&members, rules);
            return Some(self.decision(Kind::Clean, Some(leader), (members, elr)));
        }
        let elr = &self.partition.elr;
        if let Some(leader) = self.first_replica(|b| elr.contains(&b) && self.is_staying(b)) {
            let elr = self.eligible(&[leader], rules);
            return Some(self.decision(Kind::Eligible, Some(leader), (vec![leader], elr)));
        }
        if rules.unclean_allowed
            && let Some(leader) = self.first_replica(|b| self.is_staying(b))
        {
            return Some(self.decision(Kind::Unclean, Some(leader), (vec![leader], Vec::new())));
        }
        self.partition.leader?;
        Some(self.decision(Kind::Nobody, None, (self.partition.isr.clone(), elr.clone())))
    }

    fn decision(
        &self,
        kind: Kind,
        leader: Option<BrokerId>,
        (isr, elr): (Vec<BrokerId>, Vec<BrokerId>),
    ) -> Decision {
        let rise = i32::from(kind != Kind::Isr);
        let state = PartitionState {
            leader,
            leader_epoch: self.partition.leader_epoch + rise,
            isr,
            controller_epoch: self.controller_epoch,
            elr,
        };
        Decision { state, kind }
    }

    fn eligible(&self, isr: &[BrokerId], rules: Rules) -> Vec<BrokerId> {
        let PartitionImage { replicas, isr: old_isr, elr, .. } = self.partition;
        eligible_after((old_isr, elr), isr, rules.min_insync_replicas, replicas)
    }

    /// The members of the ISR that `stays` holds for, in their order.
    fn members(&self, stays: impl Fn(BrokerId) -> bool) -> Vec<BrokerId> {
        let isr = self.partition.isr.iter().copied();
        isr.filter(|broker| self.is_replica(*broker) && stays(*broker)).collect()
    }

    fn first_replica(&self, may: impl Fn(BrokerId) -> bool) -> Option<BrokerId> {
        self.partition.replicas.iter().copied().find(|broker| may(*broker))
    }

    fn is_replica(&self, broker: BrokerId) -> bool {
        self.partition.replicas.contains(&broker)
    }

    /// Whether it lives and does not leave.
    fn is_staying(&self, broker: BrokerId) -> bool {
        (self.presence)(broker).is_some_and(|presence| !presence.is_leaving)
    }

    /// Likewise, and it has been there since the state was written.
    fn is_steady(&self, broker: BrokerId) -> bool {
        self.is_staying(broker) && self.has_been_there(broker)
    }

    fn has_been_there(&self, broker: BrokerId) -> bool {
        let written_at = self.partition.state_mzxid.0;
        (self.presence)(broker).is_some_and(|presence| presence.broker_epoch <= written_at)
    }

    /// Whether it does lead, though it may be about to leave.
    fn serves(&self, leader: BrokerId) -> bool {
        let is_member = self.is_replica(leader) && self.partition.isr.contains(&leader);
        is_member && self.has_been_there(leader)
    }
}

fn is_same_set(a: &[BrokerId], b: &[BrokerId]) -> bool {
    a.len() == b.len() && a.iter().all(|broker| b.contains(broker))
}

#[cfg(test)]
mod tests;
