//! Responses: the header before each.

use bytes::Bytes;

use super::frame::EncodedFrame;
use super::messages::ApiKey;
use super::wire::{Decode, Encode, Reader, WireError, Writer};

/// The body of a response.
pub trait Response: Decode + Encode + Default + Send + 'static {
    /// The API.
    const KEY: ApiKey;

    /// Where it tells the client how long it will not be read from, in milliseconds, if it can.
    fn throttle_time_ms_mut(&mut self) -> Option<&mut i32> {
        None
    }
}

/// A whole response as a frame, length included. `version` is that of the request.
pub fn encode_response<R: Response>(
    version: i16,
    correlation_id: i32,
    response: &R,
) -> Result<EncodedFrame, WireError> {
    let mut writer = Writer::new();
    writer.i32(0);
    writer.i32(correlation_id);
    if R::KEY.response_header_version(version) >= 1 {
        writer.unknown_tagged_fields(&[])?;
    }
    response.encode(&mut writer, version)?;
    EncodedFrame::finish(writer)
}

/// Reads the header before a response of `version`; gives back the correlation id.
pub fn decode_header(reader: &mut Reader, api_key: ApiKey, version: i16) -> Result<i32, WireError> {
    let correlation_id = reader.i32()?;
    if api_key.response_header_version(version) >= 1 {
        reader.unknown_tagged_fields()?;
    }
    Ok(correlation_id)
}

/// Reads a whole response, without the length; gives back the correlation id too.
pub fn decode_response<R: Response>(frame: Bytes, version: i16) -> Result<(i32, R), WireError> {
    let mut reader = Reader::new(frame);
    let correlation_id = decode_header(&mut reader, R::KEY, version)?;
    Ok((correlation_id, R::decode(&mut reader, version)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::messages::api_versions::ApiVersionsResponse;
    use crate::kafka::messages::fetch::FetchResponse;
    use crate::kafka::messages::fetch::response::{FetchableTopicResponse, PartitionData};
    use crate::kafka::wire::{Records, Segment};

    #[test]
    fn the_header_of_api_versions_never_has_tagged_fields() {
        let frame = encode_response(4, 9, &ApiVersionsResponse::default()).unwrap();
        // Length, correlation id, and then the error code at once.
        assert_eq!(frame.to_bytes().unwrap()[4..10], [0, 0, 0, 9, 0, 0]);
        let frame = encode_response(12, 9, &FetchResponse::default()).unwrap();
        assert_eq!(frame.to_bytes().unwrap()[4..9], [0, 0, 0, 9, 0]);
    }

    #[test]
    fn records_are_sent_from_where_they_are() {
        let records = Bytes::from(vec![7; 1 << 20]);
        let partition =
            PartitionData { records: Some(Records::Bytes(records.clone())), ..Default::default() };
        let topic = FetchableTopicResponse {
            topic: "t".into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let response = FetchResponse { responses: vec![topic], ..Default::default() };
        let frame = encode_response(12, 9, &response).unwrap();
        let [Segment::Bytes(_), Segment::Bytes(sent), Segment::Bytes(_)] = &frame.segments[..]
        else {
            panic!("not three segments");
        };
        assert_eq!(sent.as_ptr(), records.as_ptr());
        assert_eq!(frame.size, frame.segments.iter().map(Segment::len).sum::<usize>());

        let bytes = frame.to_bytes().unwrap().slice(4..);
        let (correlation_id, decoded) = decode_response::<FetchResponse>(bytes, 12).unwrap();
        assert_eq!((correlation_id, decoded), (9, response));
    }
}
