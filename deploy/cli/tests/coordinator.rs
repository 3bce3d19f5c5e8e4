//! `ottla coordinator` against members in this process.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use assert_cmd::Command;
use ottla_common::config::Settings;
use ottla_common::coordination::client::{Client, ClientConfig};
use ottla_common::coordination::protocol::{Acl, CreateMode, Op, Request};
use ottla_common::shutdown::Shutdown;
use ottla_coordinator::server::{Config, RunningServer, Server};
use serde_json::Value;
use tempfile::TempDir;

struct Member {
    address: String,
    _server: RunningServer,
    shutdown: Shutdown,
    _dir: TempDir,
}

impl Member {
    async fn start() -> Self {
        let (dir, shutdown) = (tempfile::tempdir().unwrap(), Shutdown::new());
        let config =
            Config { listen: "127.0.0.1:0".to_owned(), ..Config::new(dir.path().join("data")) };
        let server = Server::start(config, shutdown.clone()).await.unwrap();
        let address = server.client_address.to_string();
        Self { address, _server: server, shutdown, _dir: dir }
    }

    async fn client(&self) -> Client {
        let config = ClientConfig::new(vec![self.address.clone()], "test");
        Client::connect(config).await.unwrap()
    }

    async fn stop(self) {
        assert!(self.shutdown.finish(Duration::from_secs(20)).await);
    }
}

