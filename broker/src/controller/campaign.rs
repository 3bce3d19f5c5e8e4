//! The campaign for `/controller`, and the elections of the one who has won it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ottla_common::clock::wall_time_ms;
use ottla_common::cluster_tree::{ControllerEpoch, ControllerRegistration, PartitionState};
use ottla_common::coordination::client::{Client, ClientError};
use ottla_common::coordination::protocol::{Acl, CreateMode, Op, OpResult};
use ottla_common::shutdown::Shutdown;
use ottla_common::types::{BrokerId, Zxid};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, info, warn};

use super::election::Kind;
use super::leaders::{Election, PartitionName, Survey, rules_of};
use super::writes::{Change, life_check, write};
use crate::config::BrokerConfig;
use crate::metadata::image::MetadataImage;
use crate::metadata::watcher::ImageHandle;
use crate::metrics::Metrics;

/// How long to wait, without news from the tree, before trying again what did not succeed.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// A broker that campaigns for `/controller` and, once elected, elects leaders.
#[derive(Debug)]
pub struct Campaign {
    /// The session that the campaign runs on.
    pub client: Client,
    /// What the tree says.
    pub image: ImageHandle,
    /// This broker, and its view of the defaults of topics.
    pub config: Arc<BrokerConfig>,
    /// Where elections are counted.
    pub metrics: Arc<Metrics>,
}

/// The guard of an elected controller's writes.
#[derive(Clone, Copy, Debug)]
struct Mandate {
    controller_epoch: i32,
    node_version: i32,
    /// When it was won. An image that is older shows another controller, or none.
    since: Zxid,
}

impl Mandate {
    /// What must hold for a write of this controller to be made.
    fn guard(&self) -> Op {
        Op::Check {
            path: ControllerEpoch::PATH.to_owned(),
            version: Some(self.node_version),
            czxid: None,
        }
    }

    /// Whether the image shows that this mandate has ended.
    fn has_ended(&self, image: &MetadataImage, broker_id: BrokerId) -> bool {
        image.zxid >= self.since && image.controller != Some(broker_id)
    }
}

/// What an elected controller knows of its own work.
#[derive(Debug)]
struct Office {
    mandate: Mandate,
    /// The image that was last acted on.
    seen: Option<Arc<MetadataImage>>,
    /// Partitions whose change lost a race.
    again: BTreeSet<PartitionName>,
}

impl Campaign {
    /// Runs until the signal is given.
    pub async fn run(self, shutdown: Shutdown) {
        let mut changed = self.image.changed();
        let mut office: Option<Office> = None;
        let interval_s = self.config.replication.leader_imbalance_check_interval_seconds;
        let interval = Duration::from_secs(interval_s.max(1));
        let mut balances = tokio::time::interval_at(Instant::now() + interval, interval);
        balances.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let is_balancing = self.config.replication.auto_leader_rebalance_enable;
        let mut is_balance_due = false;
        loop {
            let is_settled = self.round(&mut office, std::mem::take(&mut is_balance_due)).await;
            tokio::select! {
                _ = balances.tick(), if is_balancing => is_balance_due = true,
                () = shutdown.stopped() => return,
                more = changed.changed() => if more.is_err() { return },
                () = tokio::time::sleep(RETRY_PAUSE), if !is_settled => {}
            }
        }
    }

    /// Does what the newest image asks for. Returns whether only another image can ask for more; a
    /// coordinator that could not be reached, say, brings none.
    async fn round(&self, office: &mut Option<Office>, is_balance_due: bool) -> bool {
        let image = self.image.load();
        let broker_id = self.config.broker_id;
        office.take_if(|held| held.mandate.has_ended(&image, broker_id));
        let is_registered = image.brokers.contains_key(&broker_id);
        let is_taken = image.controller.is_some_and(|holder| holder != broker_id);
        if office.is_none() && (is_taken || !is_registered) {
            return true;
        }
        if office.is_none() {
            let mandate = self.campaign(&image).await;
            *office = mandate.map(|mandate| Office { mandate, seen: None, again: BTreeSet::new() });
        }
        let Some(held) = office else { return false };
        match self.act(image, held, is_balance_due).await {
            Ok(()) => held.again.is_empty(),
            Err(error) if error.refusal().is_some() => {
                warn!(%error, "elections were refused; this broker no longer controls");
                *office = None;
                false
            }
            Err(error) => {
                warn!(%error, "elections did not succeed, trying again");
                false
            }
        }
    }

    /// Writes what has to be written, and waits until the image shows it: what is decided next is
    /// decided on it.
    async fn act(
        &self,
        image: Arc<MetadataImage>,
        office: &mut Office,
        is_balance_due: bool,
    ) -> Result<(), ClientError> {
        let (elections, completions) = self.decide(&image, office, is_balance_due);
        let changes = elections
            .iter()
            .map(|election| election_change(&image, election))
            .chain(completions)
            .collect();
        log_elections(&elections);
        let written = write(&self.client, &office.mandate.guard(), changes).await?;
        office.again = written.lost.into_iter().flat_map(partitions_of).collect();
        self.count(&elections, &office.again);
        office.seen = Some(image);
        self.image.reached(written.zxid, RETRY_PAUSE).await;
        Ok(())
    }

