//! What Ottla's brokers add to Kafka's Fetch: how far a follower's log is on disk.
//!
//! A tagged field of each partition of the request, number 10000, 8 bytes, big-endian: everything
//! before that offset is on the follower's disk. Kafka has no field of this number, and whoever
//! does not know it passes over it.

use bytes::Bytes;
use ottla_common::kafka::messages::fetch::request::FetchPartition;
use ottla_common::kafka::wire::UnknownTaggedField;

/// The number of the field.
const FLUSHED_OFFSET_TAG: u32 = 10_000;

/// Adds the field.
pub fn set_flushed_offset(partition: &mut FetchPartition, flushed_offset: i64) {
    let data = Bytes::copy_from_slice(&flushed_offset.to_be_bytes());
    partition.unknown_tagged_fields = vec![UnknownTaggedField { tag: FLUSHED_OFFSET_TAG, data }];
}

/// What the field says; -1, so that nothing counts as on disk, if it is not there.
pub fn flushed_offset(partition: &FetchPartition) -> i64 {
    let mut fields = partition.unknown_tagged_fields.iter();
    let field = fields.find(|field| field.tag == FLUSHED_OFFSET_TAG);
    let bytes = field.and_then(|field| <[u8; 8]>::try_from(field.data.as_ref()).ok());
    bytes.map_or(-1, i64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_read_as_it_was_written() {
        let mut partition = FetchPartition::default();
        assert_eq!(flushed_offset(&partition), -1);
        set_flushed_offset(&mut partition, 1234);
        assert_eq!(flushed_offset(&partition), 1234);
        partition.unknown_tagged_fields[0].data = Bytes::from_static(b"short");
        assert_eq!(flushed_offset(&partition), -1);
    }
}
