//! The coordination client against a real member: through broken networks, restarts and deaths.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ottla_common::coordination::client::{Client, ClientConfig, ClientError, SessionState};
use ottla_common::coordination::protocol::{CreateMode, Op, OpResult};
use ottla_common::coordination::recipes::{LeaderElection, compare_and_set};
use ottla_common::coordination::subscription::{Subscription, SubscriptionEvent};
use ottla_common::shutdown::Shutdown;
use ottla_common::types::Zxid;
use ottla_coordinator::server::{Config, Server};
use ottla_tests::proxy::Proxy;
use tempfile::TempDir;

/// How long a story waits for what must come. Never for what must not.
const PATIENCE: Duration = Duration::from_secs(60);

struct Member {
    address: SocketAddr,
    shutdown: Shutdown,
}

impl Member {
    async fn start(folder: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(folder);
        config.listen = "127.0.0.1:0".to_owned();
        config.session_timeout_min_ms = 100;
        change(&mut config);
        let shutdown = Shutdown::new();
        let running = Server::start(config, shutdown.clone()).await.unwrap();
        Self { address: running.client_address, shutdown }
    }

    /// Starts again in the same folder, at the same address.
    async fn restart(self, folder: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let address = self.address;
        self.stop().await;
        let change = |config: &mut Config| {
            config.listen = address.to_string();
            change(config);
        };
        Self::start(folder, change).await
    }

