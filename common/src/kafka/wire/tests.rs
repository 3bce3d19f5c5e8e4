//! The primitives, byte by byte.

use super::*;
use crate::kafka::messages::fetch::FetchRequest;
use crate::kafka::messages::metadata::{MetadataRequest, MetadataResponse};
use crate::kafka::messages::offset_fetch::OffsetFetchRequest;
use crate::kafka::messages::produce::ProduceRequest;
use crate::kafka::messages::records::consumer_group_member_metadata::*;
use crate::kafka::messages::records::transaction_log::TransactionLogValue;

fn reader(bytes: &[u8]) -> Reader {
    Reader::new(Bytes::copy_from_slice(bytes))
}

#[test]
fn varints_are_of_32_bits() {
    for value in [0, 1, 127, 128, 300, 16_384, u32::MAX] {
        let mut writer = Writer::in_memory(5);
        writer.varint(value);
        let bytes = writer.into_bytes().unwrap();
        assert_eq!(Reader::new(bytes).varint(), Ok(value));
    }
    assert_eq!(reader(&[0xff, 0xff, 0xff, 0xff, 0x0f]).varint(), Ok(u32::MAX));
    assert_eq!(reader(&[0xff, 0xff, 0xff, 0xff, 0x10]).varint(), Err(WireError::InvalidVarint));
    assert_eq!(reader(&[0x80; 6]).varint(), Err(WireError::InvalidVarint));
    assert_eq!(reader(&[0x80]).varint(), Err(WireError::Truncated { needed: 1, left: 0 }));
}

#[test]
fn strings_are_bounded_utf_8() {
    assert_eq!(reader(&[0, 2, b'h', b'i']).string(false).unwrap(), "hi");
    assert_eq!(reader(&[3, b'h', b'i']).string(true).unwrap(), "hi");
    assert_eq!(reader(&[0xff, 0xff]).nullable_string(false), Ok(None));
    assert_eq!(reader(&[0]).nullable_string(true), Ok(None));
    assert_eq!(reader(&[0xff, 0xfe]).string(false), Err(WireError::NegativeLength(-2)));
    assert_eq!(reader(&[2, 0xff]).string(true), Err(WireError::InvalidUtf8));
    assert_eq!(reader(&[0]).string(true), Err(WireError::UnexpectedNull("string")));
    let long = KafkaString::from("x".repeat(STRING_SIZE_MAX + 1));
    let too_long = Err(WireError::TooLong(STRING_SIZE_MAX + 1, STRING_SIZE_MAX));
    assert_eq!(Writer::new().string(&long, true), too_long);
}

#[test]
fn a_count_is_compared_with_the_bytes_that_are_left() {
    let error = reader(&[0x7f, 0xff, 0xff, 0xff]).values::<i32>(false).unwrap_err();
    assert_eq!(error, WireError::TooLong(0x7fff_ffff, ARRAY_ELEMENTS_MAX));
    let error = reader(&[0, 0, 0, 2, 0, 0, 0, 1]).values::<i32>(false).unwrap_err();
    assert_eq!(error, WireError::Truncated { needed: 8, left: 4 });
    // The smallest frame that aborted another decoder: a list of 2^31 - 1 topics.
    let error = MetadataRequest::decode(&mut reader(&[0x7f, 0xff, 0xff, 0xff]), 0).unwrap_err();
    assert_eq!(error, WireError::TooLong(0x7fff_ffff, ARRAY_ELEMENTS_MAX));
}

#[test]
fn elements_may_not_outgrow_the_budget() {
    // Strings of no bytes: one byte each on the wire, four words each in memory.
    let mut frame = vec![1; 999_999 + 3];
    frame[..3].copy_from_slice(&[0xc0, 0x84, 0x3d]);
    let frame = Bytes::from(frame);
    let values = Reader::new(frame.clone()).values::<KafkaString>(true).unwrap();
    assert_eq!(values.len(), 999_999);
    let mut reader = Reader::with_budget(frame, 1 << 20);
    assert_eq!(reader.values::<KafkaString>(true), Err(WireError::TooLarge));
}

