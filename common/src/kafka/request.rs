//! Requests: the header before each, and what to do with one of an unknown version.

use super::frame::EncodedFrame;
use super::messages::ApiKey;
use super::messages::records::request_header;
use super::response::Response;
use super::wire::{Decode, Encode, KafkaString, Reader, UnknownTaggedField, WireError, Writer};

/// The body of a request.
pub trait Request: Decode + Encode + Default + Send + 'static {
    /// The API.
    const KEY: ApiKey;
    /// The lowest version of the schema. (A broker may advertise a lower one.)
    const MIN_VERSION: i16;
    /// The highest version of the schema.
    const MAX_VERSION: i16;
    /// The first version in compact form with tagged fields, if there is one.
    const FLEXIBLE_FROM: Option<i16>;
    /// Whether the highest version is not to be advertised.
    const LATEST_UNSTABLE: bool;
    /// What answers it.
    type Response: Response;
}

/// What stands before the body of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestHeader {
    /// The API.
    pub api_key: ApiKey,
    /// The version of the body.
    pub api_version: i16,
    /// What the response must begin with.
    pub correlation_id: i32,
    /// The name that the client gave itself.
    pub client_id: Option<KafkaString>,
    /// Tagged fields of the header.
    pub unknown_tagged_fields: Vec<UnknownTaggedField>,
    /// The request is an ApiVersions request of a version that the schema does not have. Its body
    /// must not be decoded; the answer is error 35 in a body of version 0 that lists at least the
    /// range of ApiVersions itself (KIP-511). The connection stays open.
    pub unsupported_api_versions: bool,
}

/// Reads the header of a request and leaves the reader before the body.
///
/// An unknown key, or a version that the schema does not have of any other API than ApiVersions, is
/// an error, upon which the connection must be closed.
pub fn decode_header(reader: &mut Reader) -> Result<RequestHeader, WireError> {
    let (key, api_version) = (reader.i16()?, reader.i16()?);
    let api_key = ApiKey::try_from(key)?;
    let unsupported = !api_key.has_version(api_version);
    if unsupported && api_key != ApiKey::ApiVersions {
        return Err(WireError::UnsupportedVersion(api_key.name(), api_version));
    }
    let correlation_id = reader.i32()?;
    let mut header = RequestHeader {
        api_key,
        api_version,
        correlation_id,
        client_id: None,
        unknown_tagged_fields: Vec::new(),
        unsupported_api_versions: unsupported,
    };
    if unsupported {
        // What follows may be of a form that is not known yet, and nothing of it is needed.
        return Ok(header);
    }
    // Never in the compact form, so that any broker can read any header this far (KIP-511).
    header.client_id = reader.nullable_string(false)?;
    if api_key.request_header_version(api_version) >= 2 {
        header.unknown_tagged_fields = reader.unknown_tagged_fields()?;
    }
    Ok(header)
}

/// A whole request as a frame, length included.
pub fn encode_request<R: Request>(
    version: i16,
    correlation_id: i32,
    client_id: Option<&KafkaString>,
    request: &R,
) -> Result<EncodedFrame, WireError> {
    let header = request_header::RequestHeader {
        request_api_key: R::KEY.code(),
        request_api_version: version,
        correlation_id,
        client_id: client_id.cloned(),
        unknown_tagged_fields: Vec::new(),
    };
    let mut writer = Writer::new();
    writer.i32(0);
    header.encode(&mut writer, R::KEY.request_header_version(version))?;
    request.encode(&mut writer, version)?;
    EncodedFrame::finish(writer)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::kafka::messages::api_versions::ApiVersionsRequest;
    use crate::kafka::messages::heartbeat::HeartbeatRequest;

    fn encoded<R: Request>(version: i16, request: &R) -> Bytes {
        let client_id = KafkaString::from("a client");
        let frame = encode_request(version, 7, Some(&client_id), request).unwrap();
        frame.to_bytes().unwrap().slice(4..)
    }

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let request = HeartbeatRequest { group_id: "g".into(), ..Default::default() };
        for version in HeartbeatRequest::MIN_VERSION..=HeartbeatRequest::MAX_VERSION {
            let mut reader = Reader::new(encoded(version, &request));
            let header = decode_header(&mut reader).unwrap();
            assert_eq!((header.api_key, header.api_version), (ApiKey::Heartbeat, version));
            assert_eq!(header.correlation_id, 7);
            assert_eq!(header.client_id.as_deref(), Some("a client"));
            assert_eq!(HeartbeatRequest::decode(&mut reader, version), Ok(request.clone()));
            assert_eq!(reader.remaining(), 0);
        }
    }

    #[test]
    fn api_versions_of_a_future_version_is_told_from_a_broken_request() {
        let mut bytes = encoded(5, &ApiVersionsRequest::default()).to_vec();
        bytes[2..4].copy_from_slice(&99i16.to_be_bytes());
        let header = decode_header(&mut Reader::new(bytes.clone().into())).unwrap();
        assert!(header.unsupported_api_versions);
        assert_eq!((header.api_version, header.correlation_id), (99, 7));

        bytes[..2].copy_from_slice(&ApiKey::Fetch.code().to_be_bytes());
        let error = decode_header(&mut Reader::new(bytes.clone().into())).unwrap_err();
        assert_eq!(error, WireError::UnsupportedVersion("Fetch", 99));

        bytes[..2].copy_from_slice(&4i16.to_be_bytes());
        let error = decode_header(&mut Reader::new(bytes.into())).unwrap_err();
        assert_eq!(error, WireError::UnknownApiKey(4));
    }
}
