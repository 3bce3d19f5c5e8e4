//! Several members in one process, and clients that go from one to another.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ottla_common::coordination::client::{Client, ClientConfig, ClientError};
use ottla_common::coordination::protocol::*;
use ottla_common::shutdown::Shutdown;
use ottla_common::types::{MemberId, SessionId, Zxid};
use tempfile::TempDir;

use super::raw::{RawClient, add_watch, get};
use crate::config::Config;
use crate::config::members::{ConfiguredMember, PeerKey};
use crate::server::{RunningServer, Server};

const PATIENCE: Duration = Duration::from_secs(30);

struct Trio {
    configs: BTreeMap<u64, Config>,
    running: BTreeMap<u64, (RunningServer, Shutdown)>,
    _folder: TempDir,
}

impl Trio {
    async fn start() -> Self {
        Self::with_patience(60_000).await
    }

    async fn with_patience(patience_ms: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut bound = Vec::new();
        let mut free = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap().to_string();
            bound.push(listener);
            address
        };
        let mut configs = BTreeMap::new();
        let mut members = BTreeMap::new();
        for id in 1..=3 {
            let mut config = Config::new(folder.path().join(format!("member-{id}")));
            (config.member_id, config.listen) = (MemberId(id), free());
            (config.expiry_tick_ms, config.session_timeout_min_ms) = (5, 10);
            config.ensemble.peer_key = PeerKey("key".to_owned());
            config.ensemble.peer_listen = free();
            // Machines that run tests may be busy.
            config.ensemble.election_timeout_ms = 1_000;
            config.ensemble.heartbeat_interval_ms = 100;
            config.ensemble.leader_patience_ms = patience_ms;
            let peer_address = config.ensemble.peer_listen.clone();
            let member = ConfiguredMember { peer_address, ..ConfiguredMember::default() };
            members.insert(MemberId(id), member);
            configs.insert(id, config);
        }
        drop(bound);
        for config in configs.values_mut() {
            config.ensemble.members = members.clone();
        }
        let mut trio = Self { configs, running: BTreeMap::new(), _folder: folder };
        for id in 1..=3 {
            trio.start_one(id).await;
        }
        trio
    }

    async fn start_one(&mut self, id: u64) {
        let shutdown = Shutdown::new();
        let server = Server::start(self.configs[&id].clone(), shutdown.clone()).await.unwrap();
        self.running.insert(id, (server, shutdown));
    }

    async fn stop_one(&mut self, id: u64) {
        let (_, shutdown) = self.running.remove(&id).unwrap();
        assert!(shutdown.finish(PATIENCE).await, "member {id} stops");
    }

    async fn stop(mut self) {
        while let Some(id) = self.running.keys().next().copied() {
            self.stop_one(id).await;
        }
    }

    fn server(&self, id: u64) -> &RunningServer {
        &self.running[&id].0
    }

    fn address(&self, id: u64) -> SocketAddr {
        self.server(id).client_address
    }

    fn client(&self, ids: &[u64]) -> ClientConfig {
        let addresses = ids.iter().map(|id| self.configs[id].listen.clone()).collect();
        ClientConfig::new(addresses, "test")
    }
}

#[tokio::test]
async fn a_session_goes_on_at_another_member() {
    let trio = Trio::start().await;
    let mut at_first = RawClient::open(trio.address(1), 10_000).await;
    at_first.create("/mine", CreateMode::Ephemeral).await.unwrap();
    let mut seen = at_first.grant.zxid;
    for number in 0..100 {
        let path = format!("/node-{number}");
        seen = at_first.create(&path, CreateMode::Persistent).await.unwrap().czxid;
    }
    let SessionGrant { session_id, password, .. } = at_first.grant.clone();
    let resume = SessionRequest::Resume { session_id, password };
    // It comes to a member that may not have all of that yet.
    let mut at_second = RawClient::hello(trio.address(2), resume.clone(), seen).await.unwrap();
    assert_eq!(at_second.grant.session_id, session_id);
    assert!(at_second.grant.zxid >= seen);
    assert!(at_second.exists("/mine").await && at_second.exists("/node-99").await);
    at_second.ask(Request::Ping).await.unwrap();
    at_second.create("/mine/too", CreateMode::Persistent).await.unwrap_err();
    at_second.create("/more", CreateMode::Ephemeral).await.unwrap();
    // The older connection is over, wherever it was.
    loop {
        match at_first.receive::<ServerFrame>().await {
            None => break,
            Some(ServerFrame::Closed { error }) => {
                assert_eq!(error, CoordinationError::SessionMoved);
            }
            Some(frame) => panic!("{frame:?}"),
        }
    }
    at_second.ask(Request::CloseSession).await.unwrap();
    let closed = RawClient::hello(trio.address(3), resume, Zxid(0)).await;
    assert_eq!(closed.err(), Some(CoordinationError::SessionExpired));
    trio.stop().await;
}

