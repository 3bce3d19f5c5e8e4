//! Takes this broker out of ISRs, and gives up leaderships, because its replicas do not have what
//! was committed any more: a log directory was lost, or has failed.
//!
//! A place in an ISR is a promise to have everything that is committed. A broker that starts with
//! an empty disk is still on record with its earlier life's promises; if it were let register with
//! them, it might be elected and everybody would cut their logs to its empty ones. So it takes them
//! back first. It knows that something was lost by `/brokers/directories/<id>`, where the ids of
//! the directories of its last start stand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{TryStreamExt, stream};
use ottla_common::cluster_tree::{
    BrokerDirectories, BrokerRegistration, ControllerRegistration, PartitionState,
};
use ottla_common::coordination::client::{Client, ClientError};
use ottla_common::coordination::protocol::{CoordinationError, CreateMode, Op};
use ottla_common::types::{BrokerId, TopicId, TopicPartition, Uuid, Zxid};
use tracing::warn;

use crate::metadata::image::MetadataImage;
use crate::storage::log_manager::LogManager;

/// States that are written at the same time.
const WRITES_UNDER_WAY_MAX: usize = 64;

/// The pause between two looks at the registration of an earlier process.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// The logs that were there when the directories were opened, before any new one was made.
pub struct KeptLogs {
    directories: BTreeSet<Uuid>,
    logs: BTreeMap<TopicPartition, Option<TopicId>>,
}

impl KeptLogs {
    /// The logs of a manager that was just opened.
    pub fn of(logs: &LogManager) -> Self {
        let online = logs.dirs().iter().filter(|dir| dir.offline_reason().is_none());
        let directories = online.map(|dir| dir.id()).collect();
        let found = logs.logs();
        let named = found.iter().map(|log| (log.topic_partition().clone(), log.topic_id()));
        Self { directories, logs: named.collect() }
    }

    fn has(&self, name: &TopicPartition, topic_id: TopicId) -> bool {
        self.logs.get(name).is_some_and(|held| held.is_none_or(|held| held == topic_id))
    }
}

/// What becomes of an ISR whose last member leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastMember {
    /// It stays on record: its records are there, though nobody can read them now.
    Stays,
    /// It leaves: nobody has the records. Only an unclean election gives the partition a leader.
    Leaves,
}

/// A broker that takes promises back.
pub struct Resignation {
    /// The session to write with.
    pub client: Client,
    /// The broker.
    pub broker_id: BrokerId,
}

impl Resignation {
    /// At a start, before this broker registers: leaves the ISRs of partitions that were in a
    /// directory that is gone, and writes down which directories there are now.
    ///
    /// # Errors
    /// If the coordinator could not be written to.
    pub async fn leave_lost(
        &self,
        kept: &KeptLogs,
        image: &MetadataImage,
    ) -> Result<(), ClientError> {
        let path = BrokerDirectories::path(self.broker_id);
        let found = self.client.get(&path).await?;
        let known = found.as_ref().and_then(|(data, _)| BrokerDirectories::decode(data).ok());
        let before = known.map(|known| known.directories).unwrap_or_default();
        if before == kept.directories {
            return self.end_earlier_life().await;
        }
        if !before.is_subset(&kept.directories) {
            let lost = self.lost(kept, image);
            let count = lost.len();
            warn!(count, "a log directory of before is gone: leaving the ISRs of what was in it");
            self.earlier_life_is_over().await?;
            self.leave(lost, LastMember::Leaves).await?;
        }
        let value = BrokerDirectories::new(kept.directories.clone()).encode();
        match found {
            Some(_) => self.client.set(&path, value, None).await.map(drop),
            None => self.client.create(&path, value, CreateMode::Persistent).await.map(drop),
        }
    }

