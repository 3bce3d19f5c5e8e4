//! Stories of one connection, with a broker's end in the hands of the test.

use bytes::BytesMut;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::kafka::error_code::ErrorCode;
use crate::kafka::messages::ApiKey;
use crate::kafka::messages::api_versions::response::ApiVersion;
use crate::kafka::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::kafka::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::kafka::request::{Request, RequestHeader, decode_header};
use crate::kafka::response::{Response, encode_response};
use crate::kafka::wire::{Decode, Reader};

/// The broker's end of a connection, in the hands of a test.
struct FakeBroker {
    stream: DuplexStream,
}

impl FakeBroker {
    /// The next request. `None` if the client has hung up.
    async fn receive(&mut self) -> Option<(RequestHeader, Reader)> {
        let length = self.stream.read_i32().await.ok()?;
        let mut frame = BytesMut::zeroed(usize::try_from(length).unwrap());
        self.stream.read_exact(&mut frame).await.unwrap();
        let mut reader = Reader::new(frame.freeze());
        Some((decode_header(&mut reader).unwrap(), reader))
    }

    async fn answer(&mut self, version: i16, correlation_id: i32, response: &impl Response) {
        let frame = encode_response(version, correlation_id, response).unwrap();
        self.stream.write_all(&frame.to_bytes().unwrap()).await.unwrap();
    }

    async fn answer_api_versions(&mut self) {
        let (header, _) = self.receive().await.unwrap();
        assert_eq!(header.api_key, ApiKey::ApiVersions);
        self.answer(header.api_version, header.correlation_id, &offered(ErrorCode::None)).await;
    }

    async fn receive_heartbeat(&mut self) -> (RequestHeader, HeartbeatRequest) {
        let (header, mut reader) = self.receive().await.unwrap();
        let request = HeartbeatRequest::decode(&mut reader, header.api_version).unwrap();
        (header, request)
    }

    async fn answer_heartbeat(&mut self, header: &RequestHeader, throttle_time_ms: i32) {
        let response = HeartbeatResponse { throttle_time_ms, ..Default::default() };
        self.answer(header.api_version, header.correlation_id, &response).await;
    }
}

fn offered(error: ErrorCode) -> ApiVersionsResponse {
    let range = |api_key: ApiKey, min_version, max_version| ApiVersion {
        api_key: api_key.code(),
        min_version,
        max_version,
        ..Default::default()
    };
    ApiVersionsResponse {
        error_code: error.code(),
        api_keys: vec![range(ApiKey::Heartbeat, 0, 3), range(ApiKey::ApiVersions, 0, 2)],
        ..Default::default()
    }
}

fn stream() -> (DuplexStream, FakeBroker) {
    let (client, broker) = tokio::io::duplex(1 << 16);
    (client, FakeBroker { stream: broker })
}

async fn connected(options: ClientOptions) -> (Connection, FakeBroker) {
    let (client, mut broker) = stream();
    let connect = Connection::from_stream(client, "broker:9092", &options);
    let (connection, ()) = tokio::join!(connect, broker.answer_api_versions());
    (connection.unwrap(), broker)
}

fn heartbeat(generation_id: i32) -> HeartbeatRequest {
    HeartbeatRequest { generation_id, ..Default::default() }
}

#[tokio::test]
async fn requests_are_pipelined_and_answers_go_to_who_asked() {
    let (connection, mut broker) = connected(ClientOptions::named("me")).await;
    assert_eq!(connection.version_of::<HeartbeatRequest>(i16::MAX).unwrap(), 3);
    let mut pending = Vec::new();
    for generation_id in 0..5 {
        pending.push(connection.dispatch(i16::MAX, &heartbeat(generation_id)).await.unwrap());
    }
    let mut headers = Vec::new();
    for generation_id in 0..5 {
        let (header, request) = broker.receive_heartbeat().await;
        assert_eq!(request.generation_id, generation_id, "in the order of dispatching");
        assert_eq!(header.client_id.as_deref(), Some("me"));
        headers.push(header);
    }
    for (header, throttle) in headers.iter().zip(0..) {
        broker.answer_heartbeat(header, throttle).await;
    }
    // Waited for in another order than they were asked in.
    pending.reverse();
    let answers = join_all(pending).await;
    let answers: Vec<i32> = answers.into_iter().map(|a| a.unwrap().throttle_time_ms).collect();
    assert_eq!(answers, [4, 3, 2, 1, 0]);
}

#[tokio::test]
async fn the_number_in_flight_is_bounded() {
    let options = ClientOptions { in_flight_max: 2, ..ClientOptions::default() };
    let (connection, mut broker) = connected(options).await;
    let _first = connection.dispatch(i16::MAX, &heartbeat(1)).await.unwrap();
    let _second = connection.dispatch(i16::MAX, &heartbeat(2)).await.unwrap();
    let request = heartbeat(3);
    let mut third = Box::pin(connection.dispatch(i16::MAX, &request));
    assert!(futures_util::poll!(third.as_mut()).is_pending());
    let (header, _) = broker.receive_heartbeat().await;
    broker.answer_heartbeat(&header, 0).await;
    third.await.unwrap();
}

