//! What a leader knows of its followers, what of its log is committed, and when a replica leaves or
//! joins the ISR. Pure.
//!
//! The rules, each with the invariant that it keeps:
//!
//! - **The record in the tree decides.** Every change of the ISR is a compare-and-set of the
//!   record's version. Until the outcome is known, the high watermark counts the members of both,
//!   the record and the change (the *maximal* ISR), so that it is right whichever is in force. It
//!   stands still while the record is known to be another one than this leader has seen.
//! - **Strict `min.insync.replicas`** (KIP-966). The high watermark stands still while either of
//!   the two has fewer members.
//! - **Ends count in one leader epoch only.** A leadership begins without knowing any follower's
//!   end, and a fetch that believes in another epoch, or whose log parts from this one, never gets
//!   here (KIP-320).
//! - **A replica joins** only when its end is at or past the high watermark *and* the start of the
//!   leader's epoch, and together with the check that its broker still has the epoch with which it
//!   fetched (KIP-903).
//! - **Who is eligible has everything** (KIP-966). While the record names eligible replicas out of
//!   the ISR, the high watermark stands still, however many are in sync: the record is changed
//!   first.
//! - **A replica leaves** when it has not been at the leader's end for `replica.lag.time.max.ms`.
//!
//! A follower's *end* is what of its log counts: what is on disk there, or with page-cache
//! durability what is written. See [`Ends`].

use std::collections::BTreeMap;

use ottla_common::cluster_tree::PartitionState;
use ottla_common::types::BrokerId;

use super::high_watermark::{HighWatermark, ReplicaEnds};
use super::settings::{Durability, PartitionSettings};
use crate::metadata::eligible::eligible_after;
use crate::metadata::image::PartitionImage;

/// How far a replica's log reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The offset of its next record.
    pub log_end_offset: i64,
    /// Everything before is on disk.
    pub flushed_offset: i64,
}

impl Ends {
    /// Of a follower that has not been heard of.
    const UNKNOWN: Self = Self { log_end_offset: -1, flushed_offset: -1 };

    /// The end that counts.
    pub fn of(&self, durability: Durability) -> i64 {
        match durability {
            Durability::Disk => self.flushed_offset.min(self.log_end_offset),
            Durability::PageCache => self.log_end_offset,
        }
    }
}

/// What a follower's fetch tells.
#[derive(Clone, Copy, Debug)]
pub struct FollowerFetch {
    /// Who fetches.
    pub broker_id: BrokerId,
    /// In which of its lives.
    pub broker_epoch: i64,
    /// How far its log reaches.
    pub ends: Ends,
    /// When, by the monotonic clock.
    pub now_ms: u64,
}

/// Why a fetch does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchRefused {
    /// It is not a replica of the partition.
    NotAReplica,
    /// A later life of that broker has fetched.
    StaleBrokerEpoch,
}

#[derive(Clone, Copy, Debug)]
struct Follower {
    broker_epoch: i64,
    ends: Ends,
    /// Since when it has not been at the leader's end; `None` while it is.
    behind_since_ms: Option<u64>,
    /// When it fetched last, and where the leader's log ended then.
    last_fetch: Option<(u64, i64)>,
    /// It was to leave the ISR, and has not fetched since: what it said before does not bring it
    /// back.
    has_left: bool,
}

impl Follower {
    const UNHEARD: Self = Self {
        broker_epoch: -1,
        ends: Ends::UNKNOWN,
        behind_since_ms: None,
        last_fetch: None,
        has_left: false,
    };
}

/// The ISR record as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    isr: Vec<BrokerId>,
    elr: Vec<BrokerId>,
    controller_epoch: i32,
    version: i32,
}

impl Record {
    fn of(state: &PartitionImage) -> Self {
        Self {
            isr: state.isr.clone(),
            elr: state.elr.clone(),
            controller_epoch: state.controller_epoch,
            version: state.state_version,
        }
    }
}

/// A change of the record that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// What the record becomes.
    pub state: PartitionState,
    /// The version that the record must still have.
    pub version: i32,
    /// Who joins, each in which of its lives.
    pub joining: Vec<(BrokerId, i64)>,
    /// Who leaves.
    pub leaving: Vec<BrokerId>,
}

/// What came of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is the record now.
    Written,
    /// Somebody else has written the record: the image will show it.
    Overtaken,
    /// It was not written, but can be proposed again: who was to join is not there any more.
    Refused,
}

#[derive(Clone, Debug)]
enum Change {
    None,
    UnderWay(Proposal),
    /// The record has another version than this leader knows.
    Overtaken,
}

/// One leadership of one partition.
#[derive(Debug)]
pub struct Leadership {
    broker_id: BrokerId,
    leader_epoch: i32,
    epoch_start_offset: i64,
    replicas: Vec<BrokerId>,
    record: Record,
    change: Change,
    followers: BTreeMap<BrokerId, Follower>,
    watermark: HighWatermark,
}

