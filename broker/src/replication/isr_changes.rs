//! Writes the changes of the ISRs that are led here to the tree.
//!
//! A change is a compare-and-set of the partition's state, in one multi with checks that this
//! broker, and each broker that joins, is still in the life in which it was seen (KIP-903). Many
//! partitions share a multi; if that is refused, each is written by itself, so that one that lost a
//! race does not hold up the others. An answer that never came is not a failure: what stands in the
//! tree is read back before anything else is done with that partition (KAFKA-2729).
//!
//! When a log directory fails, this broker leaves the ISRs of what is in it, and its leaderships,
//! so that others lead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ottla_common::clock::monotonic_ms;
use ottla_common::cluster_tree::{BrokerRegistration, PartitionState};
use ottla_common::coordination::client::{Client, ClientError};
use ottla_common::coordination::protocol::Op;
use ottla_common::shutdown::Shutdown;
use ottla_common::types::{BrokerId, TopicPartition};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::leadership::{Outcome, Proposal};
use super::partition::Partition;
use super::partition::leading::IsrRound;
use super::replica_manager::ReplicaManager;
use super::resignation::{LastMember, Resignation};
use crate::limits::ISR_CHANGES_PER_MULTI_MAX;
use crate::metadata::watcher::ImageHandle;
use crate::metrics::Metrics;

/// Looks for replicas that lag, per `replica.lag.time.max.ms`.
const ROUNDS_PER_LAG_TIME: u32 = 6;

/// The times between two looks at all partitions.
const ROUND_MIN: Duration = Duration::from_millis(50);
const ROUND_MAX: Duration = Duration::from_secs(5);

/// How long to wait before the coordinator is asked again what stands in the tree.
const READ_BACK_PAUSE: Duration = Duration::from_millis(100);

/// Partitions with a replica that has caught up, to be looked at soon.
#[derive(Default)]
pub struct Candidates {
    partitions: Mutex<BTreeMap<TopicPartition, Arc<Partition>>>,
    added: Notify,
}

impl Candidates {
    /// A replica of this partition should join its ISR.
    pub fn add(&self, partition: &Arc<Partition>) {
        let name = partition.topic_partition().clone();
        self.partitions.lock().insert(name, Arc::clone(partition));
        self.added.notify_one();
    }

    fn take(&self) -> Vec<Arc<Partition>> {
        std::mem::take(&mut *self.partitions.lock()).into_values().collect()
    }
}

/// Partitions whose disk has failed, to be left soon.
#[derive(Default)]
pub struct Failed {
    partitions: Mutex<BTreeSet<TopicPartition>>,
    added: Notify,
}

impl Failed {
    /// The disk of these has failed.
    pub fn add(&self, partitions: &[TopicPartition]) {
        self.partitions.lock().extend(partitions.iter().cloned());
        self.added.notify_one();
    }

    fn take(&self) -> BTreeSet<TopicPartition> {
        std::mem::take(&mut *self.partitions.lock())
    }
}

/// Keeps the ISRs of the partitions that are led here.
pub struct IsrKeeper {
    /// The session to write with.
    pub client: Client,
    /// This broker.
    pub broker_id: BrokerId,
    /// In which life it is.
    pub broker_epoch: watch::Receiver<Option<i64>>,
    /// What the tree says of the others.
    pub image: ImageHandle,
    /// The partitions.
    pub replicas: Arc<ReplicaManager>,
    /// `replica.lag.time.max.ms`.
    pub lag_time_max_ms: u64,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

type Change = (Arc<Partition>, Proposal);

impl IsrKeeper {
    /// Runs until the signal is given.
    pub async fn run(self, shutdown: Shutdown) {
        let lag_time = Duration::from_millis(self.lag_time_max_ms);
        let interval = (lag_time / ROUNDS_PER_LAG_TIME).clamp(ROUND_MIN, ROUND_MAX);
        let mut rounds = tokio::time::interval(interval);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let partitions = tokio::select! {
                () = shutdown.stopped() => return,
                () = self.replicas.failed().added.notified() => {
                    tokio::select! {
                        () = shutdown.stopped() => return,
                        () = self.leave_failed() => continue,
                    }
                }
                _ = rounds.tick() => self.replicas.all(),
                () = self.replicas.candidates().added.notified() => {
                    self.replicas.candidates().take()
                }
            };
            let changes = self.due(partitions);
            for batch in changes.chunks(ISR_CHANGES_PER_MULTI_MAX) {
                tokio::select! {
                    () = shutdown.stopped() => return,
                    () = self.write(batch) => {}
                }
            }
        }
    }

    /// Leaves the ISRs of what was in a directory that failed. The last member stays on record: the
    /// records may be there again after a restart.
    async fn leave_failed(&self) {
        let resignation = Resignation { client: self.client.clone(), broker_id: self.broker_id };
        let failed = self.replicas.failed().take();
        while let Err(error) = resignation.leave(failed.iter().cloned(), LastMember::Stays).await {
            warn!(%error, "cannot leave the ISRs of a failed log directory yet");
            tokio::time::sleep(READ_BACK_PAUSE).await;
        }
    }

