//! The handle of a connection: negotiation, requests, answers.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout};

use super::ClientOptions;
use super::error::ClientError;
use super::transport::{InFlight, Shared};
use super::versions::ApiVersionRanges;
use crate::kafka::error_code::ErrorCode;
use crate::kafka::frame::EncodedFrame;
use crate::kafka::messages::ApiKey;
use crate::kafka::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::kafka::request::{Request, encode_request};
use crate::kafka::response::{decode_header, decode_response};
use crate::kafka::wire::{Decode, KafkaString, Reader, Segment, WireError};

/// A connection to a broker. Clones share it; it is closed when the last one is dropped, or when it
/// fails, and then stays so: [`super::super::cluster::Cluster`] makes another.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    places: Arc<Semaphore>,
    client_id: KafkaString,
    versions: ApiVersionRanges,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Connection").field(&self.inner.shared.address).finish()
    }
}

impl Connection {
    /// Connects to `address` (`host:port`) and asks for the versions that the broker offers.
    ///
    /// # Errors
    /// `Connect`, `TimedOut`, or what the negotiation failed with.
    pub async fn connect(address: &str, options: &ClientOptions) -> Result<Self, ClientError> {
        let timeout_ms = options.connect_timeout_ms;
        let connect = async {
            let first = Self::from_stream(open(address).await?, address, options).await;
            match first {
                // There are servers that hang up on an ApiVersions that they do not know.
                Err(ClientError::Disconnected { .. }) => {
                    let stream = open(address).await?;
                    Self::negotiate(stream, address, options, &[0]).await
                }
                first => first,
            }
        };
        match timeout(Duration::from_millis(timeout_ms), connect).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::Connect {
                address: address.to_owned(),
                reason: format!("no connection within {timeout_ms} ms"),
            }),
        }
    }

    /// Makes a connection of a stream that leads to a broker.
    ///
    /// # Errors
    /// What the negotiation failed with.
    pub async fn from_stream<S>(
        stream: S,
        address: &str,
        options: &ClientOptions,
    ) -> Result<Self, ClientError>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        Self::negotiate(stream, address, options, &[ApiVersionsRequest::MAX_VERSION, 0]).await
    }

    /// Asks for the versions with the first of `attempts`; if the broker does not know it, with the
    /// highest one that the broker names, or else with the next of `attempts` (KIP-511).
    async fn negotiate<S>(
        stream: S,
        address: &str,
        options: &ClientOptions,
        attempts: &[i16],
    ) -> Result<Self, ClientError>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let shared = Shared::start(address.to_owned(), stream, options);
        let mut connection = Inner {
            shared,
            places: Arc::new(Semaphore::new(options.in_flight_max.max(1))),
            client_id: KafkaString::from(options.client_id.as_str()),
            versions: ApiVersionRanges::default(),
        };
        let request = ApiVersionsRequest {
            client_software_name: options.software_name.as_str().into(),
            client_software_version: options.software_version.as_str().into(),
            ..ApiVersionsRequest::default()
        };
        let mut attempts = attempts.iter().copied();
        let mut version = attempts.next().unwrap_or(0);
        loop {
            let frame = connection.dispatch(version, &request).await?.frame().await?;
            let response = decode_api_versions(frame, version)
                .map_err(|error| connection.wire_error(ApiKey::ApiVersions, error))?;
            let offered = ApiVersionRanges::new(&response);
            let error = ErrorCode::from_code(response.error_code);
            if error != ErrorCode::UnsupportedVersion {
                ClientError::check(|| format!("ApiVersions of {address}"), error, None::<&str>)?;
                connection.versions = offered;
                return Ok(Self { inner: Arc::new(connection) });
            }
            let lower = |next: &i16| *next < version;
            let named = offered.best::<ApiVersionsRequest>(i16::MAX).filter(lower);
            version = match named.or_else(|| attempts.next().filter(lower)) {
                Some(next) => next,
                None => return Err(connection.unsupported::<ApiVersionsRequest>(&offered)),
            };
        }
    }

    /// The address it leads to.
    pub fn address(&self) -> &str {
        &self.inner.shared.address
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        self.inner.shared.is_closed()
    }

    /// Ends it; what is in flight fails.
    pub fn close(&self) {
        self.inner.shared.fail("it was closed");
    }

    /// What the broker offers.
    pub fn versions(&self) -> &ApiVersionRanges {
        &self.inner.versions
    }

    /// The highest version of a request that both sides speak, at most `limit`.
    ///
    /// # Errors
    /// `UnsupportedVersion`.
    pub fn version_of<R: Request>(&self, limit: i16) -> Result<i16, ClientError> {
        let version = self.inner.versions.best::<R>(limit);
        version.ok_or_else(|| self.inner.unsupported::<R>(&self.inner.versions))
    }

    /// Sends a request and waits for the answer.
    ///
    /// # Errors
    /// If there is no answer, or none that can be read. Error codes inside of answers are data.
    pub async fn send<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        self.dispatch(i16::MAX, request).await?.await
    }

    /// Sends a request, in at most version `version_max`, and hands back the answer to come. Waits
    /// while as many requests as allowed are in flight. What one task dispatches goes out in that
    /// order.
    ///
    /// # Errors
    /// If the connection has ended, or the request cannot be encoded.
    pub async fn dispatch<R: Request>(
        &self,
        version_max: i16,
        request: &R,
    ) -> Result<Pending<R>, ClientError> {
        self.inner.dispatch(self.version_of::<R>(version_max)?, request).await
    }

    /// Sends a request that has no answer: Produce with acks=0.
    ///
    /// # Errors
    /// If the connection has ended, or the request cannot be encoded.
    pub async fn dispatch_unanswered<R: Request>(
        &self,
        version_max: i16,
        request: &R,
    ) -> Result<(), ClientError> {
        let version = self.version_of::<R>(version_max)?;
        let inner = &self.inner;
        let _place = inner.place(R::KEY).await?;
        inner.shared.enqueue(R::KEY.name(), |id| inner.encode(version, id, request), |_| None)
    }
}

