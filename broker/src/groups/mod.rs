//! Groups and their offsets: what Kafka calls the group coordinator. Pure state machines, run by
//! `internal_topics` over the partitions of `__consumer_offsets`.
//!
//! `shard` owns the groups of one partition; `classic` is the classic protocol, `consumer` that of
//! KIP-848 with its `assignors`, `offsets` what was committed, `records` the formats in the log.
//! Handlers go through [`Groups`].

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod assignors;
pub mod classic;
pub mod consumer;
pub mod offsets;
pub mod records;
pub mod settings;
pub mod shard;

use std::sync::Arc;
use std::time::Duration;

use ottla_common::clock::Clock;
use ottla_common::kafka::compression::Compression;
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::types::BrokerId;

use crate::config::broker::GroupsConfig;
use crate::internal_topics::{CONSUMER_OFFSETS, Runtime, RuntimeSettings, partition_for};
use crate::metadata::watcher::ImageHandle;
use crate::replication::replica_manager::ReplicaManager;
use consumer::ConsumerGroupSettings;
use settings::GroupSettings;
use shard::GroupShard;

/// The groups of this broker.
pub type Groups = Arc<Runtime<GroupShard>>;

/// The partition that a group belongs to.
///
/// # Errors
/// NOT_COORDINATOR while there is no topic for groups.
pub fn partition_of(groups: &Groups, group_id: &str) -> Result<i32, ErrorCode> {
    let partitions = groups.partition_count().ok_or(ErrorCode::NotCoordinator)?;
    Ok(partition_for(group_id, partitions))
}

/// The groups of a broker; it has none before [`Runtime::run`].
pub fn start(
    broker_id: BrokerId,
    config: &GroupsConfig,
    (image, replicas): (ImageHandle, Arc<ReplicaManager>),
) -> Groups {
    let settings = RuntimeSettings {
        topic: CONSUMER_OFFSETS,
        commit_timeout: Duration::from_millis(u64::from(config.offsets_commit_timeout_ms)),
        load_buffer_size: usize::try_from(config.offsets_load_buffer_size).unwrap_or(usize::MAX),
        // The numbers were checked when the config was read.
        compression: Compression::from_id(config.offsets_topic_compression_codec)
            .unwrap_or_default(),
    };
    let of_groups = Arc::new(GroupSettings::new(config));
    let of_consumers = Arc::new(ConsumerGroupSettings::new(&config.consumer));
    Runtime::new(settings, (image, replicas), Clock::system(), move |_| {
        GroupShard::new(of_groups.clone())
            .with_consumer_settings(of_consumers.clone())
            .on_broker(broker_id)
    })
}
