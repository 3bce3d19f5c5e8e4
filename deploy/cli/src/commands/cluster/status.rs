//! `ottla cluster status`: who leads, who is behind, what moves.

use std::collections::BTreeMap;

use ottla_common::kafka::admin::{Admin, ConfigResource};
use ottla_common::kafka::messages::describe_topic_partitions::response::{
    DescribeTopicPartitionsResponsePartition as Partition,
    DescribeTopicPartitionsResponseTopic as Topic,
};
use ottla_common::types::BrokerId;
use serde_json::{Value, json};

use crate::commands::configs;
use crate::commands::topics::{self, leader};
use crate::output::{Output, size_text};

/// Partitions that are in want of something, of which so many are named one by one.
const NAMED_MAX: usize = 20;

/// What one broker does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    leaders: usize,
    replicas: usize,
}

/// What the partitions of a cluster are in want of.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wants {
    partitions: usize,
    under_replicated: Vec<String>,
    offline: Vec<String>,
    not_preferred: usize,
}

/// Prints the cluster's state.
pub async fn print(output: Output, admin: &Admin) -> anyhow::Result<()> {
    let cluster = admin.describe_cluster(true).await?;
    let described = topics::describe(admin, &[]).await?;
    let moving = admin.list_partition_reassignments().await?;
    let (loads, wants) = survey(&described);
    let mut rows: Vec<[Value; 8]> = Vec::new();
    for broker in &cluster.brokers {
        let id = BrokerId(broker.broker_id);
        let load = loads.get(&id.0).copied().unwrap_or_default();
        let role = if id.0 == cluster.controller_id { "controller" } else { "-" };
        let is_drained = is_drained(admin, id).await;
        rows.push([
            id.0.into(),
            format!("{}:{}", broker.host, broker.port).into(),
            broker.rack.as_deref().into(),
            role.into(),
            if is_drained { "drained" } else { "up" }.into(),
            load.leaders.into(),
            load.replicas.into(),
            disk(output, admin, id).await,
        ]);
    }
    for (id, load) in &loads {
        if cluster.brokers.iter().all(|broker| broker.broker_id != *id) {
            let unknown = Value::Null;
            let (leaders, replicas) = (load.leaders.into(), load.replicas.into());
            let state = "down".into();
            let none = unknown.clone();
            let role = "-".into();
            rows.push([(*id).into(), none.clone(), none, role, state, leaders, replicas, unknown]);
        }
    }
    let head = ["broker", "address", "rack", "role", "state", "leaders", "replicas", "disk"];
    if output.json {
        let names = |row: [Value; 8]| {
            let pairs = head.iter().map(|name| (*name).to_owned()).zip(row);
            Value::Object(pairs.collect())
        };
        return output.value(&json!({
            "cluster_id": cluster.cluster_id.as_str(),
            "brokers": rows.into_iter().map(names).collect::<Vec<_>>(),
            "topics": described.len(),
            "partitions": wants.partitions,
            "under_replicated": wants.under_replicated,
            "offline": wants.offline,
            "not_preferred": wants.not_preferred,
            "moving": moving.iter().map(|each| each.partition.to_string()).collect::<Vec<_>>(),
        }));
    }
    output.line(format_args!("cluster {}", cluster.cluster_id))?;
    output.rows(head, rows)?;
    output.line(format_args!(
        "{} topics, {} partitions: {} under-replicated, {} offline, {} moving, {} not led by \
         their first replica",
        described.len(),
        wants.partitions,
        wants.under_replicated.len(),
        wants.offline.len(),
        moving.len(),
        wants.not_preferred
    ))?;
    for (what, names) in
        [("offline", &wants.offline), ("under-replicated", &wants.under_replicated)]
    {
        for name in names.iter().take(NAMED_MAX) {
            output.line(format_args!("{what}: {name}"))?;
        }
    }
    Ok(())
}

/// Whether no new replicas are placed on a broker.
pub async fn is_drained(admin: &Admin, broker: BrokerId) -> bool {
    let entries = configs::describe(admin, ConfigResource::broker(broker)).await;
    entries.unwrap_or_default().iter().any(|entry| {
        entry.name == super::CORDON && entry.value.as_deref().is_some_and(|dirs| dirs == "*")
    })
}

/// What the logs of a broker take, if it says so.
async fn disk(output: Output, admin: &Admin, broker: BrokerId) -> Value {
    let Ok(dirs) = admin.describe_log_dirs(broker, None).await else { return Value::Null };
    let topics = dirs.iter().flat_map(|dir| &dir.topics);
    let sizes =
        topics.flat_map(|topic| &topic.partitions).map(|partition| partition.partition_size);
    let size: i64 = sizes.sum();
    if output.json { size.into() } else { size_text(size as f64).into() }
}

fn survey(topics: &[Topic]) -> (BTreeMap<i32, Load>, Wants) {
    let mut loads: BTreeMap<i32, Load> = BTreeMap::new();
    let mut wants = Wants::default();
    for topic in topics {
        for partition in &topic.partitions {
            for broker in &partition.replica_nodes {
                loads.entry(*broker).or_default().replicas += 1;
            }
            if let Some(leader) = leader(partition) {
                loads.entry(leader).or_default().leaders += 1;
            }
            wants.add(topic.name.as_deref().unwrap_or_default(), partition);
        }
    }
    (loads, wants)
}

impl Wants {
    fn add(&mut self, topic: &str, partition: &Partition) {
        let name = format!("{topic}-{}", partition.partition_index);
        self.partitions += 1;
        let leader = leader(partition);
        if leader.is_none() {
            self.offline.push(name.clone());
        } else if leader != partition.replica_nodes.first().copied() {
            self.not_preferred += 1;
        }
        if partition.isr_nodes.len() < partition.replica_nodes.len() {
            self.under_replicated.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(partition_index: i32, leader_id: i32, isr: &[i32]) -> Partition {
        Partition {
            partition_index,
            leader_id,
            replica_nodes: vec![1, 2],
            isr_nodes: isr.to_vec(),
            ..Partition::default()
        }
    }

    #[test]
    fn what_is_amiss_is_counted() {
        let partitions =
            vec![partition(0, 1, &[1, 2]), partition(1, 2, &[2]), partition(2, -1, &[1])];
        let topic = Topic { name: Some("t".into()), partitions, ..Topic::default() };
        let (loads, wants) = survey(&[topic]);
        assert_eq!(loads[&1], Load { leaders: 1, replicas: 3 });
        assert_eq!(loads[&2], Load { leaders: 1, replicas: 3 });
        assert_eq!((wants.partitions, wants.not_preferred), (3, 1));
        assert_eq!(wants.under_replicated, ["t-1", "t-2"]);
        assert_eq!(wants.offline, ["t-2"]);
    }
}