impl Inner {
    async fn dispatch<R: Request>(
        &self,
        version: i16,
        request: &R,
    ) -> Result<Pending<R>, ClientError> {
        let place = self.place(R::KEY).await?;
        let (answer, receiver) = oneshot::channel();
        let in_flight = |correlation_id| {
            let deadline = Instant::now() + self.shared.request_timeout;
            Some(InFlight { correlation_id, api: R::KEY.name(), deadline, answer, _place: place })
        };
        self.shared.enqueue(R::KEY.name(), |id| self.encode(version, id, request), in_flight)?;
        let shared = Arc::clone(&self.shared);
        Ok(Pending { receiver, shared, version, request: PhantomData })
    }

    async fn place(&self, key: ApiKey) -> Result<OwnedSemaphorePermit, ClientError> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        place.map_err(|_| self.disconnected(key))
    }

    fn encode<R: Request>(
        &self,
        version: i16,
        correlation_id: i32,
        request: &R,
    ) -> Result<EncodedFrame, ClientError> {
        let frame = encode_request(version, correlation_id, Some(&self.client_id), request)
            .map_err(|error| self.wire_error(R::KEY, error))?;
        if frame.segments.iter().any(|segment| matches!(segment, Segment::File(_))) {
            return Err(self.wire_error(R::KEY, WireError::FileInMemory));
        }
        Ok(frame)
    }

    fn wire_error(&self, key: ApiKey, error: WireError) -> ClientError {
        ClientError::Wire { address: self.shared.address.clone(), api: key.name(), error }
    }

    fn disconnected(&self, key: ApiKey) -> ClientError {
        let reason = "it was closed".to_owned();
        ClientError::Disconnected { address: self.shared.address.clone(), api: key.name(), reason }
    }

    fn unsupported<R: Request>(&self, offered: &ApiVersionRanges) -> ClientError {
        ClientError::UnsupportedVersion {
            address: self.shared.address.clone(),
            api: R::KEY.name(),
            supported: format!("{} to {}", R::MIN_VERSION, R::MAX_VERSION),
            offered: offered
                .offered(R::KEY)
                .map_or("none".to_owned(), |(low, high)| format!("{low} to {high}")),
        }
    }
}

/// The answer to come of a request that was sent. Dropping it does not take the request back.
pub struct Pending<R> {
    receiver: oneshot::Receiver<Result<Bytes, ClientError>>,
    shared: Arc<Shared>,
    version: i16,
    request: PhantomData<fn() -> R>,
}

impl<R: Request> Pending<R> {
    /// The version that the request was sent in, which decides what its answer holds.
    pub fn version(&self) -> i16 {
        self.version
    }

    async fn frame(mut self) -> Result<Bytes, ClientError> {
        (&mut self.receiver).await.unwrap_or_else(|_| Err(self.lost()))
    }

    fn lost(&self) -> ClientError {
        ClientError::Disconnected {
            address: self.shared.address.clone(),
            api: R::KEY.name(),
            reason: "it was closed".to_owned(),
        }
    }
}

impl<R: Request> Future for Pending<R> {
    type Output = Result<R::Response, ClientError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(frame) = Pin::new(&mut self.receiver).poll(context) else {
            return Poll::Pending;
        };
        let frame = frame.unwrap_or_else(|_| Err(self.lost()));
        Poll::Ready(frame.and_then(|frame| {
            decode_response::<R::Response>(frame, self.version)
                .map(|(_, response)| response)
                .map_err(|error| {
                    let address = self.shared.address.clone();
                    ClientError::Wire { address, api: R::KEY.name(), error }
                })
        }))
    }
}

/// An answer to ApiVersions. If it is that the version is not known, its body is of version 0.
fn decode_api_versions(frame: Bytes, version: i16) -> Result<ApiVersionsResponse, WireError> {
    let mut reader = Reader::new(frame.clone());
    decode_header(&mut reader, ApiKey::ApiVersions, version)?;
    let unsupported = reader.i16()? == ErrorCode::UnsupportedVersion.code();
    let version = if unsupported { 0 } else { version };
    let mut reader = Reader::new(frame);
    decode_header(&mut reader, ApiKey::ApiVersions, version)?;
    ApiVersionsResponse::decode(&mut reader, version)
}

/// Opens a connection to `host:port`; all addresses of the host are tried.
async fn open(address: &str) -> Result<TcpStream, ClientError> {
    let valid = address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if !valid {
        return Err(ClientError::InvalidAddress { address: address.to_owned() });
    }
    let failed = |error: std::io::Error| ClientError::Connect {
        address: address.to_owned(),
        reason: error.to_string(),
    };
    let stream = TcpStream::connect(address).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}
