//! `ottla cluster drain|undrain|remove`: a broker that is emptied, used again, or forgotten.
//!
//! A drained broker takes no new replicas (`cordoned.log.dirs=*`, KIP-1066), and those that it had
//! are moved to others.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use ottla_common::cluster_tree::{BrokerDirectories, ConfigKind, ConfigOverrides};
use ottla_common::coordination::client::ClientError;
use ottla_common::coordination::protocol::CoordinationError;
use ottla_common::kafka::admin::{Admin, ConfigChange, ConfigResource};
use ottla_common::types::BrokerId;

use super::CORDON;
use crate::commands::topics::reassign::{self, Placed, Plan};
use crate::commands::{configs, coordinator};
use crate::context::Context;

/// Moves all replicas off a broker, and keeps new ones away.
///
/// # Errors
/// If there are too few other brokers, or the cluster refuses.
pub async fn drain(context: &Context, broker: BrokerId, waits: bool) -> anyhow::Result<()> {
    let admin = context.admin().await?;
    let output = context.output;
    if is_up(&admin, broker).await? {
        let cordon = vec![ConfigChange::set(CORDON, "*")];
        configs::alter(&admin, ConfigResource::broker(broker), cordon).await?;
    }
    let plan = moves_off(&admin, broker).await?;
    if plan.partitions.is_empty() {
        return output.done(format_args!("broker {broker} holds no replica"));
    }
    reassign::start(&admin, &plan).await?;
    let count = plan.partitions.len();
    output.done(format_args!("moving {count} replicas off broker {broker}"))?;
    if waits { reassign::wait(output, &admin, &plan).await } else { Ok(()) }
}

/// Lets a broker take new replicas again. Those that it had do not come back by themselves.
///
/// # Errors
/// If it is not there, or the cluster refuses.
pub async fn undrain(context: &Context, broker: BrokerId) -> anyhow::Result<()> {
    let admin = context.admin().await?;
    let change = vec![ConfigChange::delete(CORDON)];
    configs::alter(&admin, ConfigResource::broker(broker), change).await?;
    context.output.done(format_args!("broker {broker} takes new replicas again"))
}

/// Drains a broker and, once it has been stopped, forgets it.
///
/// # Errors
/// As [`drain`]; if the coordinator cannot be reached.
pub async fn remove(context: &Context, broker: BrokerId) -> anyhow::Result<()> {
    drain(context, broker, true).await?;
    if is_up(&context.admin().await?, broker).await? {
        return context.output.done(format_args!(
            "broker {broker} can be stopped now; then run this once more, to forget it"
        ));
    }
    let client = coordinator::connect(context).await?;
    let configs = ConfigOverrides::path(ConfigKind::Brokers, &broker.to_string());
    for path in [configs, BrokerDirectories::path(broker)] {
        match client.delete(&path, None).await {
            Ok(()) | Err(ClientError::Refused(CoordinationError::NoNode { .. })) => {}
            Err(error) => bail!("{path}: {error}"),
        }
    }
    client.close().await;
    context.output.done(format_args!("broker {broker} is forgotten"))
}

async fn is_up(admin: &Admin, broker: BrokerId) -> anyhow::Result<bool> {
    let cluster = admin.describe_cluster(false).await?;
    Ok(cluster.brokers.iter().any(|each| each.broker_id == broker.0))
}

/// Where the replicas of a broker are to go.
async fn moves_off(admin: &Admin, broker: BrokerId) -> anyhow::Result<Plan> {
    let present = reassign::all_of(admin, &[]).await?;
    let moving = admin.list_partition_reassignments().await?;
    let mut candidates: BTreeMap<BrokerId, Option<String>> = BTreeMap::new();
    for each in admin.describe_cluster(false).await?.brokers {
        let id = BrokerId(each.broker_id);
        if id != broker && !super::status::is_drained(admin, id).await {
            candidates.insert(id, each.rack.map(|rack| rack.to_string()));
        }
    }
    // What a move that is under way takes off needs no other.
    let ends: BTreeMap<_, _> = moving.into_iter().map(|m| (m.partition, m.removing)).collect();
    let targets = present.into_iter().map(|mut placed| {
        let removing = ends.get(&placed.name());
        placed.replicas.retain(|id| removing.is_none_or(|gone| !gone.contains(&BrokerId(*id))));
        placed
    });
    plan_off(broker, &targets.collect::<Vec<_>>(), &candidates)
}

/// Puts another broker into each place of `broker`: of a rack that the partition is not in yet if
/// there is one, and of those the one with the fewest replicas.
fn plan_off(
    broker: BrokerId,
    present: &[Placed],
    candidates: &BTreeMap<BrokerId, Option<String>>,
) -> anyhow::Result<Plan> {
    let mut loads: BTreeMap<BrokerId, usize> = candidates.keys().map(|id| (*id, 0)).collect();
    for id in present.iter().flat_map(|placed| &placed.replicas) {
        if let Some(load) = loads.get_mut(&BrokerId(*id)) {
            *load += 1;
        }
    }
    let mut moves = Vec::new();
    for placed in present.iter().filter(|placed| placed.replicas.contains(&broker.0)) {
        let others: Vec<BrokerId> =
            placed.replicas.iter().copied().map(BrokerId).filter(|id| *id != broker).collect();
        let racks: BTreeSet<&Option<String>> =
            others.iter().filter_map(|id| candidates.get(id)).filter(|r| r.is_some()).collect();
        let free = candidates.iter().filter(|(id, _)| !others.contains(id));
        let best = free.min_by_key(|(id, rack)| {
            (racks.contains(rack), loads.get(id).copied().unwrap_or(0), **id)
        });
        let Some((instead, _)) = best else {
            bail!(
                "{} has a replica on every other broker: drain needs one more, or fewer replicas",
                placed.name()
            );
        };
        *loads.entry(*instead).or_default() += 1;
        let place = |id: &i32| if *id == broker.0 { *instead } else { BrokerId(*id) };
        let replicas: Vec<BrokerId> = placed.replicas.iter().map(place).collect();
        moves.push(Placed::new(&placed.name(), &replicas));
    }
    Ok(Plan::new(moves))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_common::types::TopicPartition;

    fn placed(number: i32, replicas: &[i32]) -> Placed {
        let replicas: Vec<BrokerId> = replicas.iter().copied().map(BrokerId).collect();
        Placed::new(&TopicPartition::new("t", number), &replicas)
    }

    fn brokers(racks: &[(i32, &str)]) -> BTreeMap<BrokerId, Option<String>> {
        racks.iter().map(|(id, rack)| (BrokerId(*id), Some((*rack).to_owned()))).collect()
    }

    #[test]
    fn replicas_go_to_another_rack_and_to_who_has_least() {
        let present = [placed(0, &[1, 2]), placed(1, &[3, 1]), placed(2, &[3, 4])];
        let others = brokers(&[(2, "a"), (3, "b"), (4, "b"), (5, "a")]);
        let plan = plan_off(BrokerId(1), &present, &others).unwrap();
        let replicas: Vec<&[i32]> = plan.partitions.iter().map(|p| &p.replicas[..]).collect();
        assert_eq!(replicas, [&[4, 2][..], &[3, 5]]);
    }

    #[test]
    fn without_another_broker_nothing_is_moved() {
        let present = [placed(0, &[1, 2])];
        assert!(plan_off(BrokerId(1), &present, &brokers(&[(2, "a")])).is_err());
    }
}