    /// The changes that are due; they count as under way.
    fn due(&self, partitions: Vec<Arc<Partition>>) -> Vec<Change> {
        let image = self.image.load();
        let is_welcome = |id: BrokerId, broker_epoch: i64| {
            let broker = image.brokers.get(&id).filter(|broker| !broker.shutting_down);
            broker.is_some_and(|broker| broker.broker_epoch == broker_epoch)
        };
        let round = IsrRound {
            now_ms: monotonic_ms(),
            lag_time_max_ms: self.lag_time_max_ms,
            is_welcome: &is_welcome,
        };
        let propose = |partition: Arc<Partition>| {
            let proposal = partition.propose_isr(&round)?;
            Some((partition, proposal))
        };
        partitions.into_iter().filter_map(propose).collect()
    }

    async fn write(&self, changes: &[Change]) {
        match self.write_together(changes).await {
            Ok(()) => changes.iter().for_each(|change| self.resolve(change, Outcome::Written)),
            Err(error) if error.refusal().is_some() && changes.len() > 1 => {
                for change in changes {
                    self.write_alone(change).await;
                }
            }
            Err(error) => {
                for change in changes {
                    self.conclude(change, &error).await;
                }
            }
        }
    }

    async fn write_alone(&self, change: &Change) {
        match self.write_together(std::slice::from_ref(change)).await {
            Ok(()) => self.resolve(change, Outcome::Written),
            Err(error) => self.conclude(change, &error).await,
        }
    }

    /// One multi: the checks, and then the states.
    async fn write_together(&self, changes: &[Change]) -> Result<(), ClientError> {
        let Some(own_epoch) = *self.broker_epoch.borrow() else {
            return Err(ClientError::Closed);
        };
        let joining = changes.iter().flat_map(|(_, proposal)| proposal.joining.iter().copied());
        let mut lives: BTreeSet<(BrokerId, i64)> = joining.collect();
        lives.insert((self.broker_id, own_epoch));
        let checks = lives.into_iter().map(|(id, broker_epoch)| Op::Check {
            path: BrokerRegistration::path(id),
            version: None,
            czxid: Some(ottla_common::types::Zxid(broker_epoch)),
        });
        let writes = changes.iter().map(|(partition, proposal)| Op::SetData {
            path: path_of(partition),
            data: proposal.state.encode(),
            version: Some(proposal.version),
        });
        self.client.multi(checks.chain(writes).collect()).await.map(drop)
    }

    /// What came of a change that was written by itself, or of which nothing was heard.
    async fn conclude(&self, change: &Change, error: &ClientError) {
        let (partition, _) = change;
        let name = partition.topic_partition();
        match error {
            ClientError::Unknown | ClientError::WrongAnswer => {
                warn!(partition = %name, %error, "whether the ISR changed is not known yet");
                let outcome = self.read_back(change).await;
                self.resolve(change, outcome);
            }
            error if error.is_lost_race_behind(guards_of(change)) => {
                self.resolve(change, Outcome::Overtaken);
            }
            error => {
                info!(partition = %name, %error, "the ISR was not changed");
                self.resolve(change, Outcome::Refused);
            }
        }
    }

    /// Looks in the tree whether a change was made. What is read comes after everything that this
    /// session wrote before, and a write of an earlier connection is not done any more.
    async fn read_back(&self, (partition, proposal): &Change) -> Outcome {
        loop {
            match self.client.get(&path_of(partition)).await {
                Ok(Some((_, stat))) if stat.version == proposal.version => return Outcome::Refused,
                Ok(Some((data, stat))) => {
                    let is_own = stat.version == proposal.version + 1
                        && PartitionState::decode(&data).is_ok_and(|held| held == proposal.state);
                    return if is_own { Outcome::Written } else { Outcome::Overtaken };
                }
                Ok(None) => return Outcome::Overtaken,
                Err(ClientError::Closed) => return Outcome::Overtaken,
                Err(_) => tokio::time::sleep(READ_BACK_PAUSE).await,
            }
        }
    }

    fn resolve(&self, (partition, proposal): &Change, outcome: Outcome) {
        if outcome == Outcome::Written {
            self.metrics.isr_expands.add(proposal.joining.len() as u64);
            self.metrics.isr_shrinks.add(proposal.leaving.len() as u64);
            let numbers = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
            let joining = proposal.joining.iter().map(|(id, _)| id.0).collect::<Vec<_>>();
            info!(
                partition = %partition.topic_partition(), isr = ?numbers(&proposal.state.isr),
                ?joining, leaving = ?numbers(&proposal.leaving), "ISR changed"
            );
        }
        partition.resolve_isr(proposal, outcome);
    }
}

/// How many checks stand before the one write of a change.
fn guards_of((_, proposal): &Change) -> usize {
    proposal.joining.len() + 1
}

fn path_of(partition: &Partition) -> String {
    let name = partition.topic_partition();
    PartitionState::path(&name.topic, name.partition)
}