    /// Takes away the registration of an earlier process, whose session may live on for a while.
    /// That process is certainly dead: this one holds the locks of its directories.
    async fn end_earlier_life(&self) -> Result<(), ClientError> {
        let path = BrokerRegistration::path(self.broker_id);
        let Some(stat) = self.client.exists(&path).await? else { return Ok(()) };
        let mut ops = removal(path, stat.czxid).to_vec();
        // It may have been the controller too, and nobody else can be before that node has gone.
        let office = ControllerRegistration::PATH;
        let held = self.client.exists(office).await?;
        if let Some(held) = held.filter(|held| held.ephemeral_owner == stat.ephemeral_owner) {
            ops.extend(removal(office.to_owned(), held.czxid));
        }
        match self.client.multi(ops).await {
            Ok(_) => Ok(()),
            // It has gone meanwhile; if that is not known, the registration waits for it.
            Err(ClientError::Unknown) => Ok(()),
            Err(error) if error.refusal().is_some() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits until the registration of an earlier process has gone with its session. While it
    /// stands, a leader that remembers what that process had would take this broker into the ISR
    /// again.
    async fn earlier_life_is_over(&self) -> Result<(), ClientError> {
        let path = BrokerRegistration::path(self.broker_id);
        while self.client.exists(&path).await?.is_some() {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Ok(())
    }

    /// The partitions in whose ISR this broker is, or is eligible, without having a log of them.
    fn lost(&self, kept: &KeptLogs, image: &MetadataImage) -> Vec<TopicPartition> {
        let mut lost = Vec::new();
        for topic in image.topics.values() {
            for (number, partition) in (0_i32..).zip(&topic.partitions) {
                let promises = partition.isr.iter().chain(&partition.elr);
                let name = TopicPartition::new(topic.name.clone(), number);
                if promises.into_iter().any(|id| *id == self.broker_id)
                    && !kept.has(&name, topic.id)
                {
                    lost.push(name);
                }
            }
        }
        lost
    }

    /// Leaves the ISRs of these partitions, and their leaderships.
    ///
    /// # Errors
    /// If the coordinator could not be written to.
    pub async fn leave(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
        last: LastMember,
    ) -> Result<(), ClientError> {
        let leaving = partitions.into_iter().map(|name| Ok(self.leave_one(name, last)));
        let leaving = stream::iter(leaving).try_buffer_unordered(WRITES_UNDER_WAY_MAX);
        leaving.try_for_each(async |()| Ok(())).await
    }

    async fn leave_one(&self, name: TopicPartition, last: LastMember) -> Result<(), ClientError> {
        let path = PartitionState::path(&name.topic, name.partition);
        loop {
            let Some((data, stat)) = self.client.get(&path).await? else { return Ok(()) };
            let Ok(state) = PartitionState::decode(&data) else { return Ok(()) };
            let Some(mut left) = state_without(&state, self.broker_id, last) else {
                return Ok(());
            };
            let mut ops = Vec::new();
            if let Some(leader) = left.leader {
                match self.life_check(leader, stat.mzxid).await? {
                    Some(check) => ops.push(check),
                    // It has been away since it was elected: a new election has to tell.
                    None => (left.leader, left.leader_epoch) = (None, left.leader_epoch + 1),
                }
            }
            let (data, version) = (left.encode(), Some(stat.version));
            ops.push(Op::SetData { path: path.clone(), data, version });
            match self.client.multi(ops).await {
                Ok(_) => {
                    warn!(partition = %name, "left the ISR");
                    return Ok(());
                }
                // Somebody else wrote, or nobody knows: looked at again.
                Err(ClientError::Unknown) => {}
                Err(error) => match error.refusal_in_multi() {
                    Some(
                        CoordinationError::BadVersion { .. } | CoordinationError::NoNode { .. },
                    ) => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// A check that a leader is still in the life in which it was elected, at `elected_at` or
    /// before; `None` if it is not.
    async fn life_check(
        &self,
        leader: BrokerId,
        elected_at: Zxid,
    ) -> Result<Option<Op>, ClientError> {
        let path = BrokerRegistration::path(leader);
        let found = self.client.exists(&path).await?;
        let czxid = found.map(|stat| stat.czxid).filter(|czxid| *czxid <= elected_at);
        Ok(czxid.map(|czxid| Op::Check { path, version: None, czxid: Some(czxid) }))
    }
}

/// Removes a node, if it is the one that was seen.
fn removal(path: String, czxid: Zxid) -> [Op; 2] {
    let check = Op::Check { path: path.clone(), version: None, czxid: Some(czxid) };
    [check, Op::Delete { path, version: None }]
}

/// The state of a partition that a broker has left; `None` if there is nothing to change.
fn state_without(
    state: &PartitionState,
    broker_id: BrokerId,
    last: LastMember,
) -> Option<PartitionState> {
    let without = |ids: &[BrokerId]| -> Vec<BrokerId> {
        ids.iter().copied().filter(|id| *id != broker_id).collect()
    };
    let (isr, elr) = (without(&state.isr), without(&state.elr));
    if last == LastMember::Stays && isr.is_empty() && state.isr.contains(&broker_id) {
        return None;
    }
    let leads = state.leader == Some(broker_id);
    let left = PartitionState {
        leader: state.leader.filter(|_| !leads),
        leader_epoch: state.leader_epoch + i32::from(leads),
        isr,
        elr,
        ..state.clone()
    };
    (left != *state).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(leader: Option<i32>, isr: &[i32], elr: &[i32]) -> PartitionState {
        let ids = |numbers: &[i32]| numbers.iter().copied().map(BrokerId).collect();
        PartitionState {
            leader: leader.map(BrokerId),
            leader_epoch: 4,
            isr: ids(isr),
            elr: ids(elr),
            ..PartitionState::default()
        }
    }

    fn without_one(state: &PartitionState, last: LastMember) -> Option<PartitionState> {
        state_without(state, BrokerId(1), last)
    }

    #[test]
    fn a_leader_leaves_with_its_leadership() {
        let left = without_one(&state(Some(1), &[1, 2], &[]), LastMember::Stays).unwrap();
        assert_eq!(left, PartitionState { leader_epoch: 5, ..state(None, &[2], &[]) });
    }

    #[test]
    fn a_follower_leaves_the_isr_and_the_eligible_ones_and_the_leader_goes_on() {
        let left = without_one(&state(Some(2), &[2, 1], &[]), LastMember::Leaves);
        assert_eq!(left, Some(state(Some(2), &[2], &[])));
        let left = without_one(&state(Some(2), &[2], &[1, 3]), LastMember::Leaves);
        assert_eq!(left, Some(state(Some(2), &[2], &[3])));
        assert_eq!(without_one(&state(Some(2), &[2], &[3]), LastMember::Leaves), None);
    }

    #[test]
    fn the_last_member_leaves_only_if_the_records_are_gone() {
        let alone = state(Some(1), &[1], &[]);
        assert_eq!(without_one(&alone, LastMember::Stays), None);
        let left = without_one(&alone, LastMember::Leaves).unwrap();
        assert_eq!(left, PartitionState { leader_epoch: 5, ..state(None, &[], &[]) });
    }
}
