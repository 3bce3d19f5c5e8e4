//! Guarded writes of many partitions: some hundreds in one multi, several multis under way at once.
//!
//! A multi that lost a race (an ISR changed meanwhile, a topic was deleted) is written again
//! without the change that lost; that one has to be decided anew on what is then there. After a few
//! of them each change is written by itself, so that a topic under much change does not hold up the
//! others.

use std::sync::Arc;

use futures_util::StreamExt;
use ottla_common::cluster_tree::BrokerRegistration;
use ottla_common::coordination::client::{Client, ClientError};
use ottla_common::coordination::protocol::{CoordinationError, Op, OpResult};
use ottla_common::types::{BrokerId, Zxid};

use crate::limits::{ELECTION_MULTIS_IN_FLIGHT_MAX, ELECTIONS_PER_MULTI_MAX};
use crate::metadata::image::MetadataImage;

/// Races that one multi may lose before its changes are written one by one.
const LOST_RACES_MAX: usize = 4;

/// A change that is made whole or not at all.
#[derive(Clone, Debug)]
pub struct Change {
    /// The topic that it is about.
    pub topic: Arc<str>,
    /// The partitions that it is about.
    pub partitions: Vec<i32>,
    /// What it writes, each guarded by a node version.
    pub ops: Vec<Op>,
}

/// A check that a broker is there, in the life that the image shows.
pub fn life_check(image: &MetadataImage, broker: Option<BrokerId>) -> Vec<Op> {
    let found = broker.and_then(|id| image.brokers.get(&id));
    let check = found.map(|broker| Op::Check {
        path: BrokerRegistration::path(broker.id),
        version: None,
        czxid: Some(Zxid(broker.broker_epoch)),
    });
    check.into_iter().collect()
}

/// What became of some changes. Those that are not in `lost` were made.
#[derive(Debug, Default)]
pub struct Written {
    /// The newest of the changes.
    pub zxid: Zxid,
    /// The changes that lost a race.
    pub lost: Vec<Change>,
}

impl Written {
    fn add(&mut self, other: Self) {
        self.zxid = self.zxid.max(other.zxid);
        self.lost.extend(other.lost);
    }
}

/// Makes the changes, none of them unless `guard` holds.
///
/// # Errors
/// Refused if the guard does not hold; others as they come. Some of the changes may have been made.
pub async fn write(
    client: &Client,
    guard: &Op,
    changes: Vec<Change>,
) -> Result<Written, ClientError> {
    let batches = batches(changes).into_iter().map(|batch| write_batch(client, guard, batch));
    let mut under_way = futures_util::stream::iter(batches).buffered(ELECTION_MULTIS_IN_FLIGHT_MAX);
    let mut written = Written::default();
    while let Some(batch) = under_way.next().await {
        written.add(batch?);
    }
    Ok(written)
}

fn batches(changes: Vec<Change>) -> Vec<Vec<Change>> {
    let mut batches: Vec<Vec<Change>> = Vec::new();
    let mut ops = usize::MAX;
    for change in changes {
        let writes = change.ops.iter().filter(|op| !matches!(op, Op::Check { .. })).count();
        if ops.saturating_add(writes) > ELECTIONS_PER_MULTI_MAX {
            batches.push(Vec::new());
            ops = 0;
        }
        ops += writes;
        if let Some(batch) = batches.last_mut() {
            batch.push(change);
        }
    }
    batches
}

async fn write_batch(
    client: &Client,
    guard: &Op,
    mut batch: Vec<Change>,
) -> Result<Written, ClientError> {
    let mut written = Written::default();
    while !batch.is_empty() && written.lost.len() < LOST_RACES_MAX {
        match write_once(client, guard, &batch).await? {
            Once::Written(zxid) => return Ok(Written { zxid, ..written }),
            Once::Lost(at) => written.lost.push(batch.remove(at)),
        }
    }
    let singles = batch.into_iter().map(async |change| {
        let change = [change];
        let once = write_once(client, guard, &change).await?;
        Ok::<_, ClientError>((once, change))
    });
    let mut under_way = futures_util::stream::iter(singles).buffered(ELECTIONS_PER_MULTI_MAX);
    while let Some(single) = under_way.next().await {
        match single? {
            (Once::Written(zxid), _) => written.zxid = written.zxid.max(zxid),
            (Once::Lost(_), change) => written.lost.extend(change),
        }
    }
    Ok(written)
}

enum Once {
    Written(Zxid),
    /// The change at this place lost a race; none was made.
    Lost(usize),
}

async fn write_once(client: &Client, guard: &Op, batch: &[Change]) -> Result<Once, ClientError> {
    let ops = batch.iter().flat_map(|change| change.ops.iter().cloned());
    let ops = std::iter::once(guard.clone()).chain(ops).collect();
    match client.multi(ops).await {
        Ok(results) => Ok(Once::Written(newest(&results))),
        Err(error) => match lost_change(&error, batch) {
            Some(at) => Ok(Once::Lost(at)),
            None => Err(error),
        },
    }
}

fn newest(results: &[OpResult]) -> Zxid {
    let stats = results.iter().filter_map(|result| match result {
        OpResult::Set { stat } | OpResult::Created { stat, .. } => Some(stat.mzxid),
        _ => None,
    });
    stats.max().unwrap_or_default()
}

/// The place of the change that made a multi fail, if it was one of them and it lost a race.
fn lost_change(error: &ClientError, batch: &[Change]) -> Option<usize> {
    if !error.is_lost_race_behind(1) {
        return None;
    }
    let Some(CoordinationError::MultiFailed { index, .. }) = error.refusal() else { return None };
    let mut end = 1;
    let place = batch.iter().position(|change| {
        end += change.ops.len();
        *index < end
    });
    Some(place.unwrap_or(0))
}
