//! Producer ids, unique in the cluster: taken from the tree in blocks, given out one by one.
//!
//! The node `/latest_producer_id_block` says which block was taken last and by whom; the next block
//! is taken by a compare-and-set of it. What a broker had left of its block when it stopped is
//! lost, which is harmless: there are 2^63 ids.

use ottla_common::cluster_tree::ProducerIdBlock;
use ottla_common::coordination::client::Client;
use ottla_common::coordination::protocol::{CoordinationError, CreateMode};
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::types::{BrokerId, ProducerId};
use tokio::sync::Mutex;
use tracing::warn;

/// How many ids a broker takes at once, as Kafka does.
const BLOCK_SIZE: i64 = 1000;

/// Gives out producer ids.
#[derive(Debug)]
pub struct ProducerIds {
    client: Client,
    broker_id: BrokerId,
    /// Ids left of the block. An async lock: it is held while the next block is fetched, so that
    /// many producers that come at once take one block.
    left: Mutex<std::ops::Range<i64>>,
}

impl ProducerIds {
    /// Gives out ids to the producers of this broker.
    pub fn new(client: Client, broker_id: BrokerId) -> Self {
        Self { client, broker_id, left: Mutex::new(0..0) }
    }

    /// An id that no producer has had. [`ErrorCode::CoordinatorNotAvailable`], which producers
    /// retry, when the coordinator does not give a block now.
    pub async fn next(&self) -> Result<ProducerId, ErrorCode> {
        let mut left = self.left.lock().await;
        loop {
            if let Some(id) = left.next() {
                return Ok(ProducerId(id));
            }
            match self.take_block().await {
                Ok(Some(block)) => *left = block,
                Ok(None) => {}
                Err(error) => {
                    warn!(%error, "no block of producer ids from the coordinator");
                    return Err(ErrorCode::CoordinatorNotAvailable);
                }
            }
        }
    }

    /// Takes the block after the last one. `None` if another broker was faster: to be tried again.
    async fn take_block(
        &self,
    ) -> Result<Option<std::ops::Range<i64>>, Box<dyn std::error::Error + Send + Sync>> {
        let found = self.client.get(ProducerIdBlock::PATH).await?;
        let first = match &found {
            Some((data, _)) => ProducerIdBlock::decode(data)?.last + 1,
            None => 0,
        };
        let end = first.checked_add(BLOCK_SIZE).ok_or("all producer ids are used up")?;
        let block = ProducerIdBlock { broker_id: self.broker_id, first, last: end - 1 };
        let path = ProducerIdBlock::PATH;
        let written = match found {
            Some((_, stat)) => {
                self.client.set(path, block.encode(), Some(stat.version)).await.map(drop)
            }
            None => {
                self.client.create(path, block.encode(), CreateMode::Persistent).await.map(drop)
            }
        };
        match written {
            Ok(()) => Ok(Some(first..end)),
            Err(error) => match error.refusal() {
                Some(
                    CoordinationError::BadVersion { .. } | CoordinationError::NodeExists { .. },
                ) => Ok(None),
                _ => Err(error.into()),
            },
        }
    }
}
