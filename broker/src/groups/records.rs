//! The records of `__consumer_offsets`: committed offsets and classic groups. Those of other kinds
//! of groups stand with them. Formats are Kafka's, byte for byte: the key begins with its type, the
//! value with its version.

use bytes::Bytes;
use ottla_common::kafka::messages::records::group_metadata::{
    GroupMetadataKey, GroupMetadataValue,
};
use ottla_common::kafka::messages::records::offset_commit::{OffsetCommitKey, OffsetCommitValue};
use ottla_common::kafka::wire::{Decode, Reader, WireError};

use super::consumer::records::ConsumerGroupRecord;
use crate::internal_topics::Record;

/// The version that groups are written in: Kafka's highest without compact fields.
const GROUP_VERSION: i16 = 3;

/// The version that offsets are written in.
const OFFSET_VERSION: i16 = 3;

/// The version that offsets are written in that expire by themselves; later ones cannot say so.
const EXPIRING_OFFSET_VERSION: i16 = 1;

/// A record, decoded.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupRecord {
    /// An offset, or that there is none any more.
    Offset(OffsetCommitKey, Option<OffsetCommitValue>),
    /// A classic group, or that it is gone.
    Classic(GroupMetadataKey, Option<GroupMetadataValue>),
    /// One of a consumer group.
    Consumer(ConsumerGroupRecord),
    /// Another type of record: of another kind of group, or of the future.
    Other {
        /// The key's type.
        kind: i16,
    },
}

impl GroupRecord {
    /// Decodes a record.
    ///
    /// # Errors
    /// If its bytes are not what their type and version say.
    pub fn decode(record: &Record) -> Result<Self, WireError> {
        let mut key = Reader::new(record.key.clone());
        let kind = key.i16()?;
        Ok(match kind {
            // The first version of the key is the same but for its number.
            0 | OffsetCommitKey::TYPE => {
                Self::Offset(OffsetCommitKey::decode(&mut key, 0)?, value(record.value.as_ref())?)
            }
            GroupMetadataKey::TYPE => {
                Self::Classic(GroupMetadataKey::decode(&mut key, 0)?, value(record.value.as_ref())?)
            }
            kind => match ConsumerGroupRecord::decode(record)? {
                Some(record) => Self::Consumer(record),
                None => Self::Other { kind },
            },
        })
    }

    /// Encodes a record as Kafka does.
    ///
    /// # Errors
    /// A text that no request can carry, or [`GroupRecord::Other`].
    pub fn encode(&self) -> Result<Record, WireError> {
        match self {
            Self::Offset(key, None) => Record::tombstone((OffsetCommitKey::TYPE, key)),
            Self::Offset(key, Some(value)) => {
                let expires = value.expire_timestamp != -1;
                let version = if expires { EXPIRING_OFFSET_VERSION } else { OFFSET_VERSION };
                Record::new((OffsetCommitKey::TYPE, key), (version, value))
            }
            Self::Classic(key, None) => Record::tombstone((GroupMetadataKey::TYPE, key)),
            Self::Classic(key, Some(value)) => {
                Record::new((GroupMetadataKey::TYPE, key), (GROUP_VERSION, value))
            }
            Self::Consumer(record) => record.encode(),
            Self::Other { .. } => Err(WireError::UnsupportedVersion("record of a group", -1)),
        }
    }
}

fn value<T: Decode>(bytes: Option<&Bytes>) -> Result<Option<T>, WireError> {
    let Some(bytes) = bytes else { return Ok(None) };
    let mut reader = Reader::new(bytes.clone());
    let version = reader.i16()?;
    T::decode(&mut reader, version).map(Some)
}

#[cfg(test)]
mod tests {
    use ottla_common::kafka::messages::records::group_metadata::MemberMetadata;

    use super::*;

    #[test]
    fn an_offset_has_the_bytes_that_kafka_writes() {
        let key = OffsetCommitKey { group: "g".into(), topic: "t".into(), partition: 2 };
        let value = OffsetCommitValue {
            offset: 7,
            leader_epoch: 3,
            metadata: "m".into(),
            commit_timestamp: 258,
            ..OffsetCommitValue::default()
        };
        let record = GroupRecord::Offset(key.clone(), Some(value)).encode().unwrap();
        assert_eq!(&*record.key, b"\0\x01\0\x01g\0\x01t\0\0\0\x02");
        let expected = b"\0\x03\0\0\0\0\0\0\0\x07\0\0\0\x03\0\x01m\0\0\0\0\0\0\x01\x02";
        assert_eq!(record.value.as_deref(), Some(&expected[..]));
        let gone = GroupRecord::Offset(key, None);
        assert_eq!(GroupRecord::decode(&gone.encode().unwrap()).unwrap(), gone);
    }

    #[test]
    fn an_offset_that_expires_is_written_in_the_version_that_says_when() {
        let value = OffsetCommitValue { expire_timestamp: 9, ..OffsetCommitValue::default() };
        let record = GroupRecord::Offset(OffsetCommitKey::default(), Some(value)).encode().unwrap();
        assert_eq!(record.value.unwrap()[..2], [0, 1]);
    }

    #[test]
    fn a_group_comes_back_as_it_was_written() {
        let key = GroupMetadataKey { group: "g".into() };
        let member = MemberMetadata {
            member_id: "c-1".into(),
            group_instance_id: Some("i".into()),
            rebalance_timeout: 5,
            session_timeout: 6,
            subscription: Bytes::from_static(b"s"),
            assignment: Bytes::from_static(b"a"),
            ..MemberMetadata::default()
        };
        let value = GroupMetadataValue {
            protocol_type: "consumer".into(),
            generation: 4,
            current_state_timestamp: 11,
            members: vec![member],
            ..GroupMetadataValue::default()
        };
        let group = GroupRecord::Classic(key, Some(value));
        let record = group.encode().unwrap();
        assert_eq!(record.value.as_deref().unwrap()[..2], [0, 3]);
        assert_eq!(GroupRecord::decode(&record).unwrap(), group);
    }

    #[test]
    fn records_of_other_types_are_told_and_broken_ones_refused() {
        let other = Record { key: Bytes::from_static(b"\0\x63abc"), value: None };
        assert_eq!(GroupRecord::decode(&other).unwrap(), GroupRecord::Other { kind: 0x63 });
        let cut = Record { key: Bytes::from_static(b"\0\x01\0\x05g"), value: None };
        assert!(GroupRecord::decode(&cut).is_err());
    }
}
