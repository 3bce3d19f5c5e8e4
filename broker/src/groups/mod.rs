//! Groups and their offsets: what Kafka calls the group coordinator. Pure state machines, run by
//! `internal_topics` over the partitions of `__consumer_offsets`.
//!
//! `shard` owns the groups of one partition; `classic` is the classic protocol, `offsets` what was
//! committed, `records` the formats in the log. Handlers go through [`Groups`].

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod classic;
pub mod offsets;
pub mod records;
pub mod settings;
pub mod shard;

use std::sync::Arc;

use ottla_common::kafka::error_code::ErrorCode;

use crate::internal_topics::{Runtime, partition_for};
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
