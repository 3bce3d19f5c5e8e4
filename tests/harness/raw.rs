//! A client that sends exactly what it is told: any request in any version, with no negotiation and
//! no retry.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use ottla_common::kafka::request::{Request, encode_request};
use ottla_common::kafka::response::decode_response;
use ottla_common::kafka::wire::KafkaString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection.
#[derive(Debug)]
pub struct RawClient {
    socket: TcpStream,
    correlation_id: i32,
    client_id: KafkaString,
}

impl RawClient {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, correlation_id: 0, client_id: "raw".into() })
    }

    /// The same connection, on which requests name this client id from now on.
    pub fn named(self, client_id: &str) -> Self {
        Self { client_id: client_id.into(), ..self }
    }

    /// Sends a request and does not wait. Returns its correlation id.
    pub async fn send<R: Request>(&mut self, version: i16, request: &R) -> anyhow::Result<i32> {
        self.correlation_id += 1;
        let client_id = Some(&self.client_id);
        let frame = encode_request(version, self.correlation_id, client_id, request)?;
        self.socket.write_all(&frame.to_bytes()?).await?;
        Ok(self.correlation_id)
    }

    /// Sends bytes.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.socket.write_all(bytes).await?)
    }

    /// The next response's bytes, without their size; `None` if the broker closed the connection.
    pub async fn receive_bytes(&mut self) -> anyhow::Result<Option<Bytes>> {
        let read = tokio::time::timeout(PATIENCE, self.socket.read_u32()).await;
        let Ok(size) = read.context("no answer")? else { return Ok(None) };
        let mut bytes = vec![0; usize::try_from(size)?];
        self.socket.read_exact(&mut bytes).await?;
        Ok(Some(bytes.into()))
    }

    /// The next response, which must answer the request `correlation_id` of type `R`.
    pub async fn receive<R: Request>(
        &mut self,
        version: i16,
        correlation_id: i32,
    ) -> anyhow::Result<R::Response> {
        let Some(bytes) = self.receive_bytes().await? else {
            bail!("the broker closed the connection")
        };
        let (found, response) = decode_response::<R::Response>(bytes, version)?;
        if found != correlation_id {
            bail!("an answer to request {found} where {correlation_id} was due")
        }
        Ok(response)
    }

    /// Sends a request and waits for its response.
    pub async fn call<R: Request>(
        &mut self,
        version: i16,
        request: &R,
    ) -> anyhow::Result<R::Response> {
        let correlation_id = self.send(version, request).await?;
        self.receive::<R>(version, correlation_id).await
    }
}
