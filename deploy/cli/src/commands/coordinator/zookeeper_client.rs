//! A client of ZooKeeper's own protocol that reads: requests go out in batches, and answers come
//! back in their order.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::{Buf, Bytes, BytesMut};
use ottla_coordinator::frontends::zookeeper::jute::{Jute, Reader, put_message};
use ottla_coordinator::frontends::zookeeper::messages::{
    AuthPacket, ConnectRequest, ConnectResponse, ReplyHeader, Request, RequestHeader, Response,
    error_code, xid,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long ZooKeeper may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The session is kept by the requests themselves, which never pause for so long.
const SESSION_TIMEOUT_MS: i32 = 40_000;

/// The longest answer: far more than ZooKeeper's own limit.
const ANSWER_SIZE_MAX: usize = 64 * 1024 * 1024;

/// A session with a ZooKeeper.
#[derive(Debug)]
pub struct ZooKeeperClient {
    stream: TcpStream,
    read: BytesMut,
    next_xid: i32,
}

impl ZooKeeperClient {
    /// Opens a session at the first of the addresses that grants one.
    pub async fn connect(addresses: &[String]) -> anyhow::Result<Self> {
        let mut reasons = Vec::new();
        for address in addresses {
            match tokio::time::timeout(PATIENCE, Self::open(address)).await {
                Ok(Ok(client)) => return Ok(client),
                Ok(Err(error)) => reasons.push(format!("{address}: {error:#}")),
                Err(_) => reasons.push(format!("{address}: no answer in time")),
            }
        }
        bail!("no ZooKeeper answers ({})", reasons.join("; "))
    }

    async fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut client = Self { stream, read: BytesMut::new(), next_xid: 0 };
        let request = ConnectRequest {
            time_out: SESSION_TIMEOUT_MS,
            passwd: Some(vec![0; 16]),
            read_only: Some(false),
            ..ConnectRequest::default()
        };
        let mut bytes = BytesMut::new();
        put_message(&mut bytes, |out| request.encode(out));
        client.stream.write_all(&bytes).await?;
        let answer = client.message().await.context("no session was granted")?;
        let answer: ConnectResponse = Reader::new(&answer).read()?;
        if answer.session_id == 0 {
            bail!("no session was granted");
        }
        Ok(client)
    }

    /// Proves an identity of the scheme `digest`: `user:password`.
    pub async fn prove(&mut self, proof: &str) -> anyhow::Result<()> {
        let packet = AuthPacket {
            kind: 0,
            scheme: "digest".to_owned(),
            auth: Some(proof.as_bytes().to_vec()),
        };
        let request = Request::Auth(packet);
        let mut bytes = BytesMut::new();
        put_request(&mut bytes, xid::AUTH, &request);
        self.stream.write_all(&bytes).await?;
        let answer = tokio::time::timeout(PATIENCE, self.message()).await??;
        let header: ReplyHeader = Reader::new(&answer).read()?;
        if header.err != error_code::OK {
            bail!("ZooKeeper refused the identity: error {}", header.err);
        }
        Ok(())
    }

    /// Asks all of it, and waits for the answers, which are in the order of the requests: each the
    /// response, or ZooKeeper's number of the error. The requests must be short.
    pub async fn ask(
        &mut self,
        requests: &[Request],
    ) -> anyhow::Result<Vec<Result<Response, i32>>> {
        let mut bytes = BytesMut::new();
        let first_xid = self.next_xid;
        for request in requests {
            put_request(&mut bytes, self.next_xid, request);
            // Numbers below zero have meanings of their own.
            self.next_xid = self.next_xid.checked_add(1).unwrap_or_default();
        }
        let asking =
            async {
                self.stream.write_all(&bytes).await?;
                let mut answers = Vec::with_capacity(requests.len());
                let mut expected = first_xid;
                for request in requests {
                    let answer = self.message().await?;
                    let mut reader = Reader::new(&answer);
                    let header: ReplyHeader = reader.read()?;
                    if header.xid != expected {
                        bail!("ZooKeeper answered {} where {expected} was due", header.xid);
                    }
                    expected = expected.checked_add(1).unwrap_or_default();
                    answers.push(match header.err {
                        error_code::OK => Ok(Response::decode(request.op(), &mut reader)?
                            .context("no such answer")?),
                        error => Err(error),
                    });
                }
                Ok(answers)
            };
        let answers = tokio::time::timeout(PATIENCE, asking).await;
        answers.context("ZooKeeper does not answer in time")?
    }

    /// The next message, without its length.
    async fn message(&mut self) -> anyhow::Result<Bytes> {
        loop {
            if let Some(prefix) = self.read.first_chunk() {
                let size = usize::try_from(i32::from_be_bytes(*prefix))?;
                if size > ANSWER_SIZE_MAX {
                    bail!("an answer of {size} bytes; this is no ZooKeeper");
                }
                if self.read.len() >= 4 + size {
                    self.read.advance(4);
                    return Ok(self.read.split_to(size).freeze());
                }
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                bail!("ZooKeeper closed the connection");
            }
        }
    }
}

fn put_request(bytes: &mut BytesMut, xid: i32, request: &Request) {
    put_message(bytes, |out| {
        RequestHeader { xid, op: request.op() }.encode(out);
        request.encode(out);
    });
}
