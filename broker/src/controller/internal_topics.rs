//! The topics that brokers make for themselves, when they are first needed.

use ottla_common::kafka::error_code::ErrorCode;

use super::admin::{AdminError, ClusterAdmin, TopicSpec};
use crate::limits::REPLICATION_FACTOR_MAX;

impl ClusterAdmin {
    /// Makes the topic of groups, unless it is there. It has as many replicas as are configured and
    /// as there are brokers for.
    pub async fn ensure_offsets_topic(&self, name: &str) -> Result<(), AdminError> {
        let image = self.image.load();
        if image.topic(name).is_some() {
            return Ok(());
        }
        let live = image.brokers.keys().filter(|broker| image.takes_replicas(**broker)).count();
        let live = live.min(REPLICATION_FACTOR_MAX);
        let possible = i16::try_from(live).unwrap_or(i16::MAX);
        let config = &self.config.groups;
        let configs = [
            ("cleanup.policy", "compact".to_owned()),
            ("compression.type", "producer".to_owned()),
            ("segment.bytes", config.offsets_topic_segment_bytes.to_string()),
        ];
        let spec = TopicSpec {
            name: name.to_owned(),
            partitions: config.offsets_topic_num_partitions,
            replication_factor: config.offsets_topic_replication_factor.min(possible),
            configs: configs.map(|(key, value)| (key.to_owned(), Some(value))).into(),
            ..TopicSpec::default()
        };
        match self.create_topic(spec, false).await {
            Ok(_) => Ok(()),
            Err(error) if error.code == ErrorCode::TopicAlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }
}