    async fn stop(self) {
        assert!(self.shutdown.finish(PATIENCE).await, "the member does not stop");
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn config(addresses: &[SocketAddr], session_timeout_ms: u32) -> ClientConfig {
    let addresses = addresses.iter().map(ToString::to_string).collect();
    let mut config = ClientConfig::new(addresses, "cluster test");
    config.session_timeout_ms = session_timeout_ms;
    config.request_timeout = PATIENCE;
    config
}

async fn connect(address: SocketAddr) -> Client {
    Client::connect(config(&[address], 30_000)).await.unwrap()
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("what was waited for did not come")
}

async fn connected(client: &Client) {
    let mut state = client.session();
    let is_connected = |state: &SessionState| matches!(state, SessionState::Connected { .. });
    within(state.wait_for(is_connected)).await.unwrap();
}

async fn disconnected(client: &Client) {
    let mut state = client.session();
    within(state.wait_for(|state| *state == SessionState::Connecting)).await.unwrap();
}

/// Follows a subscription until it has seen a node with this data.
async fn see(subscription: &mut Subscription, path: &str, data: &[u8]) -> Vec<Zxid> {
    let mut zxids = Vec::new();
    loop {
        let event = within(subscription.next()).await.unwrap();
        let seen = match event {
            SubscriptionEvent::Snapshot { nodes, .. } => {
                nodes.iter().any(|node| node.path == path && node.data == data)
            }
            SubscriptionEvent::Changes { zxid, changes } => {
                zxids.push(zxid);
                changes.iter().any(|change| change.path == path && change.data == data)
            }
        };
        if seen {
            return zxids;
        }
    }
}

#[tokio::test]
async fn a_session_its_nodes_and_its_subscription_outlive_a_restart_of_the_member() {
    let folder = folder();
    let mut member = Member::start(folder.path(), |_| ()).await;
    let client = connect(member.address).await;
    let session_id = client.session_id();
    client.create("/stays", b"0".to_vec(), CreateMode::Persistent).await.unwrap();
    client.create("/goes", Vec::new(), CreateMode::Ephemeral).await.unwrap();
    let mut subscription = Subscription::open(&client, "/stays");
    see(&mut subscription, "/stays", b"0").await;
    for round in 1..=3 {
        member = member.restart(folder.path(), |_| ()).await;
        // Asked again until a member answers.
        within(client.sync()).await.unwrap();
        assert_eq!(client.session_id(), session_id);
        let data = round.to_string().into_bytes();
        within(client.set("/stays", data.clone(), Some(round - 1))).await.unwrap();
        let zxids = see(&mut subscription, "/stays", &data).await;
        assert!(zxids.len() <= 1, "only what is new is told: {zxids:?}");
        assert!(client.exists("/goes").await.unwrap().is_some());
    }
    assert_eq!(client.expired_sessions(), 0);
    client.close().await;
    let other = connect(member.address).await;
    assert_eq!(other.exists("/goes").await.unwrap(), None, "closing removes it at once");
    member.stop().await;
}

#[tokio::test]
async fn a_node_that_is_to_be_there_is_asked_for_until_that_is_known() {
    let folder = folder();
    let member = Member::start(folder.path(), |_| ()).await;
    let proxy = Proxy::start(member.address).await.unwrap();
    let client = connect(proxy.address()).await;
    let direct = connect(member.address).await;
    let mut watching = Subscription::open(&direct, "/");
    proxy.hold_replies(true);
    let losing = async {
        see(&mut watching, "/wanted", b"").await;
        proxy.cut();
        disconnected(&client).await;
        proxy.hold_replies(false);
    };
    let (ensured, ()) = tokio::join!(within(client.ensure("/wanted")), losing);
    assert_eq!(ensured, Ok(()));
    member.stop().await;
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_unknown_and_can_be_read_back() {
    let folder = folder();
    let member = Member::start(folder.path(), |_| ()).await;
    let proxy = Proxy::start(member.address).await.unwrap();
    let client = connect(proxy.address()).await;
    let direct = connect(member.address).await;
    let mut watching = Subscription::open(&direct, "/");
    for round in 0..20 {
        let path = format!("/node-{round}");
        proxy.hold_replies(true);
        let writing = client.create(&path, b"x".to_vec(), CreateMode::Persistent);
        let losing = async {
            // It has been done; its answer is on the way.
            see(&mut watching, &path, b"x").await;
            proxy.cut();
            disconnected(&client).await;
            proxy.hold_replies(false);
        };
        let (written, ()) = tokio::join!(within(writing), losing);
        assert_eq!(written, Err(ClientError::Unknown));
        let (data, stat) = within(client.get(&path)).await.unwrap().unwrap();
        assert_eq!((&data[..], stat.version), (&b"x"[..], 0));
    }
    assert_eq!(client.expired_sessions(), 0);
    member.stop().await;
}

#[tokio::test]
async fn reads_and_later_writes_go_on_over_a_network_that_is_cut_again_and_again() {
    let folder = folder();
    let member = Member::start(folder.path(), |config| config.disconnect_grace_ms = 30_000).await;
    let proxy = Proxy::start(member.address).await.unwrap();
    let client = connect(proxy.address()).await;
    client.create("/counter", b"0".to_vec(), CreateMode::Persistent).await.unwrap();
    let counting = async {
        let (mut done, mut unknown) = (0, 0);
        for _ in 0..300 {
            let (data, stat) = within(client.get("/counter")).await.unwrap().unwrap();
            let value: u64 = std::str::from_utf8(&data).unwrap().parse().unwrap();
            assert!((done..=done + unknown).contains(&value));
            let next = (value + 1).to_string().into_bytes();
            match within(client.set("/counter", next, Some(stat.version))).await {
                Ok(_) => done += 1,
                Err(ClientError::Unknown) => unknown += 1,
                Err(error) => panic!("{error}"),
            }
        }
        (done, unknown)
    };
    let cutting = async {
        loop {
            tokio::time::sleep(Duration::from_millis(7)).await;
            proxy.cut();
        }
    };
    let (done, unknown) = tokio::select! {
        counted = counting => counted,
        () = cutting => unreachable!(),
    };
    let (data, _) = within(client.get("/counter")).await.unwrap().unwrap();
    let value: u64 = std::str::from_utf8(&data).unwrap().parse().unwrap();
    assert!((done..=done + unknown).contains(&value), "{done} + {unknown}: {value}");
    assert!(done > 0);
    assert_eq!(client.expired_sessions(), 0);
    member.stop().await;
}

#[tokio::test]
async fn a_member_that_falls_silent_is_left_for_another_way_in_time() {
    let folder = folder();
    let member = Member::start(folder.path(), |_| ()).await;
    let silent = Proxy::start(member.address).await.unwrap();
    let sound = Proxy::start(member.address).await.unwrap();
    let client = Client::connect(config(&[silent.address(), sound.address()], 2_000));
    let client = client.await.unwrap();
    client.create("/a", Vec::new(), CreateMode::Ephemeral).await.unwrap();
    let session_id = client.session_id();
    // Whichever way it has taken, that way falls silent; the other one is open.
    for quiet in [&silent, &sound, &silent, &sound] {
        quiet.hold_replies(true);
        quiet.hold_requests(true);
        within(client.sync()).await.unwrap();
        assert_eq!(client.session_id(), session_id);
        quiet.hold_replies(false);
        quiet.hold_requests(false);
    }
    assert_eq!(client.expired_sessions(), 0);
    assert!(client.exists("/a").await.unwrap().is_some());
    member.stop().await;
}

#[tokio::test]
async fn the_lease_has_ended_before_anyone_sees_the_session_end() {
    let folder = folder();
    for grace_ms in [50, 10_000] {
        let grace = |config: &mut Config| config.disconnect_grace_ms = grace_ms;
        let member = Member::start(&folder.path().join(grace_ms.to_string()), grace).await;
        let proxy = Proxy::start(member.address).await.unwrap();
        let client = Client::connect(config(&[proxy.address()], 1_000)).await.unwrap();
        let other = connect(member.address).await;
        let mut watching = Subscription::open(&other, "/");
        client.create("/leader", b"me".to_vec(), CreateMode::Ephemeral).await.unwrap();
        see(&mut watching, "/leader", b"me").await;
        assert!(client.lease().is_valid());
        let before = client.expired_sessions();
        // The client is cut off, without anyone hanging up.
        proxy.hold_requests(true);
        proxy.hold_replies(true);
        loop {
            let event = within(watching.next()).await.unwrap();
            let SubscriptionEvent::Changes { changes, .. } = event else { continue };
            let gone = changes.iter().any(|change| change.path == "/leader");
            if gone {
                assert!(!client.lease().is_valid(), "two might act as leaders");
                break;
            }
        }
        proxy.hold_requests(false);
        proxy.hold_replies(false);
        within(client.session_lost(before)).await;
        connected(&client).await;
        within(client.create("/leader", b"me".to_vec(), CreateMode::Ephemeral)).await.unwrap();
        member.stop().await;
    }
}

#[tokio::test]
async fn one_leads_at_a_time_and_a_deposed_leader_can_write_nothing() {
    let folder = folder();
    let member = Member::start(folder.path(), |_| ()).await;
    let (one, two) = (connect(member.address).await, connect(member.address).await);
    one.create("/state", b"0".to_vec(), CreateMode::Persistent).await.unwrap();
    let first = LeaderElection::new(&one, "/leader").campaign(b"1".to_vec()).await.unwrap();
    let second_election = LeaderElection::new(&two, "/leader");
    let mut second = Box::pin(second_election.campaign(b"2".to_vec()));
    let write = |client: &Client, guard: Op, data: &str| {
        let (path, data) = ("/state".to_owned(), data.as_bytes().to_vec());
        let ops = vec![guard, Op::SetData { path, data, version: None }];
        let client = client.clone();
        async move { client.multi(ops).await }
    };
    let results = tokio::select! {
        _ = &mut second => panic!("two leaders"),
        results = write(&one, first.guard(), "one") => results.unwrap(),
    };
    assert!(matches!(results.as_slice(), [OpResult::Checked, OpResult::Set { .. }]));
    let guard = first.guard();
    first.resign().await.unwrap();
    let second = within(second).await.unwrap();
    assert!(write(&one, guard, "late").await.is_err());
    write(&two, second.guard(), "two").await.unwrap();
    let stat = compare_and_set(&two, "/state", |data| {
        assert_eq!(&data[..], b"two");
        Some(b"three".to_vec())
    });
    assert_eq!(stat.await.unwrap().version, 3);
    one.close().await;
    two.close().await;
    member.stop().await;
}

/// Does nothing by itself. The story below runs it as a process of its own, to be killed.
#[tokio::test]
async fn member_to_be_killed() {
    let Some(folder) = std::env::var_os("OTTLA_TEST_FOLDER") else { return };
    let folder = Path::new(&folder);
    let listen = std::fs::read_to_string(folder.join("listen")).unwrap();
    let change = |config: &mut Config| config.listen = listen;
    let member = Member::start(&folder.join("member"), change).await;
    std::fs::write(folder.join("listening"), member.address.to_string()).unwrap();
    std::future::pending::<()>().await;
}

/// A process that does not outlive its story.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn_member(folder: &Path) -> (Killed, SocketAddr) {
    let _ = std::fs::remove_file(folder.join("listening"));
    let story = "t20_coordination_client::member_to_be_killed";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", story])
        .env("OTTLA_TEST_FOLDER", folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let child = Killed(child);
    loop {
        let listening = std::fs::read_to_string(folder.join("listening")).unwrap_or_default();
        if let Ok(address) = listening.parse() {
            std::fs::write(folder.join("listen"), listening).unwrap();
            return (child, address);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_killed_under_load_loses_nothing_that_it_acknowledged() {
    const WRITERS: usize = 8;
    let folder = folder();
    std::fs::write(folder.path().join("listen"), "127.0.0.1:0").unwrap();
    let (mut child, address) = spawn_member(folder.path());
    let client = connect(address).await;
    for round in 0..6 {
        let enough = Arc::new(AtomicBool::new(false));
        let writers = (0..WRITERS).map(|writer| {
            let (client, enough) = (client.clone(), enough.clone());
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for number in 0.. {
                    if enough.load(Ordering::Relaxed) {
                        break;
                    }
                    let path = format!("/{round}-{writer}-{number}");
                    match client.create(&path, path.clone().into(), CreateMode::Persistent).await {
                        Ok(_) => acknowledged.push(path),
                        Err(ClientError::Unknown) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                acknowledged
            })
        });
        let writers: Vec<_> = writers.collect();
        tokio::time::sleep(Duration::from_millis(150)).await;
        drop(child);
        child = spawn_member(folder.path()).0;
        enough.store(true, Ordering::Relaxed);
        let mut count = 0;
        for writer in writers {
            for path in within(writer).await.unwrap() {
                let found = within(client.get(&path)).await.unwrap();
                assert!(found.is_some_and(|(data, _)| data == path), "{path} is lost");
                count += 1;
            }
        }
        println!("round {round}: {count} acknowledged, none lost");
    }
    assert_eq!(client.expired_sessions(), 0);
}
