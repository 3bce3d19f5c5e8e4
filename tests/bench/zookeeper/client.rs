//! A client of ZooKeeper's protocol that costs little: one connection, requests put into a buffer
//! and sent together, replies handed out as they come.

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use bytes::{Buf, BytesMut};
use ottla_coordinator::frontends::zookeeper::jute::{Jute, Reader, put_message};
use ottla_coordinator::frontends::zookeeper::messages::{
    Acl, ConnectRequest, ConnectResponse, CreateRequest, Id, ReplyHeader, Request, RequestHeader,
    SetDataRequest, WatchedPath, error_code, xid,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The session timeout that is asked for, in milliseconds. ZooKeeper gives 40 s at most by default.
const SESSION_TIMEOUT_MS: i32 = 30_000;

/// What a connection begins reading with, in bytes. Small, since there may be 10,000 of them.
const BUFFER_SIZE: usize = 512;

/// All permissions.
const ALL: i32 = 31;

/// What arrived: a reply or an event, without its record.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// The request's number, or what stands for an event or a ping.
    pub xid: i32,
    /// 0, or the number of an error.
    pub err: i32,
}

impl Reply {
    /// Whether a watch fired.
    pub const fn is_event(self) -> bool {
        self.xid == xid::WATCH_EVENT
    }
}

/// The session that was to be resumed is no more.
#[derive(Debug, thiserror::Error)]
#[error("the session has expired")]
pub struct Expired;

/// A session and the connection that it has.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    incoming: BytesMut,
    outgoing: BytesMut,
    next_xid: i32,
    zxid: i64,
    granted: ConnectResponse,
}

impl Session {
    /// Opens a session.
    pub async fn open(server: SocketAddr) -> anyhow::Result<Self> {
        Self::connect(server, &ConnectRequest::default()).await
    }

    /// Goes on with the session at a server, maybe another one.
    pub async fn resume(&self, server: SocketAddr) -> anyhow::Result<Self> {
        let request = ConnectRequest {
            last_zxid_seen: self.zxid,
            session_id: self.granted.session_id,
            passwd: self.granted.passwd.clone(),
            ..Default::default()
        };
        Self::connect(server, &request).await
    }

    async fn connect(server: SocketAddr, request: &ConnectRequest) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let mut session = Self {
            stream,
            incoming: BytesMut::with_capacity(BUFFER_SIZE),
            outgoing: BytesMut::with_capacity(BUFFER_SIZE),
            next_xid: 0,
            zxid: request.last_zxid_seen,
            granted: ConnectResponse::default(),
        };
        let passwd = Some(request.passwd.clone().unwrap_or_else(|| vec![0; 16]));
        let request = ConnectRequest {
            time_out: SESSION_TIMEOUT_MS,
            passwd,
            read_only: Some(false),
            ..request.clone()
        };
        put_message(&mut session.outgoing, |out| request.encode(out));
        session.flush().await?;
        let message = session.message().await?;
        session.granted = Reader::new(&message).read()?;
        ensure!(session.granted.session_id != 0, Expired);
        Ok(session)
    }

    /// Puts a request into the buffer, and tells its number.
    pub fn put(&mut self, request: &Request) -> i32 {
        self.next_xid += 1;
        let header = RequestHeader { xid: self.next_xid, op: request.op() };
        put_message(&mut self.outgoing, |out| {
            header.encode(out);
            request.encode(out);
        });
        self.next_xid
    }

    /// Puts a ping into the buffer.
    pub fn put_ping(&mut self) {
        let header = RequestHeader { xid: xid::PING, op: Request::Ping.op() };
        put_message(&mut self.outgoing, |out| header.encode(out));
    }

    /// Sends what was put.
    pub async fn flush(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&self.outgoing).await?;
        self.outgoing.clear();
        Ok(())
    }

    /// The next reply or event.
    pub async fn next(&mut self) -> anyhow::Result<Reply> {
        let message = self.message().await?;
        let header: ReplyHeader = Reader::new(&message).read()?;
        self.zxid = self.zxid.max(header.zxid);
        Ok(Reply { xid: header.xid, err: header.err })
    }

    /// Sends a request and waits for its answer; an error if the answer is one.
    pub async fn call(&mut self, request: &Request) -> anyhow::Result<()> {
        match self.ask(request).await? {
            error_code::OK => Ok(()),
            err => bail!("{request:?} was answered with error {err}"),
        }
    }

    /// Sends a request and tells the number of the error that it is answered with, or 0.
    pub async fn ask(&mut self, request: &Request) -> anyhow::Result<i32> {
        let number = self.put(request);
        self.flush().await?;
        loop {
            let reply = self.next().await?;
            if reply.xid == number {
                return Ok(reply.err);
            }
        }
    }

    async fn message(&mut self) -> anyhow::Result<BytesMut> {
        loop {
            if let Some(length) = self.incoming.first_chunk::<4>() {
                let length = usize::try_from(i32::from_be_bytes(*length)).context("a length")?;
                if self.incoming.len() >= 4 + length {
                    self.incoming.advance(4);
                    return Ok(self.incoming.split_to(length));
                }
            }
            ensure!(
                self.stream.read_buf(&mut self.incoming).await? > 0,
                "the server closed the connection"
            );
        }
    }
}

/// Makes a node that all may use.
pub fn create(path: String, data: &[u8]) -> Request {
    let anyone = Id { scheme: "world".to_owned(), id: "anyone".to_owned() };
    let acl = vec![Acl { perms: ALL, id: anyone }];
    Request::Create(CreateRequest { path, data: Some(data.to_vec()), acl, flags: 0 })
}

/// Replaces a node's data, whatever its version.
pub fn set(path: String, data: &[u8]) -> Request {
    Request::SetData(SetDataRequest { path, data: Some(data.to_vec()), version: -1 })
}

/// Asks for a node's data, and leaves a watch if that is wished.
pub fn get(path: String, watch: bool) -> Request {
    Request::GetData(WatchedPath { path, watch })
}
