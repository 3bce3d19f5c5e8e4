//! Which replica a consumer should read from (KIP-392): one in its own rack. Pure.

use ottla_common::types::BrokerId;

use crate::metadata::image::MetadataImage;

/// Kafka's name for this rule, as it stands in `replica.selector.class`.
pub const RACK_AWARE_SELECTOR: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";

/// An in-sync follower, and where its log ends.
pub type Candidate = (BrokerId, i64);

/// The follower that a consumer in `rack` should read from at `offset`: of those in its rack that
/// have the offset, the one that has most. `None` if the leader is in that rack itself, or nobody
/// is.
pub fn preferred(
    image: &MetadataImage,
    (leader, in_sync): (BrokerId, &[Candidate]),
    rack: &str,
    offset: i64,
) -> Option<BrokerId> {
    let is_in_rack = |id: &BrokerId| {
        let broker = image.brokers.get(id).filter(|broker| !broker.shutting_down);
        broker.and_then(|broker| broker.rack.as_deref()) == Some(rack)
    };
    if is_in_rack(&leader) {
        return None;
    }
    let near = in_sync.iter().filter(|(id, end)| *end >= offset && is_in_rack(id));
    // Of equals the one with the smallest number, so that all brokers say the same.
    near.max_by_key(|(id, end)| (*end, std::cmp::Reverse(*id))).map(|(id, _)| *id)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::metadata::image::BrokerImage;

    /// Broker 1 leads from rack a; 2 and 3 are in b, 4 in c.
    fn image() -> MetadataImage {
        let mut image = MetadataImage::default();
        for (id, rack) in [(1, "a"), (2, "b"), (3, "b"), (4, "c")] {
            let id = BrokerId(id);
            let broker = BrokerImage {
                id,
                broker_epoch: 1,
                listeners: Vec::new(),
                rack: Some(rack.to_owned()),
                shutting_down: false,
            };
            image.brokers.insert(id, Arc::new(broker));
        }
        image
    }

    fn asked(rack: &str, offset: i64) -> Option<i32> {
        let in_sync = [(BrokerId(2), 10), (BrokerId(3), 12), (BrokerId(4), 5)];
        preferred(&image(), (BrokerId(1), &in_sync), rack, offset).map(|id| id.0)
    }

    #[test]
    fn the_one_in_the_rack_that_has_most() {
        assert_eq!(asked("b", 0), Some(3));
        assert_eq!(asked("c", 5), Some(4));
    }

    #[test]
    fn nobody_if_the_leader_is_near_or_no_follower_has_the_offset() {
        assert_eq!(asked("a", 0), None);
        assert_eq!(asked("c", 6), None);
        assert_eq!(asked("d", 0), None);
    }
}