/// Runs `ottla coordinator`: its exit code, its lines as JSON, and what it said.
async fn ottla(member: &Member, arguments: &[&str]) -> (i32, Vec<Value>, String) {
    let mut command = Command::cargo_bin("ottla").unwrap();
    command.args(["coordinator", "--json", "-c", &member.address]).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), lines, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ensemble_is_shown_and_compared() {
    let member = Member::start().await;
    let client = member.client().await;
    client.create("/a", Vec::new(), CreateMode::Ephemeral).await.unwrap();
    let (code, lines, said) = ottla(&member, &["status"]).await;
    assert_eq!((code, lines.len()), (0, 1), "{said}");
    assert_eq!((&lines[0]["role"], &lines[0]["leader"]), (&"leader".into(), &"1".into()));
    assert_eq!((&lines[0]["sessions"], &lines[0]["lag"]), (&1.into(), &0.into()));
    let (code, lines, said) = ottla(&member, &["members"]).await;
    assert_eq!((code, &lines[0]["role"]), (0, &"voter".into()), "{said}");
    let (code, lines, said) = ottla(&member, &["verify"]).await;
    assert_eq!((code, lines.len()), (0, 1), "{said}");
    let (code, lines, said) = ottla(&member, &["top", "-n", "2", "--interval-ms", "100"]).await;
    assert_eq!((code, lines.len()), (0, 2), "{said}");
    assert!(lines[1]["changes/s"].is_number() && lines[0]["changes/s"].is_null());
    client.close().await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zookeepers_tree_is_copied_and_copied_again() {
    let (from, to) = (Member::start().await, Member::start().await);
    let client = from.client().await;
    for path in ["/app", "/app/deep", "/other"] {
        client.create(path, path.as_bytes().to_vec(), CreateMode::Persistent).await.unwrap();
    }
    let readers = Acl { permissions: 1, ..Acl::open().remove(0) };
    for number in 0..200 {
        let op = Op::Create {
            path: format!("/app/deep/{number}"),
            data: vec![7; number],
            mode: CreateMode::Persistent,
            acl: vec![readers.clone()],
        };
        client.request(Request::Write(op)).await.unwrap();
    }
    client.create("/app/worker", Vec::new(), CreateMode::Ephemeral).await.unwrap();
    client.create("/app/box", Vec::new(), CreateMode::Container).await.unwrap();
    let mode = CreateMode::PersistentWithTtl { ttl_ms: 600_000 };
    client.create("/app/brief", Vec::new(), mode).await.unwrap();

    let import = ["import", "--zookeeper", &from.address];
    let (code, lines, said) = ottla(&to, &import).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!((&lines[0]["copied"], &lines[0]["existing"]), (&205.into(), &1.into()), "{lines:?}");
    let left_out = lines[0]["left_out"].as_array().unwrap();
    let left_out: Vec<_> = left_out.iter().map(|node| node["what"].as_str().unwrap()).collect();
    // ZooKeeper does not tell its clients what is a container or has a time to live.
    assert_eq!(left_out, ["ephemeral"]);
    let copy = to.client().await;
    let (data, stat) = copy.get("/app/deep/199").await.unwrap().unwrap();
    assert_eq!((data.len(), stat.num_children), (199, 0));
    let Ok(ottla_common::coordination::protocol::Response::Acl { acl, .. }) =
        copy.request(Request::GetAcl { path: "/app/deep/7".to_owned() }).await
    else {
        panic!("no access list")
    };
    assert_eq!(acl, [readers]);

    // Again: what is there stays, unless it is to be overwritten.
    client.set("/other", b"new".to_vec(), None).await.unwrap();
    let (_, lines, _) = ottla(&to, &import).await;
    assert_eq!((&lines[0]["copied"], &lines[0]["existing"]), (&0.into(), &206.into()));
    assert_eq!(&copy.get("/other").await.unwrap().unwrap().0[..], b"/other");
    let (code, lines, said) =
        ottla(&to, &[&import[..], &["--overwrite", "--path", "/other"]].concat()).await;
    assert_eq!((code, &lines[0]["overwritten"]), (0, &1.into()), "{said}");
    assert_eq!(&copy.get("/other").await.unwrap().unwrap().0[..], b"new");
    let (code, _, said) = ottla(&to, &["import", "--zookeeper", "127.0.0.1:1"]).await;
    assert_eq!(code, 1);
    assert!(said.contains("no ZooKeeper answers (127.0.0.1:1"), "{said}");
    for (client, member) in [(client, from), (copy, to)] {
        client.close().await;
        member.stop().await;
    }
}

/// Three members that know each other.
async fn three() -> Vec<Member> {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // Held together, so that no port is given twice.
    let held: Vec<_> = (0..6).map(|_| free()).collect();
    let addresses: Vec<String> =
        held.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
    drop(held);
    let members = (1..=3).map(|id| format!("{id}={};{}", addresses[id - 1], addresses[id + 2]));
    let members = members.collect::<Vec<_>>().join(",");
    let mut running = Vec::new();
    for id in 1..=3 {
        let (dir, shutdown) = (tempfile::tempdir().unwrap(), Shutdown::new());
        let mut settings = Settings::new();
        let properties = format!(
            "id={id}\nlisten={}\nmembers={members}\npeer.key=secret\ndata.dir={}\n",
            addresses[id + 2],
            dir.path().join("data").display()
        );
        settings.add_properties("test", &properties).unwrap();
        let config = Config::from_settings(&settings).unwrap();
        let server = Server::start(config, shutdown.clone()).await.unwrap();
        let address = server.client_address.to_string();
        running.push(Member { address, _server: server, shutdown, _dir: dir });
    }
    running
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ensemble_is_shown_through_any_member_and_changed_through_its_leader() {
    let members = three().await;
    // Also makes sure that there is a leader.
    let client = members[0].client().await;
    client.create("/a", Vec::new(), CreateMode::Persistent).await.unwrap();
    client.close().await;
    let (code, lines, said) = ottla(&members[0], &["status"]).await;
    assert_eq!((code, lines.len()), (0, 3), "{said}");
    let leader = lines.iter().find(|line| line["role"] == "leader").unwrap()["member"].clone();
    let leader = leader.as_str().unwrap().to_owned();
    let other = if leader == "1" { "2" } else { "1" };
    let (code, lines, said) = ottla(&members[1], &["verify"]).await;
    assert_eq!((code, lines.len()), (0, 3), "{said}");
    let (code, _, said) = ottla(&members[2], &["transfer-leader", "--to", other]).await;
    assert_eq!(code, 0, "{said}");
    loop {
        let (_, lines, _) = ottla(&members[2], &["members"]).await;
        if lines.iter().any(|line| line["member"] == other && line["leads"] == true) {
            assert!(lines.iter().all(|line| line["answers"] == true), "{lines:?}");
            break;
        }
    }
    let (code, _, said) = ottla(&members[0], &["snapshot"]).await;
    assert_eq!(code, 0, "{said}");
    let (code, _, said) = ottla(&members[0], &["remove", &leader]).await;
    assert_eq!(code, 0, "{said}");
    let stays = &members[if other == "1" { 0 } else { 1 }];
    // It is decided when the command ends, and told by each member when it has learnt of it.
    while ottla(stays, &["members"]).await.1.len() != 2 {}
    let through_another = stays.client().await;
    through_another.create("/b", Vec::new(), CreateMode::Persistent).await.unwrap();
    through_another.close().await;
    for member in members {
        member.stop().await;
    }
}