#[tokio::test]
async fn an_old_broker_is_asked_again_in_its_own_version() {
    let (client, mut broker) = stream();
    let broker = async {
        let (header, _) = broker.receive().await.unwrap();
        assert_eq!(header.api_version, ApiVersionsRequest::MAX_VERSION);
        // The error comes in a body of version 0, which names the range of ApiVersions.
        broker.answer(0, header.correlation_id, &offered(ErrorCode::UnsupportedVersion)).await;
        let (header, _) = broker.receive().await.unwrap();
        assert_eq!(header.api_version, 2);
        broker.answer(2, header.correlation_id, &offered(ErrorCode::None)).await;
    };
    let options = ClientOptions::default();
    let (connection, ()) =
        tokio::join!(Connection::from_stream(client, "broker:9092", &options), broker);
    assert_eq!(connection.unwrap().versions().offered(ApiKey::Heartbeat), Some((0, 3)));
}

#[tokio::test]
async fn a_broker_that_names_no_versions_is_asked_in_the_lowest() {
    let (client, mut broker) = stream();
    let broker = async {
        let error_code = ErrorCode::UnsupportedVersion.code();
        let nothing = ApiVersionsResponse { error_code, ..Default::default() };
        for version in [ApiVersionsRequest::MAX_VERSION, 0] {
            let (header, _) = broker.receive().await.unwrap();
            assert_eq!(header.api_version, version);
            broker.answer(0, header.correlation_id, &nothing).await;
        }
    };
    let options = ClientOptions::default();
    let (connection, ()) =
        tokio::join!(Connection::from_stream(client, "broker:9092", &options), broker);
    assert!(matches!(connection, Err(ClientError::UnsupportedVersion { .. })));
}

#[tokio::test]
async fn what_the_broker_does_not_offer_is_not_sent() {
    let (connection, _broker) = connected(ClientOptions::default()).await;
    let error = connection
        .send(&crate::kafka::messages::list_groups::ListGroupsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the broker at broker:9092 does not offer ListGroups in a version that this client \
         speaks (0 to 5); the broker offers none"
    );
}

#[tokio::test]
async fn when_the_broker_hangs_up_everyone_is_told() {
    let (connection, broker) = connected(ClientOptions::default()).await;
    let first = connection.dispatch(i16::MAX, &heartbeat(1)).await.unwrap();
    let second = connection.dispatch(i16::MAX, &heartbeat(2)).await.unwrap();
    drop(broker);
    for pending in [first, second] {
        let error = pending.await.unwrap_err();
        assert!(matches!(error, ClientError::Disconnected { .. }), "{error}");
        assert!(error.is_retriable() && error.is_ambiguous());
    }
    assert!(connection.is_closed());
    assert!(connection.send(&heartbeat(3)).await.is_err());
}

#[tokio::test]
async fn an_answer_to_another_request_ends_the_connection() {
    let (connection, mut broker) = connected(ClientOptions::default()).await;
    let pending = connection.dispatch(i16::MAX, &heartbeat(1)).await.unwrap();
    let (header, _) = broker.receive_heartbeat().await;
    broker.answer(3, header.correlation_id + 1, &HeartbeatResponse::default()).await;
    let error = pending.await.unwrap_err();
    assert!(error.to_string().contains("the correlation id of another"), "{error}");
    assert!(connection.send(&heartbeat(2)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_ends_the_connection_after_the_timeout() {
    let options = ClientOptions { request_timeout_ms: 1_000, ..ClientOptions::default() };
    let (connection, mut broker) = connected(options).await;
    let first = connection.dispatch(i16::MAX, &heartbeat(1)).await.unwrap();
    let second = connection.dispatch(i16::MAX, &heartbeat(2)).await.unwrap();
    let start = tokio::time::Instant::now();
    let (header, _) = broker.receive_heartbeat().await;
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    broker.answer_heartbeat(&header, 0).await;
    first.await.unwrap();
    let error = second.await.unwrap_err();
    assert_eq!(error.to_string(), "broker:9092 did not answer Heartbeat within 1000 ms");
    assert_eq!(start.elapsed().as_millis(), 1_000);
    assert!(connection.is_closed());
}

#[tokio::test]
async fn an_answer_beyond_the_limit_ends_the_connection() {
    let options = ClientOptions { response_bytes_max: 1_000, ..ClientOptions::default() };
    let (connection, mut broker) = connected(options).await;
    let pending = connection.dispatch(i16::MAX, &heartbeat(1)).await.unwrap();
    broker.stream.write_all(&1_001i32.to_be_bytes()).await.unwrap();
    let error = pending.await.unwrap_err();
    assert!(error.to_string().contains("1001 bytes is beyond the 1000"), "{error}");
}

#[tokio::test]
async fn large_records_are_written_whole() {
    use crate::kafka::messages::heartbeat::HeartbeatRequest as Small;
    let (connection, mut broker) = connected(ClientOptions::default()).await;
    // More than the stream between the two takes at once, so that writes are partial.
    let text = "x".repeat(30_000);
    let request = Small { group_id: text.as_str().into(), ..Default::default() };
    let mut pending = Vec::new();
    for _ in 0..20 {
        pending.push(connection.dispatch(i16::MAX, &request).await.unwrap());
    }
    for _ in 0..20 {
        let (header, received) = broker.receive_heartbeat().await;
        assert_eq!(&*received.group_id, text);
        broker.answer_heartbeat(&header, 0).await;
    }
    for answer in join_all(pending).await {
        answer.unwrap();
    }
}

#[tokio::test]
async fn addresses_must_have_a_port() {
    for address in ["localhost", "localhost:", ":9092", "localhost:0", "localhost:99999"] {
        let error = Connection::connect(address, &ClientOptions::default()).await.unwrap_err();
        assert!(matches!(error, ClientError::InvalidAddress { .. }), "{address}: {error}");
    }
    // A port that nobody listens on, for it was just given back.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = Connection::connect(&address, &ClientOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("check the address"), "{error}");
}