#[test]
fn unknown_tagged_fields_are_kept_in_order() {
    // Three topics-less fields of Metadata 9, then tags 7 and 3.
    let bytes = [1, 1, 0, 0, 2, 7, 1, 0xaa, 3, 0];
    let request = MetadataRequest::decode(&mut reader(&bytes), 9).unwrap();
    let tags: Vec<u32> = request.unknown_tagged_fields.iter().map(|field| field.tag).collect();
    assert_eq!(tags, [3, 7]);
    assert_eq!(request.to_bytes(9).unwrap(), &[1, 1, 0, 0, 2, 3, 0, 7, 1, 0xaa][..]);
    assert_eq!(
        request.to_bytes(8),
        Err(WireError::NotInVersion("MetadataRequest.unknown_tagged_fields", 8))
    );
    let twice = [1, 1, 0, 0, 2, 7, 0, 7, 0];
    let error = MetadataRequest::decode(&mut reader(&twice), 9).unwrap_err();
    assert_eq!(error, WireError::TaggedOrder(7));
}

#[test]
fn unknown_tagged_fields_stand_among_the_known_ones() {
    let unknown = |tag| UnknownTaggedField { tag, data: Bytes::from_static(b"x") };
    let mut request = FetchRequest {
        cluster_id: Some("c".into()),
        unknown_tagged_fields: vec![unknown(1), unknown(9)],
        ..Default::default()
    };
    request.replica_state.replica_epoch = 5;
    assert_eq!(request.to_bytes(17), Err(WireError::TaggedOrder(1)));
    request.unknown_tagged_fields.remove(0);
    let bytes = request.to_bytes(17).unwrap();
    assert_eq!(bytes.len(), request.encoded_size(17).unwrap());
    assert_eq!(FetchRequest::decode(&mut Reader::new(bytes), 17), Ok(request));
}

#[test]
fn what_a_version_cannot_carry_is_an_error_unless_it_may_be_dropped() {
    let request = OffsetFetchRequest { require_stable: true, ..Default::default() };
    assert_eq!(
        request.to_bytes(6),
        Err(WireError::NotInVersion("OffsetFetchRequest.require_stable", 6))
    );
    assert!(request.to_bytes(7).is_ok());
    let response = MetadataResponse { throttle_time_ms: 5, ..Default::default() };
    assert!(response.to_bytes(0).is_ok());
    let request = MetadataRequest { topics: None, ..Default::default() };
    assert_eq!(request.to_bytes(0), Err(WireError::UnexpectedNull("topics")));
    assert_eq!(request.to_bytes(1).unwrap(), &[0xff; 4][..]);
    let unsupported = Err(WireError::UnsupportedVersion("ProduceRequest", 2));
    assert_eq!(ProduceRequest::default().to_bytes(2), unsupported);
}

#[test]
fn defaults_are_those_of_the_schema() {
    let request = FetchRequest::default();
    assert_eq!((request.replica_id, request.max_bytes), (-1, i32::MAX));
    assert_eq!(request.topics, []);
    assert_eq!(request.cluster_id, None);
    assert!(MetadataRequest::default().allow_auto_topic_creation);
    assert_eq!(MetadataRequest::default().topics, Some(Vec::new()));
}

#[test]
fn a_field_that_is_tagged_from_a_version_on_does_not_exist_before() {
    let value = TransactionLogValue { producer_id: 5, ..Default::default() };
    assert_eq!(value.encoded_size(0), Ok(8 + 2 + 4 + 1 + 4 + 8 + 8));
    let later = TransactionLogValue { previous_producer_id: 4, ..value };
    assert!(later.to_bytes(0).is_err());
    let bytes = later.to_prefixed_bytes(1, 1).unwrap();
    let mut reader = Reader::new(bytes);
    assert_eq!(reader.i16(), Ok(1));
    assert_eq!(TransactionLogValue::decode(&mut reader, 1), Ok(later));
}

#[test]
fn a_structure_may_be_null() {
    for metadata in [None, Some(ClassicMemberMetadata::default())] {
        let value = ConsumerGroupMemberMetadataValue {
            classic_member_metadata: metadata,
            ..Default::default()
        };
        let bytes = value.to_bytes(0).unwrap();
        assert_eq!(ConsumerGroupMemberMetadataValue::decode(&mut Reader::new(bytes), 0), Ok(value));
    }
}