/// Where a leadership begins.
#[derive(Clone, Copy, Debug)]
pub struct Beginning {
    /// Who leads.
    pub broker_id: BrokerId,
    /// The offset of the first record of this epoch.
    pub epoch_start_offset: i64,
    /// What this replica knows to be committed.
    pub high_watermark: i64,
}

impl Leadership {
    /// The leadership that an image tells of.
    pub fn begin(beginning: Beginning, state: &PartitionImage) -> Self {
        Self {
            broker_id: beginning.broker_id,
            leader_epoch: state.leader_epoch,
            epoch_start_offset: beginning.epoch_start_offset,
            replicas: state.replicas.clone(),
            record: Record::of(state),
            change: Change::None,
            followers: BTreeMap::new(),
            watermark: HighWatermark::new(beginning.high_watermark),
        }
    }

    /// Its epoch.
    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// Where its epoch begins.
    pub fn epoch_start_offset(&self) -> i64 {
        self.epoch_start_offset
    }

    /// The first offset that is not committed.
    pub fn high_watermark(&self) -> i64 {
        self.watermark.offset()
    }

    /// The members of the ISR on record.
    pub fn isr(&self) -> &[BrokerId] {
        &self.record.isr
    }

    /// The followers in the ISR, each with where its log ends.
    pub fn in_sync_followers(&self) -> Vec<(BrokerId, i64)> {
        let known = self.record.isr.iter().filter_map(|id| Some((*id, self.followers.get(id)?)));
        known.map(|(id, follower)| (id, follower.ends.log_end_offset)).collect()
    }

    /// How many replicas are certainly in sync, whatever comes of a change under way.
    pub fn in_sync_count(&self) -> usize {
        match &self.change {
            Change::UnderWay(proposal) => self.record.isr.len().min(proposal.state.isr.len()),
            Change::None | Change::Overtaken => self.record.isr.len(),
        }
    }

    /// Takes over a later image of the same leadership; an earlier one than what this leader wrote
    /// itself changes nothing but the replicas.
    pub fn update(&mut self, state: &PartitionImage) {
        self.replicas.clone_from(&state.replicas);
        self.followers.retain(|broker, _| state.replicas.contains(broker));
        if state.state_version > self.record.version {
            let own = match &self.change {
                Change::UnderWay(proposal) => proposal.leaving.as_slice(),
                Change::None | Change::Overtaken => &[],
            };
            let stays = |id: &BrokerId| state.isr.contains(id) || own.contains(id);
            for id in self.record.isr.iter().filter(|id| !stays(id)) {
                self.followers.entry(*id).or_insert(Follower::UNHEARD).has_left = true;
            }
            self.record = Record::of(state);
            // A change under way either is what the image shows, or can not succeed any more.
            self.change = Change::None;
        }
    }

    /// Moves the high watermark up to a log start to which records were deleted.
    pub fn raise_to(&mut self, log_start_offset: i64) {
        self.watermark.at_least(log_start_offset);
    }

    /// Takes account of a follower's fetch.
    ///
    /// # Errors
    /// If it does not count.
    pub fn fetched(
        &mut self,
        fetch: FollowerFetch,
        leader_end_offset: i64,
        durability: Durability,
    ) -> Result<(), FetchRefused> {
        let FollowerFetch { broker_id, broker_epoch, ends, now_ms } = fetch;
        if broker_id == self.broker_id || !self.replicas.contains(&broker_id) {
            return Err(FetchRefused::NotAReplica);
        }
        let follower = self.followers.entry(broker_id).or_insert(Follower::UNHEARD);
        if broker_epoch < follower.broker_epoch {
            return Err(FetchRefused::StaleBrokerEpoch);
        }
        follower.broker_epoch = broker_epoch;
        follower.ends = ends;
        follower.has_left = false;
        let end = ends.of(durability);
        if end >= leader_end_offset {
            follower.behind_since_ms = None;
        } else if let Some((at_ms, end_then)) = follower.last_fetch
            && end >= end_then
        {
            // It has all that there was when it asked the last time.
            follower.behind_since_ms = Some(at_ms);
        } else {
            follower.behind_since_ms.get_or_insert(now_ms);
        }
        follower.last_fetch = Some((now_ms, leader_end_offset));
        Ok(())
    }

