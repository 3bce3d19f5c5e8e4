//! `ottla cluster`: brokers, who leads and who is behind, disks, and which APIs are served.

mod drain;
mod status;

use clap::Subcommand;
use ottla_common::kafka::admin::Admin;
use ottla_common::kafka::messages::ApiKey;
use ottla_common::types::BrokerId;
use serde_json::{Value, json};

use crate::context::Context;
use crate::output::{Output, size_text};

/// The config of a broker that keeps new replicas away from it.
const CORDON: &str = "cordoned.log.dirs";

/// The cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Print the cluster's id, its controller and its brokers.
    Describe,
    /// Print what the brokers do, and which partitions are in want of something.
    Status,
    /// Move all replicas off a broker, and keep new ones away from it.
    Drain {
        /// The broker's number.
        broker: i32,
        /// Begin, and do not wait until it is done.
        #[arg(long)]
        no_wait: bool,
    },
    /// Let a broker that was drained take new replicas again.
    Undrain {
        /// The broker's number.
        broker: i32,
    },
    /// Drain a broker and, once it has been stopped, forget it.
    Remove {
        /// The broker's number.
        broker: i32,
    },
    /// Print what each partition takes on the brokers' disks.
    LogDirs {
        /// Only these topics.
        topics: Vec<String>,
    },
    /// Print which versions of which APIs the brokers serve.
    Apis,
}

/// Runs `ottla cluster`.
pub async fn run(context: &Context, command: ClusterCommand) -> anyhow::Result<()> {
    let admin = context.admin().await?;
    match command {
        ClusterCommand::Status => status::print(context.output, &admin).await,
        ClusterCommand::Drain { broker, no_wait } => {
            drain::drain(context, BrokerId(broker), !no_wait).await
        }
        ClusterCommand::Undrain { broker } => drain::undrain(context, BrokerId(broker)).await,
        ClusterCommand::Remove { broker } => drain::remove(context, BrokerId(broker)).await,
        ClusterCommand::Describe => describe(context.output, &admin).await,
        ClusterCommand::LogDirs { topics } => log_dirs(context.output, &admin, &topics).await,
        ClusterCommand::Apis => apis(context.output, &admin).await,
    }
}

async fn describe(output: Output, admin: &Admin) -> anyhow::Result<()> {
    let cluster = admin.describe_cluster(true).await?;
    if output.json {
        let brokers = cluster.brokers.iter().map(|broker| {
            json!({
                "id": broker.broker_id,
                "host": broker.host.as_str(),
                "port": broker.port,
                "rack": broker.rack.as_deref(),
                "fenced": broker.is_fenced,
            })
        });
        return output.value(&json!({
            "cluster_id": cluster.cluster_id.as_str(),
            "controller": cluster.controller_id,
            "brokers": brokers.collect::<Vec<_>>(),
        }));
    }
    output.line(format_args!("cluster {}", cluster.cluster_id))?;
    output.rows(
        ["broker", "address", "rack", "role"],
        cluster.brokers.iter().map(|broker| {
            let role = if broker.broker_id == cluster.controller_id { "controller" } else { "-" };
            [
                broker.broker_id.into(),
                format!("{}:{}", broker.host, broker.port).into(),
                broker.rack.as_deref().into(),
                role.into(),
            ]
        }),
    )
}

async fn log_dirs(output: Output, admin: &Admin, topics: &[String]) -> anyhow::Result<()> {
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let wanted = (!names.is_empty()).then_some(names.as_slice());
    let metadata = admin.cluster().refresh_all().await?;
    let mut rows: Vec<[Value; 5]> = Vec::new();
    for broker in metadata.brokers.keys() {
        for dir in admin.describe_log_dirs(*broker, wanted).await? {
            for topic in &dir.topics {
                for partition in &topic.partitions {
                    let size = partition.partition_size;
                    let size =
                        if output.json { size.into() } else { size_text(size as f64).into() };
                    rows.push([
                        broker.0.into(),
                        dir.log_dir.as_str().into(),
                        topic.name.as_str().into(),
                        partition.partition_index.into(),
                        size,
                    ]);
                }
            }
        }
    }
    rows.sort_by_key(|[broker, dir, topic, partition, _]| {
        (broker.as_i64(), dir.to_string(), topic.to_string(), partition.as_i64())
    });
    output.rows(["broker", "directory", "topic", "partition", "size"], rows)
}

async fn apis(output: Output, admin: &Admin) -> anyhow::Result<()> {
    let connection = admin.cluster().any_connection().await?;
    let versions = connection.versions();
    output.rows(
        ["key", "api", "lowest", "highest"],
        ApiKey::ALL.iter().filter_map(|key| {
            let (lowest, highest) = versions.offered(*key)?;
            Some([key.code().into(), key.name().into(), lowest.into(), highest.into()])
        }),
    )
}
