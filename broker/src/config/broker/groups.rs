//! The configs of groups, offsets and their topic.

use super::{Problem, Read};

/// How groups are kept. Keys are named in the fields' words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupsConfig {
    /// `group.initial.rebalance.delay.ms`.
    pub group_initial_rebalance_delay_ms: u64,
    /// `group.min.session.timeout.ms`.
    pub group_min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub group_max_session_timeout_ms: i32,
    /// `group.max.size`.
    pub group_max_size: u32,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_max_bytes: u32,
    /// `offsets.commit.timeout.ms`.
    pub offsets_commit_timeout_ms: u32,
    /// `offsets.load.buffer.size`, in bytes.
    pub offsets_load_buffer_size: u32,
    /// `offsets.retention.minutes`.
    pub offsets_retention_minutes: u32,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval_ms: u64,
    /// `offsets.topic.compression.codec`, as its number.
    pub offsets_topic_compression_codec: i16,
    /// `offsets.topic.num.partitions`.
    pub offsets_topic_num_partitions: i32,
    /// `offsets.topic.replication.factor`.
    pub offsets_topic_replication_factor: i16,
    /// `offsets.topic.segment.bytes`.
    pub offsets_topic_segment_bytes: u32,
}

impl GroupsConfig {
    pub(super) fn read(read: &Read<'_>) -> Result<Self, Problem> {
        let codec = "offsets.topic.compression.codec";
        Ok(Self {
            group_initial_rebalance_delay_ms: read.u64("group.initial.rebalance.delay.ms"),
            group_min_session_timeout_ms: read.i32("group.min.session.timeout.ms"),
            group_max_session_timeout_ms: read.i32("group.max.session.timeout.ms"),
            group_max_size: read.u32("group.max.size"),
            offset_metadata_max_bytes: read.u32("offset.metadata.max.bytes"),
            offsets_commit_timeout_ms: read.u32("offsets.commit.timeout.ms"),
            offsets_load_buffer_size: read.u32("offsets.load.buffer.size"),
            offsets_retention_minutes: read.u32("offsets.retention.minutes"),
            offsets_retention_check_interval_ms: read.u64("offsets.retention.check.interval.ms"),
            offsets_topic_compression_codec: match i16::try_from(read.i64(codec)) {
                Ok(number @ 0..=4) => number,
                _ => return Err(Problem::new(codec, "is not the number of a codec, 0 to 4")),
            },
            offsets_topic_num_partitions: read.i32("offsets.topic.num.partitions"),
            offsets_topic_replication_factor: {
                let factor = read.i64("offsets.topic.replication.factor");
                i16::try_from(factor).unwrap_or(i16::MAX)
            },
            offsets_topic_segment_bytes: read.u32("offsets.topic.segment.bytes"),
        })
    }
}
