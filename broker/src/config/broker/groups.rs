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
    /// `group.consumer.*`.
    pub consumer: ConsumerGroupsConfig,
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
            consumer: ConsumerGroupsConfig::read(read)?,
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

/// How groups of the consumer protocol (KIP-848) are kept: `group.consumer.` and the fields' words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupsConfig {
    /// `assignors`, by their names, the default first.
    pub assignors: Vec<String>,
    /// `assignment.interval.ms`.
    pub assignment_interval_ms: i32,
    /// `heartbeat.interval.ms`.
    pub heartbeat_interval_ms: i32,
    /// `session.timeout.ms`.
    pub session_timeout_ms: i32,
    /// `max.size`.
    pub max_size: u32,
    /// Whether `migration.policy` lets a classic group become one of consumers.
    pub may_upgrade: bool,
    /// Whether `migration.policy` lets a group of consumers become a classic one.
    pub may_downgrade: bool,
}

impl ConsumerGroupsConfig {
    fn read(read: &Read<'_>) -> Result<Self, Problem> {
        let assignors = "group.consumer.assignors";
        let named = read.list(assignors).into_iter().map(|name| {
            // Kafka takes the names of its own classes as well.
            let name = match name.rsplit('.').next() {
                Some("UniformAssignor") => "uniform".to_owned(),
                Some("RangeAssignor") => "range".to_owned(),
                _ => name,
            };
            let is_known = ["uniform", "range"].contains(&name.as_str());
            let unknown = || Problem::new(assignors, "offers an assignor that is not built in");
            is_known.then_some(name).ok_or_else(unknown)
        });
        let named: Vec<String> = named.collect::<Result<_, _>>()?;
        if named.is_empty() {
            return Err(Problem::new(assignors, "offers no assignor"));
        }
        let policy = read.text("group.consumer.migration.policy").to_ascii_lowercase();
        Ok(Self {
            assignors: named,
            assignment_interval_ms: read.i32("group.consumer.assignment.interval.ms"),
            heartbeat_interval_ms: read.bounded("heartbeat.interval.ms")?,
            session_timeout_ms: read.bounded("session.timeout.ms")?,
            max_size: read.u32("group.consumer.max.size"),
            may_upgrade: ["upgrade", "bidirectional"].contains(&policy.as_str()),
            may_downgrade: ["downgrade", "bidirectional"].contains(&policy.as_str()),
        })
    }
}

impl Read<'_> {
    /// A time that every group has, and that lies between what a single one may be given.
    fn bounded(&self, name: &str) -> Result<i32, Problem> {
        let of = |prefix: &str| self.i32(&format!("group.consumer.{prefix}{name}"));
        let value = of("");
        if (of("min.")..=of("max.")).contains(&value) {
            return Ok(value);
        }
        let key = match name {
            "session.timeout.ms" => "group.consumer.session.timeout.ms",
            _ => "group.consumer.heartbeat.interval.ms",
        };
        Err(Problem::new(key, "is not between the least and the most that a group may be given"))
    }
}
