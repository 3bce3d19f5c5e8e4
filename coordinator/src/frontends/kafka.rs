//! Connections of Kafka's protocol: clients that have the ensemble in their `bootstrap.servers` are
//! told the brokers and who leads which partition, and go there.
//!
//! Read-only, straight from the tree as this member has applied it, for everyone who can connect:
//! there is no authentication, and only what the whole world may read in the tree is told. Offered
//! are the APIs of [`APIS`] and nothing else; any other request closes the connection, as a broker
//! does it with what it does not know.
//!
//! A client is told one endpoint of each broker: that of the listener `kafka.listener.name` if that
//! is set (a broker without it is then not told), else the one named `PLAINTEXT`, else the
//! broker's first.
//!
//! A client that was told of brokers is sent to them: a moment later its connection is closed.
//! librdkafka would otherwise go on asking the only address that it is connected to, and a topic
//! that brokers create on demand would never come to be.

mod answers;
mod directory;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ottla_common::kafka::ApiKey;
use ottla_common::kafka::frame::{EncodedFrame, FrameCodec, FrameError};
use ottla_common::kafka::messages::api_versions::ApiVersionsRequest;
use ottla_common::kafka::messages::describe_cluster::DescribeClusterRequest;
use ottla_common::kafka::messages::find_coordinator::FindCoordinatorRequest;
use ottla_common::kafka::messages::init_producer_id::InitProducerIdRequest;
use ottla_common::kafka::messages::metadata::MetadataRequest;
use ottla_common::kafka::request::{Request, RequestHeader, decode_header};
use ottla_common::kafka::response::encode_response;
use ottla_common::kafka::wire::{Reader, WireError};
use ottla_common::shutdown::Shutdown;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};
use tokio_util::codec::Decoder;

use self::answers::View;
use self::directory::Directory;
use super::Arrival;
use crate::limits::{KAFKA_IDLE_MS, KAFKA_LINGER_MS, KAFKA_REQUEST_SIZE_MAX, KAFKA_STALL_MS};
use crate::requests::Service;

/// What is offered, and in which versions.
pub const APIS: [(ApiKey, (i16, i16)); 5] = [
    (ApiKey::Metadata, (0, 13)),
    (ApiKey::FindCoordinator, (0, 6)),
    (ApiKey::ApiVersions, (0, 5)),
    (ApiKey::InitProducerId, (0, 5)),
    (ApiKey::DescribeCluster, (0, 2)),
];

/// Answers Kafka's clients; one for all connections of a member.
#[derive(Debug)]
pub struct FrontEnd {
    service: Arc<Service>,
    listener: Option<String>,
    directory: Mutex<Arc<Directory>>,
}

/// Why a connection is closed.
#[derive(Debug, thiserror::Error)]
enum Close {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("{0:?} of version {1} is not offered")]
    NotOffered(ApiKey, i16),
    #[error("{0}")]
    TimedOut(&'static str),
}

/// Whether the first bytes of a connection may be those of a request of Kafka's: a length that is
/// allowed, and an API and version that exist. None while too few are there to tell.
pub fn is_kafka(read: &[u8]) -> Option<bool> {
    let Some(&[a, b, c, d, e, f, g, h]) = read.first_chunk() else {
        let may_be_short = read.first().is_none_or(|byte| *byte == 0);
        return if may_be_short { None } else { Some(false) };
    };
    let size = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    let (key, version) = (i16::from_be_bytes([e, f]), i16::from_be_bytes([g, h]));
    // A ZooKeeper client's first request begins with the version 0, which would be the version 0 of
    // Produce: no client sends that to an address that does not offer it.
    let is_known = ApiKey::try_from(key).is_ok() && (key, version) != (0, 0);
    Some((8..=KAFKA_REQUEST_SIZE_MAX).contains(&size) && is_known && version >= 0)
}

impl FrontEnd {
    /// Answers from the state of a member. `listener`: see the module.
    pub fn new(service: Arc<Service>, listener: Option<String>) -> Self {
        Self { service, listener, directory: Mutex::default() }
    }

    /// Serves a connection until it ends.
    pub(super) async fn serve(&self, arrival: Arrival, shutdown: Shutdown) {
        let Arrival { stream, peer, read, connection: _connection, .. } = arrival;
        let served = tokio::select! {
            served = self.converse(stream, read) => served,
            () = shutdown.stopped() => return,
        };
        match served {
            Ok(()) => tracing::debug!(%peer, "Kafka client left"),
            Err(Close::Frame(FrameError::Io(error))) => {
                tracing::debug!(%peer, %error, "connection of a Kafka client broke");
            }
            Err(error) => tracing::info!(%peer, %error, "connection of a Kafka client closed"),
        }
    }

