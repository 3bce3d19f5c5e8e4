//! The campaign for `/controller`, and the elections of the one who has won it.

use std::sync::Arc;
use std::time::Duration;

use ottla_common::clock::wall_time_ms;
use ottla_common::cluster_tree::{ControllerEpoch, ControllerRegistration, PartitionState};
use ottla_common::coordination::client::{Client, ClientError};
use ottla_common::coordination::protocol::{Acl, CreateMode, Op, OpResult};
use ottla_common::shutdown::Shutdown;
use ottla_common::types::{BrokerId, Zxid};
use tracing::{info, warn};

use super::leaders::{Election, needed_elections};
use crate::limits::ELECTIONS_PER_MULTI_MAX;
use crate::metadata::image::MetadataImage;
use crate::metadata::watcher::ImageHandle;

/// How long to wait, without news from the tree, before trying again what did not succeed.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// A broker that campaigns for `/controller` and, once elected, elects leaders.
#[derive(Debug)]
pub struct Campaign {
    /// The session that the campaign runs on.
    pub client: Client,
    /// What the tree says.
    pub image: ImageHandle,
    /// This broker.
    pub broker_id: BrokerId,
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
    /// Whether the image shows that this mandate has ended.
    fn has_ended(&self, image: &MetadataImage, broker_id: BrokerId) -> bool {
        image.zxid >= self.since && image.controller != Some(broker_id)
    }
}

impl Campaign {
    /// Runs until the signal is given.
    pub async fn run(self, shutdown: Shutdown) {
        let mut changed = self.image.changed();
        let mut mandate: Option<Mandate> = None;
        loop {
            let is_settled = self.round(&mut mandate).await;
            tokio::select! {
                () = shutdown.stopped() => return,
                more = changed.changed() => if more.is_err() { return },
                () = tokio::time::sleep(RETRY_PAUSE), if !is_settled => {}
            }
        }
    }

    /// Does what the newest image asks for. Returns whether only another image can ask for more; a
    /// coordinator that could not be reached, say, brings none.
    async fn round(&self, mandate: &mut Option<Mandate>) -> bool {
        let image = self.image.load();
        mandate.take_if(|held| held.has_ended(&image, self.broker_id));
        let is_registered = image.brokers.contains_key(&self.broker_id);
        let is_taken = image.controller.is_some_and(|holder| holder != self.broker_id);
        if mandate.is_none() && (is_taken || !is_registered) {
            return true;
        }
        if mandate.is_none() {
            *mandate = self.campaign(&image).await;
        }
        let Some(held) = *mandate else { return false };
        match self.elect(&image, held).await {
            Ok(()) => true,
            Err(error) if error.refusal().is_some() => {
                warn!(%error, "elections were refused; this broker no longer controls");
                *mandate = None;
                false
            }
            Err(error) => {
                warn!(%error, "elections did not succeed, trying again");
                false
            }
        }
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
            ControllerRegistration { broker_id: self.broker_id, since_ms: wall_time_ms() };
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

    /// Elects for every partition that needs it, some hundreds in one guarded multi.
    async fn elect(&self, image: &Arc<MetadataImage>, mandate: Mandate) -> Result<(), ClientError> {
        let elections = needed_elections(image, mandate.controller_epoch);
        for batch in elections.chunks(ELECTIONS_PER_MULTI_MAX) {
            let guard = Op::Check {
                path: ControllerEpoch::PATH.to_owned(),
                version: Some(mandate.node_version),
                czxid: None,
            };
            let writes = batch.iter().map(election_write);
            let ops = std::iter::once(guard).chain(writes).collect();
            log_elections(batch);
            match self.client.multi(ops).await {
                Ok(_) => {}
                // The image was behind (an ISR changed, a topic was deleted): the change that it
                // has not shown yet brings the next round, which decides on what is then there.
                Err(error) if error.is_lost_race_behind(1) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn election_write(election: &Election) -> Op {
    Op::SetData {
        path: PartitionState::path(&election.topic, election.partition),
        data: election.state.encode(),
        version: Some(election.state_version),
    }
}

fn log_elections(elections: &[Election]) {
    for election in elections {
        let Election { topic, partition, state, unclean, .. } = election;
        let leader = state.leader.map_or(-1, |leader| leader.0);
        let leader_epoch = state.leader_epoch;
        if *unclean {
            warn!(%topic, partition, leader, leader_epoch, "unclean election: records may be lost");
        } else {
            info!(%topic, partition, leader, leader_epoch, "leader elected");
        }
    }
}
