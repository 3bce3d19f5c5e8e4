//! How fast replicas move: what Kafka's tool sets for the time of a reassignment (KIP-73), and
//! takes away when it is over.

use std::collections::{BTreeMap, BTreeSet};

use ottla_common::kafka::admin::{Admin, ConfigChange, ConfigResource};
use ottla_common::kafka::client::ClientError;
use ottla_common::types::BrokerId;

use super::reassign::{Placed, Plan};

/// How many bytes a second a broker sends, and fetches, of replicas that are throttled.
const RATES: [&str; 2] =
    ["leader.replication.throttled.rate", "follower.replication.throttled.rate"];

/// Which replicas of a topic are throttled where they are sent from, and where they are fetched.
const REPLICAS: [&str; 2] =
    ["leader.replication.throttled.replicas", "follower.replication.throttled.replicas"];

/// The replicas of each topic that send, and those that fetch, when a plan is carried out. Whoever
/// has a replica now may lead it.
fn replicas_of(plan: &Plan, present: &Plan) -> BTreeMap<String, [BTreeSet<String>; 2]> {
    let now: BTreeMap<_, _> = present.partitions.iter().map(|held| (held.name(), held)).collect();
    let mut topics: BTreeMap<String, [BTreeSet<String>; 2]> = BTreeMap::new();
    for placed in &plan.partitions {
        let Some(held) = now.get(&placed.name()) else { continue };
        let named = |replicas: &[i32]| -> BTreeSet<String> {
            replicas.iter().map(|broker| format!("{}:{broker}", placed.partition)).collect()
        };
        let joining = |broker: &&i32| !held.replicas.contains(broker);
        let joining: Vec<i32> = placed.replicas.iter().filter(joining).copied().collect();
        let [senders, fetchers] = topics.entry(placed.topic.clone()).or_default();
        senders.extend(named(&held.replicas));
        fetchers.extend(named(&joining));
    }
    topics
}

/// The brokers that have replicas of a plan, before or after it.
fn brokers_of(plan: &Plan, present: &Plan) -> BTreeSet<BrokerId> {
    let replicas = |placed: &Placed| placed.replicas.clone();
    let all = plan.partitions.iter().chain(&present.partitions).flat_map(replicas);
    all.map(BrokerId).collect()
}

async fn alter(
    admin: &Admin,
    changes: Vec<(ConfigResource, Vec<ConfigChange>)>,
) -> Result<(), ClientError> {
    let results = admin.incremental_alter_configs(&changes, false).await?;
    results.into_iter().try_for_each(|(_, result)| result)
}

/// Lets the replicas of a plan move at this rate, in bytes a second, at most: each broker sends,
/// and fetches, so much. To be called before the plan is begun, with where the replicas are then.
///
/// # Errors
/// What the cluster says of the first change that it refuses.
pub async fn set(
    admin: &Admin,
    (plan, present): (&Plan, &Plan),
    bytes_per_second: u64,
) -> Result<(), ClientError> {
    let topics = replicas_of(plan, present).into_iter().map(|(topic, sides)| {
        let lists = sides.map(|side| side.into_iter().collect::<Vec<_>>().join(","));
        let changes = REPLICAS.into_iter().zip(lists);
        let changes = changes.map(|(key, list)| ConfigChange::set(key, list)).collect();
        (ConfigResource::topic(topic), changes)
    });
    let rates = || RATES.map(|key| ConfigChange::set(key, bytes_per_second.to_string())).to_vec();
    let brokers = brokers_of(plan, present).into_iter();
    let brokers = brokers.map(|id| (ConfigResource::broker(id), rates()));
    alter(admin, topics.chain(brokers).collect()).await
}

/// Takes the throttles away: the rates of all brokers that are there, and the lists of the plan's
/// topics. Returns which brokers these are.
///
/// # Errors
/// What the cluster says of the first change that it refuses.
pub async fn clear(admin: &Admin, plan: &Plan) -> Result<Vec<BrokerId>, ClientError> {
    let known = admin.describe_cluster(false).await?.brokers;
    let mut brokers: Vec<BrokerId> = known.iter().map(|each| BrokerId(each.broker_id)).collect();
    brokers.sort_unstable();
    let none = |keys: [&'static str; 2]| keys.map(ConfigChange::delete).to_vec();
    let of_brokers = brokers.iter().map(|id| (ConfigResource::broker(*id), none(RATES)));
    let topics = plan.topics().into_iter();
    let of_topics = topics.map(|topic| (ConfigResource::topic(topic), none(REPLICAS)));
    alter(admin, of_brokers.chain(of_topics).collect()).await?;
    Ok(brokers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_common::types::TopicPartition;

    fn plan(replicas: &[i32]) -> Plan {
        let replicas: Vec<_> = replicas.iter().copied().map(BrokerId).collect();
        Plan::new(vec![Placed::new(&TopicPartition::new("orders", 4), &replicas)])
    }

    #[test]
    fn whoever_has_a_replica_sends_and_whoever_gets_one_fetches() {
        let (plan, present) = (plan(&[2, 3, 4]), plan(&[1, 2]));
        let [senders, fetchers] = &replicas_of(&plan, &present)["orders"];
        assert_eq!(senders.iter().map(String::as_str).collect::<Vec<_>>(), ["4:1", "4:2"]);
        assert_eq!(fetchers.iter().map(String::as_str).collect::<Vec<_>>(), ["4:3", "4:4"]);
        let brokers: Vec<i32> = brokers_of(&plan, &present).iter().map(|id| id.0).collect();
        assert_eq!(brokers, [1, 2, 3, 4]);
    }
}
