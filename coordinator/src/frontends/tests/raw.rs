//! A member to talk to, and a client that sends and receives frames and knows nothing more.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use ottla_common::coordination::codec::{decode_message, encode_frame, take_frame};
use ottla_common::coordination::protocol::*;
use ottla_common::shutdown::Shutdown;
use ottla_common::types::{SessionId, Zxid};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::Config;
use crate::server::{RunningServer, Server};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A member with a folder of its own.
pub struct Member {
    pub config: Config,
    pub address: SocketAddr,
    pub server: RunningServer,
    shutdown: Shutdown,
    dir: TempDir,
}

impl Member {
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// Starts a member with other options.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path().join("data"));
        config.listen = "127.0.0.1:0".to_owned();
        config.expiry_tick_ms = 5;
        config.session_timeout_min_ms = 10;
        change(&mut config);
        Self::run(config, dir).await
    }

    async fn run(config: Config, dir: TempDir) -> Self {
        let shutdown = Shutdown::new();
        let server = Server::start(config.clone(), shutdown.clone()).await.unwrap();
        Self { config, address: server.client_address, server, shutdown, dir }
    }

    /// Stops the member and starts it again on its folder.
    pub async fn restart(self) -> Self {
        assert!(self.shutdown.finish(PATIENCE).await, "the member stops");
        drop(self.server);
        Self::run(self.config, self.dir).await
    }

    pub async fn connect(&self) -> RawClient {
        RawClient::open(self.address, 10_000).await
    }
}

/// A connection of the native protocol.
pub struct RawClient {
    pub stream: TcpStream,
    read: BytesMut,
    next_xid: u64,
    pub grant: SessionGrant,
}

impl RawClient {
    /// Opens a new session.
    pub async fn open(address: SocketAddr, session_timeout_ms: u32) -> Self {
        let session = SessionRequest::New { session_timeout_ms };
        Self::hello(address, session, Zxid(0)).await.unwrap()
    }

    /// Resumes a session.
    pub async fn resume(
        address: SocketAddr,
        session_id: SessionId,
        password: Vec<u8>,
    ) -> Result<Self, CoordinationError> {
        Self::hello(address, SessionRequest::Resume { session_id, password }, Zxid(0)).await
    }

    pub async fn hello(
        address: SocketAddr,
        session: SessionRequest,
        last_zxid_seen: Zxid,
    ) -> Result<Self, CoordinationError> {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&PREAMBLE).await.unwrap();
        let client_name = "test".to_owned();
        let hello =
            ClientHello { version_min: 1, version_max: 9, client_name, session, last_zxid_seen };
        let grant = SessionGrant {
            session_id: SessionId(0),
            password: vec![],
            session_timeout_ms: 0,
            disconnect_grace_ms: 0,
            zxid: Zxid(0),
        };
        let mut client = Self { stream, read: BytesMut::new(), next_xid: 0, grant };
        client.send_frame(&hello).await;
        let hello: ServerHello = client.receive().await.unwrap();
        assert_eq!(hello.version, PROTOCOL_VERSION);
        client.grant = hello.session?;
        Ok(client)
    }

    pub async fn send_frame<T: Serialize>(&mut self, frame: &T) {
        let mut bytes = BytesMut::new();
        encode_frame(frame, FRAME_SIZE_MAX, &mut bytes).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// Sends a request and returns its number.
    pub async fn send(&mut self, request: Request) -> u64 {
        self.next_xid += 1;
        let xid = self.next_xid;
        self.send_frame(&RequestFrame { xid, request }).await;
        xid
    }

    /// The next frame; none if the member ended the connection.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> Option<T> {
        tokio::time::timeout(PATIENCE, self.receive_patiently()).await.expect("nothing came")
    }

    async fn receive_patiently<T: DeserializeOwned>(&mut self) -> Option<T> {
        loop {
            if let Some(frame) = take_frame(&mut self.read, FRAME_SIZE_MAX).unwrap() {
                return Some(decode_message(&frame).unwrap());
            }
            if self.stream.read_buf(&mut self.read).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub async fn frame(&mut self) -> ServerFrame {
        self.receive().await.expect("the member hung up")
    }

    /// Asks, and waits for the answer as the very next frame.
    pub async fn ask(&mut self, request: Request) -> Result<Response, CoordinationError> {
        let asked = self.send(request).await;
        match self.frame().await {
            ServerFrame::Reply { xid, result, .. } if xid == asked => result,
            other => panic!("{other:?} instead of the reply to {asked}"),
        }
    }

    pub async fn create(
        &mut self,
        path: &str,
        mode: CreateMode,
    ) -> Result<Stat, CoordinationError> {
        match self.ask(Request::Write(create(path, mode))).await? {
            Response::Written(OpResult::Created { stat, .. }) => Ok(stat),
            other => panic!("{other:?}"),
        }
    }

    pub async fn set(&mut self, path: &str, data: &str) {
        self.ask(Request::Write(set(path, data))).await.unwrap();
    }

    pub async fn exists(&mut self, path: &str) -> bool {
        let (path, watch, linearizable) = (path.to_owned(), false, false);
        match self.ask(Request::Exists { path, watch, linearizable }).await.unwrap() {
            Response::Exists(stat) => stat.is_some(),
            other => panic!("{other:?}"),
        }
    }

    /// Leaves a persistent watch and waits for its next event.
    pub async fn event(&mut self) -> WatchEvent {
        match self.frame().await {
            ServerFrame::Watch(event) => event,
            other => panic!("{other:?} instead of an event"),
        }
    }
}

pub fn create(path: &str, mode: CreateMode) -> Op {
    Op::Create { path: path.to_owned(), data: path.as_bytes().to_vec(), mode, acl: Acl::open() }
}

pub fn set(path: &str, data: &str) -> Op {
    Op::SetData { path: path.to_owned(), data: data.as_bytes().to_vec(), version: None }
}

pub fn get(path: &str, watch: bool) -> Request {
    Request::Get { path: path.to_owned(), watch, linearizable: false }
}

pub fn add_watch(path: &str, recursive: bool) -> Request {
    Request::AddWatch { path: path.to_owned(), recursive }
}