    fn count(&self, elections: &[Election], lost: &BTreeSet<PartitionName>) {
        let is_made = |e: &&Election| !lost.contains(&(e.topic.clone(), e.partition));
        for election in elections.iter().filter(is_made) {
            if election.state.leader.is_some() && election.kind != Kind::Isr {
                self.metrics.leader_elections.add(1);
            }
            if election.kind == Kind::Unclean {
                self.metrics.unclean_leader_elections.add(1);
            }
        }
    }

    /// The elections that are needed, and the reassignments that are done.
    fn decide(
        &self,
        image: &MetadataImage,
        office: &Office,
        is_balance_due: bool,
    ) -> (Vec<Election>, Vec<Change>) {
        let survey = Survey {
            image,
            seen: office.seen.as_deref(),
            again: &office.again,
            rules: &|topic| rules_of(&self.config, image, topic),
            controller_epoch: office.mandate.controller_epoch,
        };
        let mut elections = survey.elections();
        if is_balance_due {
            let others = |back: &Election| {
                let name = (&back.topic, back.partition);
                elections.iter().all(|election| (&election.topic, election.partition) != name)
            };
            let back: Vec<Election> = survey.preferred().into_iter().filter(others).collect();
            elections.extend(back);
        }
        let completions = survey.completions(&elections);
        (elections, completions)
    }

    /// Takes `/controller`, which seems to be free. Losing is no error: the image will show who
    /// won.
    async fn campaign(&self, image: &MetadataImage) -> Option<Mandate> {
        match self.take_office(image).await {
            Ok(mandate) => {
                info!(controller_epoch = mandate.controller_epoch, "elected as controller");
                Some(mandate)
            }
            Err(error) => {
                info!(%error, "not elected as controller");
                self.leave_unclear_office().await;
                None
            }
        }
    }

    /// An attempt whose answer never came may have won. Its epoch is not known, so it is given up;
    /// the node's end brings the next campaign.
    async fn leave_unclear_office(&self) {
        let path = ControllerRegistration::PATH;
        let Ok(Some(stat)) = self.client.exists(path).await else { return };
        if Some(stat.ephemeral_owner) != self.client.session_id() {
            return;
        }
        let guard = Op::Check { path: path.to_owned(), version: None, czxid: Some(stat.czxid) };
        let delete = Op::Delete { path: path.to_owned(), version: None };
        if let Err(error) = self.client.multi(vec![guard, delete]).await {
            warn!(%error, "cannot give up an unclear election as controller");
        }
    }

    async fn take_office(&self, image: &MetadataImage) -> Result<Mandate, ClientError> {
        let found = self.client.get(ControllerEpoch::PATH).await?;
        let held = found.as_ref().and_then(|(data, _)| ControllerEpoch::decode(data).ok());
        let controller_epoch = held.map_or(image.controller_epoch.value, |epoch| epoch.0) + 1;
        let value = ControllerEpoch(controller_epoch).encode();
        let path = ControllerEpoch::PATH.to_owned();
        let raise_epoch = match found {
            Some((_, stat)) => Op::SetData { path, data: value, version: Some(stat.version) },
            None => {
                Op::Create { path, data: value, mode: CreateMode::Persistent, acl: Acl::open() }
            }
        };
        let registration =
            ControllerRegistration { broker_id: self.config.broker_id, since_ms: wall_time_ms() };
        let take = Op::Create {
            path: ControllerRegistration::PATH.to_owned(),
            data: registration.encode(),
            mode: CreateMode::Ephemeral,
            acl: Acl::open(),
        };
        let results = self.client.multi(vec![take, raise_epoch]).await?;
        let raised = results.iter().rev().find_map(|result| match result {
            OpResult::Set { stat } | OpResult::Created { stat, .. } => Some(stat),
            _ => None,
        });
        let stat = raised.ok_or(ClientError::WrongAnswer)?;
        Ok(Mandate { controller_epoch, node_version: stat.version, since: stat.mzxid })
    }
}

/// A partition's new state. Its leader must still be in the life that the image shows: a state that
/// was written after its leader registered anew, and leaves it the leader in the same epoch, would
/// hide from everybody that it was away.
fn election_change(image: &MetadataImage, election: &Election) -> Change {
    let write = Op::SetData {
        path: PartitionState::path(&election.topic, election.partition),
        data: election.state.encode(),
        version: Some(election.state_version),
    };
    let mut ops = life_check(image, election.state.leader);
    ops.push(write);
    Change { topic: election.topic.clone(), partitions: vec![election.partition], ops }
}

fn partitions_of(change: Change) -> impl Iterator<Item = PartitionName> {
    change.partitions.into_iter().map(move |partition| (change.topic.clone(), partition))
}

fn log_elections(elections: &[Election]) {
    for election in elections {
        let Election { topic, partition, state, kind, .. } = election;
        let PartitionState { leader_epoch, isr, elr, .. } = state;
        let leader = state.leader.map_or(-1, |leader| leader.0);
        if *kind == Kind::Isr {
            debug!(%topic, partition, leader, ?isr, ?elr, "brokers left the ISR");
            continue;
        }
        info!(%topic, partition, leader, leader_epoch, ?isr, ?elr, ?kind, "leader elected");
        if *kind == Kind::Unclean {
            warn!(%topic, partition, leader, "unclean election: records may be lost");
        }
    }
}