    /// Moves the high watermark to where the in-sync replicas' ends allow. Returns it if it moved.
    pub fn advance(&mut self, own: Ends, settings: PartitionSettings) -> Option<i64> {
        if !self.record.isr.contains(&self.broker_id) || !self.record.elr.is_empty() {
            return None;
        }
        let pending = match &self.change {
            Change::UnderWay(proposal) => proposal.state.isr.as_slice(),
            Change::None => &[],
            // Nobody knows here who is in sync. The change may have been written before it was
            // overtaken, and who joined by it may be the one that leads now.
            Change::Overtaken => return None,
        };
        let others = self.record.isr.iter().chain(pending).filter(|id| **id != self.broker_id);
        let end = |id: &BrokerId| {
            let known = self.followers.get(id).map_or(Ends::UNKNOWN, |follower| follower.ends);
            known.of(settings.durability)
        };
        let slowest_follower = others.map(end).min();
        let ends = ReplicaEnds {
            leader_end_offset: own.of(settings.durability),
            slowest_follower_end_offset: slowest_follower,
            in_sync_count: self.in_sync_count(),
            min_insync: settings.min_insync,
        };
        self.watermark.advance(ends)
    }

    /// Whether a replica that has just fetched should be in the ISR and is not.
    pub fn should_join(&self, broker_id: BrokerId, durability: Durability) -> bool {
        let Some(follower) = self.followers.get(&broker_id) else { return false };
        let end = follower.ends.of(durability);
        matches!(self.change, Change::None)
            && !self.record.isr.contains(&broker_id)
            && !follower.has_left
            && end >= self.high_watermark()
            && end >= self.epoch_start_offset
    }

    /// The change of the ISR that is due, if any and if none is under way: who lags leaves, who has
    /// caught up joins. It counts as under way from now on. `is_welcome` tells whether a broker, in
    /// that life of its, is there and stays.
    pub fn propose(
        &mut self,
        (now_ms, lag_time_max_ms): (u64, u64),
        (own, settings): (Ends, PartitionSettings),
        is_welcome: impl Fn(BrokerId, i64) -> bool,
    ) -> Option<Proposal> {
        if !matches!(self.change, Change::None) || !self.record.isr.contains(&self.broker_id) {
            return None;
        }
        let leaving = self.lagging((now_ms, lag_time_max_ms), own, settings.durability);
        let caught_up = |id: &BrokerId| self.should_join(*id, settings.durability);
        let known = self.replicas.iter().copied().filter(caught_up);
        let lives = known.filter_map(|id| Some((id, self.followers.get(&id)?.broker_epoch)));
        let joining: Vec<_> = lives.filter(|(id, epoch)| is_welcome(*id, *epoch)).collect();
        let stays = self.record.isr.iter().copied().filter(|id| !leaving.contains(id));
        let isr: Vec<BrokerId> = stays.chain(joining.iter().map(|(id, _)| *id)).collect();
        let elr = eligible_after(
            (&self.record.isr, &self.record.elr),
            &isr,
            settings.min_insync,
            &self.replicas,
        );
        if leaving.is_empty() && joining.is_empty() && elr == self.record.elr {
            return None;
        }
        let state = PartitionState {
            leader: Some(self.broker_id),
            leader_epoch: self.leader_epoch,
            isr,
            controller_epoch: self.record.controller_epoch,
            elr,
        };
        for (id, _) in &joining {
            // It may still be behind the end, as it was before; that is no lag of a member yet.
            if let Some(follower) = self.followers.get_mut(id) {
                follower.behind_since_ms = None;
            }
        }
        for id in &leaving {
            self.followers.entry(*id).or_insert(Follower::UNHEARD).has_left = true;
        }
        let proposal = Proposal { state, version: self.record.version, joining, leaving };
        self.change = Change::UnderWay(proposal.clone());
        Some(proposal)
    }

    /// In-sync followers that have not been at the leader's end for too long. A follower whose lag
    /// is first seen now is given the whole time.
    fn lagging(
        &mut self,
        (now_ms, lag_time_max_ms): (u64, u64),
        own: Ends,
        durability: Durability,
    ) -> Vec<BrokerId> {
        let mut lagging = Vec::new();
        for id in self.record.isr.iter().filter(|id| **id != self.broker_id) {
            let follower = self.followers.entry(*id).or_insert(Follower::UNHEARD);
            if follower.ends.of(durability) >= own.log_end_offset {
                continue;
            }
            let since_ms = *follower.behind_since_ms.get_or_insert(now_ms);
            if now_ms.saturating_sub(since_ms) > lag_time_max_ms {
                lagging.push(*id);
            }
        }
        lagging
    }

    /// Takes account of what came of a proposal.
    pub fn resolve(&mut self, proposal: &Proposal, outcome: Outcome) {
        let is_under_way = matches!(&self.change, Change::UnderWay(own) if own == proposal);
        if !is_under_way || self.record.version != proposal.version {
            return;
        }
        self.change = match outcome {
            Outcome::Written => {
                self.record.isr.clone_from(&proposal.state.isr);
                self.record.elr.clone_from(&proposal.state.elr);
                self.record.version += 1;
                Change::None
            }
            Outcome::Overtaken => Change::Overtaken,
            // Looked at again with the next round: whoever was to join may have a new life then.
            Outcome::Refused => Change::None,
        };
    }
}

#[cfg(test)]
mod tests;
