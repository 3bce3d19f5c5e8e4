//! The log directories that a reassignment names: moves of replicas within their brokers.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ottla_common::kafka::admin::Admin;
use ottla_common::kafka::client::ClientError;
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::types::{BrokerId, TopicPartition};

use super::reassign::Plan;
use crate::output::misuse;

/// Time between two attempts to move replicas that are not there yet.
const PAUSE: Duration = Duration::from_millis(500);

/// The replica of a partition on one broker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Replica {
    /// The partition.
    pub partition: (String, i32),
    /// The broker.
    pub broker: BrokerId,
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (topic, partition) = &self.partition;
        write!(f, "{topic}-{partition}-{}", self.broker)
    }
}

/// Where replicas are to be: those for which the plan names a directory.
///
/// # Errors
/// If a partition does not have as many directories as replicas.
pub fn wanted(plan: &Plan) -> anyhow::Result<BTreeMap<Replica, String>> {
    let mut wanted = BTreeMap::new();
    for placed in &plan.partitions {
        if !placed.log_dirs.is_empty() && placed.log_dirs.len() != placed.replicas.len() {
            return Err(misuse(format!(
                "Size of replicas list and size of log dirs list differ for partition {}",
                placed.name()
            )));
        }
        for (broker, dir) in placed.replicas.iter().zip(&placed.log_dirs) {
            if dir != "any" {
                let partition = (placed.topic.clone(), placed.partition);
                wanted.insert(Replica { partition, broker: BrokerId(*broker) }, dir.clone());
            }
        }
    }
    Ok(wanted)
}

/// Begins the moves; returns those whose replica is not there yet, and will be made there.
///
/// # Errors
/// What a broker says of the first that it refuses.
pub async fn begin(
    admin: &Admin,
    wanted: &BTreeMap<Replica, String>,
) -> Result<BTreeMap<Replica, String>, ClientError> {
    let mut by_broker: BTreeMap<BrokerId, Vec<(TopicPartition, String)>> = BTreeMap::new();
    for (Replica { partition: (topic, partition), broker }, dir) in wanted {
        let name = TopicPartition::new(topic.as_str(), *partition);
        by_broker.entry(*broker).or_default().push((name, dir.clone()));
    }
    let mut later = BTreeMap::new();
    for (broker, moves) in by_broker {
        for (name, result) in admin.alter_replica_log_dirs(broker, &moves).await? {
            match result {
                Ok(()) => {}
                Err(error) if error.code() == Some(ErrorCode::ReplicaNotAvailable) => {
                    let partition = (name.topic.to_string(), name.partition);
                    let replica = Replica { partition, broker };
                    let dir = wanted.get(&replica).cloned().unwrap_or_default();
                    later.insert(replica, dir);
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(later)
}

/// Begins the moves, again and again for replicas that are not there yet. Returns which have begun
/// when that is all or time is up.
///
/// # Errors
/// What a broker says of the first that it refuses.
pub async fn begin_all(
    admin: &Admin,
    wanted: &BTreeMap<Replica, String>,
    patience: Duration,
) -> Result<Vec<Replica>, ClientError> {
    let deadline = tokio::time::Instant::now() + patience;
    let mut left = wanted.clone();
    while !left.is_empty() {
        left = begin(admin, &left).await?;
        if left.is_empty() || tokio::time::Instant::now() + PAUSE > deadline {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(wanted.keys().filter(|replica| !left.contains_key(replica)).cloned().collect())
}

/// How far the move of one replica has come, in the words of Kafka's tool.
///
/// # Errors
/// If a broker does not answer.
pub async fn progress(
    admin: &Admin,
    wanted: &BTreeMap<Replica, String>,
) -> Result<Vec<String>, ClientError> {
    let mut places: BTreeMap<Replica, Place> = BTreeMap::new();
    let mut brokers: Vec<BrokerId> = wanted.keys().map(|replica| replica.broker).collect();
    brokers.dedup();
    brokers.sort_unstable();
    brokers.dedup();
    for broker in brokers {
        for dir in admin.describe_log_dirs(broker, None).await? {
            for topic in &dir.topics {
                for found in &topic.partitions {
                    let partition = (topic.name.to_string(), found.partition_index);
                    let place = places.entry(Replica { partition, broker }).or_default();
                    let path = Some(dir.log_dir.to_string());
                    match found.is_future_key {
                        true => place.future = path,
                        false => place.current = path,
                    }
                }
            }
        }
    }
    let told = wanted.iter().map(|(replica, dir)| told(replica, dir, places.get(replica)));
    Ok(told.collect())
}

#[derive(Default)]
struct Place {
    current: Option<String>,
    future: Option<String>,
}

fn told(replica: &Replica, dir: &str, place: Option<&Place>) -> String {
    let Replica { partition: (topic, partition), broker } = replica;
    let name = format!("Partition {topic}-{partition}");
    let Some(Place { current, future }) = place else {
        return format!(
            "{name} is not found in any live log dir on broker {broker}. There is \
                        likely an offline log directory on the broker."
        );
    };
    match (current, future) {
        (_, Some(future)) if future == dir => {
            format!("Reassignment of replica {replica} is still in progress.")
        }
        (_, Some(future)) => {
            format!(
                "{name} on broker {broker} is being moved to log dir {future} instead of {dir}."
            )
        }
        (Some(current), None) if current == dir => {
            format!("Reassignment of replica {replica} completed successfully.")
        }
        (Some(current), None) => {
            format!("{name} on broker {broker} is not being moved from log dir {current} to {dir}.")
        }
        (None, None) => format!(
            "{name} cannot be found in any live log directory on broker \
                                 {broker}."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_as_kafkas_tool_does() {
        let replica = Replica { partition: ("t".to_owned(), 0), broker: BrokerId(1) };
        let at = |current: &str, future: &str| Place {
            current: (!current.is_empty()).then(|| current.to_owned()),
            future: (!future.is_empty()).then(|| future.to_owned()),
        };
        for (place, words) in [
            (at("/a", "/b"), "Reassignment of replica t-0-1 is still in progress."),
            (at("/b", ""), "Reassignment of replica t-0-1 completed successfully."),
            (at("/a", ""), "Partition t-0 on broker 1 is not being moved from log dir /a to /b."),
            (
                at("/a", "/c"),
                "Partition t-0 on broker 1 is being moved to log dir /c instead of /b.",
            ),
        ] {
            assert_eq!(told(&replica, "/b", Some(&place)), words);
        }
        assert!(told(&replica, "/b", None).contains("offline log directory"));
    }
}