#[tokio::test]
async fn what_a_session_left_goes_once_when_its_member_is_gone() {
    let mut trio = Trio::start().await;
    let mut watcher = RawClient::open(trio.address(1), 60_000).await;
    let mut dying = RawClient::open(trio.address(3), 300).await;
    dying.create("/left", CreateMode::Ephemeral).await.unwrap();
    watcher.ask(Request::Sync).await.unwrap();
    watcher.ask(get("/left", false)).await.unwrap();
    watcher.ask(add_watch("/left", false)).await.unwrap();
    trio.stop_one(3).await;
    let event = watcher.event().await;
    assert_eq!(event.kind, WatchEventKind::NodeDeleted);
    watcher.ask(Request::Sync).await.unwrap();
    assert!(!watcher.exists("/left").await);
    let mut other = RawClient::open(trio.address(2), 60_000).await;
    assert!(!other.exists("/left").await);
    assert_eq!(trio.server(2).live().machine().sessions().len(), 2);
    trio.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_any_member_is_noticed_within_the_grace() {
    let trio = Trio::start().await;
    let mut watcher = RawClient::open(trio.address(1), 60_000).await;
    for id in 1..=3 {
        let path = format!("/of-{id}");
        // Its timeout is far longer than this test waits.
        let mut leaving = RawClient::open(trio.address(id), 120_000).await;
        leaving.create(&path, CreateMode::Ephemeral).await.unwrap();
        watcher.ask(Request::Sync).await.unwrap();
        watcher.ask(add_watch(&path, false)).await.unwrap();
        drop(leaving);
        assert_eq!(watcher.event().await.kind, WatchEventKind::NodeDeleted);
    }
    trio.stop().await;
}

/// Writes until it is told to stop; returns how many were done, and each failure.
async fn write_on(client: Client, path: String, stop: Arc<AtomicBool>) -> (u64, Vec<ClientError>) {
    let (mut done, mut failures) = (0, Vec::new());
    while let Err(error) = client.create(&path, Vec::new(), CreateMode::Persistent).await {
        // The first member may go before it has answered.
        match error {
            ClientError::Unknown => {}
            ClientError::Refused(CoordinationError::NodeExists { .. }) => break,
            error => panic!("{error}"),
        }
    }
    while !stop.load(Ordering::Relaxed) {
        match client.set(&path, done.to_string().into_bytes(), None).await {
            Ok(_) => done += 1,
            Err(error) => failures.push(error),
        }
    }
    (done, failures)
}

#[tokio::test]
async fn members_are_restarted_one_by_one_under_writes() {
    let mut trio = Trio::start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for id in 1..=3 {
        // Each begins at another member, and may go to all.
        let client = Client::connect(trio.client(&[id, id % 3 + 1, (id + 1) % 3 + 1])).await;
        let writer = write_on(client.unwrap(), format!("/writer-{id}"), Arc::clone(&stop));
        writers.push(tokio::spawn(writer));
    }
    let restarts: u8 = 6;
    for round in 0..u64::from(restarts) {
        let id = round % 3 + 1;
        trio.stop_one(id).await;
        // The others go on meanwhile.
        let before = trio.server(id % 3 + 1).live().zxid();
        let mut progress = trio.server(id % 3 + 1).live().progress();
        progress.wait_for(|zxid| zxid.0 > before.0 + 20).await.unwrap();
        trio.start_one(id).await;
        let newest = progress.borrow().0;
        let mut progress = trio.server(id).live().progress();
        progress.wait_for(|zxid| zxid.0 >= newest).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        let (done, failures) = writer.await.unwrap();
        assert!(done > 0);
        // Only who was connected to the member that went: what it had just sent is unknown.
        assert!(failures.len() <= usize::from(restarts), "{failures:?}");
        assert!(failures.iter().all(|error| *error == ClientError::Unknown), "{failures:?}");
    }
    trio.stop().await;
}

#[tokio::test]
async fn a_member_without_the_others_takes_nothing_and_says_so() {
    let mut trio = Trio::with_patience(3_000).await;
    let mut client = RawClient::open(trio.address(1), 60_000).await;
    client.create("/before", CreateMode::Persistent).await.unwrap();
    trio.stop_one(2).await;
    trio.stop_one(3).await;
    // What was seen can be seen still; what is new cannot be.
    assert!(client.exists("/before").await);
    let refused = client.create("/after", CreateMode::Persistent).await;
    assert_eq!(refused.err(), Some(CoordinationError::Unavailable));
    let session = SessionRequest::New { session_timeout_ms: 1_000 };
    let refused = RawClient::hello(trio.address(1), session, Zxid(0)).await;
    assert_eq!(refused.err(), Some(CoordinationError::Unavailable));
    trio.start_one(2).await;
    let mut client = RawClient::open(trio.address(1), 60_000).await;
    client.create("/again", CreateMode::Persistent).await.unwrap();
    assert_ne!(client.grant.session_id, SessionId(0));
    trio.stop().await;
}