    /// Answers one request after the other.
    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut stream: S,
        mut read: BytesMut,
    ) -> Result<(), Close> {
        let mut frames = FrameCodec::new(KAFKA_REQUEST_SIZE_MAX);
        let stall = Duration::from_millis(KAFKA_STALL_MS);
        let mut leaves_at = None;
        loop {
            while let Some(frame) = frames.decode(&mut read)? {
                let (answer, tells_brokers) = self.answer(frame)?;
                let sending = send(&mut stream, &answer);
                let sent = tokio::time::timeout(stall, sending).await;
                sent.map_err(|_| Close::TimedOut("the client does not read its replies"))??;
                if tells_brokers {
                    let until = Instant::now() + Duration::from_millis(KAFKA_LINGER_MS);
                    leaves_at.get_or_insert(until);
                }
            }
            // What has begun must end soon.
            let patience = if read.is_empty() { KAFKA_IDLE_MS } else { KAFKA_STALL_MS };
            let idle_at = Instant::now() + Duration::from_millis(patience);
            let deadline = leaves_at.unwrap_or(idle_at);
            let size = match timeout_at(deadline, stream.read_buf(&mut read)).await {
                Ok(size) => size.map_err(FrameError::from)?,
                Err(_) if leaves_at.is_some() => return Ok(()),
                Err(_) => return Err(Close::TimedOut("the client says nothing")),
            };
            if size == 0 {
                return Ok(());
            }
        }
    }

    /// The answer to a request, and whether it tells of brokers.
    fn answer(&self, frame: Bytes) -> Result<(EncodedFrame, bool), Close> {
        let mut body = Reader::new(frame);
        let header = decode_header(&mut body)?;
        if header.unsupported_api_versions {
            let refusal = answers::unknown_api_versions();
            return Ok((encode_response(0, header.correlation_id, &refusal)?, false));
        }
        let (key, version) = (header.api_key, header.api_version);
        let offered = APIS.iter().find(|(offered, _)| *offered == key);
        if !offered.is_some_and(|(_, (min, max))| (*min..=*max).contains(&version)) {
            return Err(Close::NotOffered(key, version));
        }
        let directory = self.directory();
        let view = View { directory: &directory, listener: self.listener.as_deref(), version };
        let answer = match key {
            ApiKey::Metadata => {
                reply(&header, body, |request: &MetadataRequest| view.metadata(request))
            }
            ApiKey::FindCoordinator => reply(&header, body, |request: &FindCoordinatorRequest| {
                view.find_coordinator(request)
            }),
            ApiKey::ApiVersions => {
                reply(&header, body, |request: &ApiVersionsRequest| view.api_versions(request))
            }
            ApiKey::InitProducerId => reply(&header, body, |request: &InitProducerIdRequest| {
                view.init_producer_id(request)
            }),
            ApiKey::DescribeCluster => reply(&header, body, |request: &DescribeClusterRequest| {
                view.describe_cluster(request)
            }),
            _ => return Err(Close::NotOffered(key, version)),
        };
        let tells = matches!(key, ApiKey::Metadata | ApiKey::DescribeCluster);
        Ok((answer?, tells && view.knows_brokers()))
    }

    /// The cluster as it is now. Built without holding any lock; if two build one at once, one of
    /// them is kept.
    fn directory(&self) -> Arc<Directory> {
        let machine = self.service.live().machine();
        let before = Arc::clone(&self.directory.lock());
        let directory = Directory::of(machine.tree(), &before);
        *self.directory.lock() = Arc::clone(&directory);
        directory
    }
}

fn reply<R: Request>(
    header: &RequestHeader,
    mut body: Reader,
    answer: impl FnOnce(&R) -> R::Response,
) -> Result<EncodedFrame, Close> {
    let request = R::decode(&mut body, header.api_version)?;
    Ok(encode_response(header.api_version, header.correlation_id, &answer(&request))?)
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, answer: &EncodedFrame) -> Result<(), Close> {
    let bytes = answer.to_bytes()?;
    stream.write_all(&bytes).await.map_err(FrameError::from)?;
    stream.flush().await.map_err(FrameError::from)?;
    Ok(())
}
