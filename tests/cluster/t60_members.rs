//! Members as processes of their own that join a running ensemble, and leave it.

use std::process::Command;
use std::time::Duration;

use ottla_common::coordination::client::{Client, ClientConfig};
use ottla_common::coordination::protocol::CreateMode;
use ottla_tests::ports::free_port;
use ottla_tests::process::{MemberProcess, coordinator_binary, ottla_binary, printed, run};
use serde_json::Value;
use tempfile::TempDir;

/// On a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

struct Four {
    peers: Vec<String>,
    clients: Vec<String>,
    dir: TempDir,
}

impl Four {
    fn new() -> Self {
        let mut peers: Vec<_> = (0..8).map(|_| format!("127.0.0.1:{}", free_port())).collect();
        let clients = peers.split_off(4);
        Self { peers, clients, dir: tempfile::tempdir().unwrap() }
    }

    /// Member `id` of an ensemble of the first `count`.
    fn start(&self, id: usize, count: usize) -> MemberProcess {
        let list =
            (1..=count).map(|n| format!("{n}={};{}", self.peers[n - 1], self.clients[n - 1]));
        let list = list.collect::<Vec<_>>().join(",");
        let folder = self.dir.path().join(id.to_string()).display().to_string();
        let id_text = id.to_string();
        let arguments = [
            "--id",
            &id_text,
            "--dir",
            &folder,
            "--listen",
            &self.clients[id - 1],
            "--members",
            &list,
        ];
        MemberProcess::start(&coordinator_binary().unwrap(), &arguments).unwrap()
    }

    /// Runs `ottla coordinator` through these members; its lines.
    async fn ottla(&self, through: &[usize], arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
        let addresses: Vec<_> = through.iter().map(|id| self.clients[id - 1].as_str()).collect();
        let mut command = Command::new(ottla_binary()?);
        command.args(["coordinator", "--json", "-c", &addresses.join(",")]).args(arguments);
        let output = tokio::task::spawn_blocking(move || run(command, "")).await??;
        let lines = printed(&output)?;
        Ok(lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }

    async fn client(&self, id: usize) -> Client {
        let config = ClientConfig::new(vec![self.clients[id - 1].clone()], "test");
        // Until it listens, and knows a leader.
        let connecting = async {
            loop {
                match Client::connect(config.clone()).await {
                    Ok(client) => return client,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, connecting).await.unwrap()
    }

    /// Writes through a member, until it is done: while another leads, it may not be.
    async fn write(&self, id: usize, path: &str) {
        let writing = async {
            loop {
                let client = self.client(id).await;
                let done = client.create(path, Vec::new(), CreateMode::Persistent).await;
                let is_there = client.get(path).await.is_ok_and(|node| node.is_some());
                client.close().await;
                if done.is_ok() || is_there {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, writing).await.unwrap();
    }

    /// Waits until a member says that these are the voters, and nobody else is there.
    async fn voters(&self, through: usize, voters: &[&str]) {
        let waiting = async {
            loop {
                let Ok(lines) = self.ottla(&[through], &["members"]).await else { continue };
                let is_voter = |line: &Value| line["role"] == "voter";
                if lines.iter().all(is_voter) && lines.iter().map(|line| &line["member"]).eq(voters)
                {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_joins_a_running_ensemble_and_another_leaves_it() {
    let four = Four::new();
    let mut members: Vec<_> = (1..=3).map(|id| four.start(id, 3)).collect();
    four.write(1, "/before").await;

    // It is started with its own address beside theirs, and waits until it is let in.
    members.push(four.start(4, 4));
    let (peer, client) = (four.peers[3].as_str(), four.clients[3].as_str());
    let add = ["add", "4", "--peer", peer, "--client", client];
    four.ottla(&[1, 2, 3], &add).await.unwrap();
    four.voters(1, &["1", "2", "3", "4"]).await;
    let refused = four.ottla(&[1, 2, 3], &add).await.unwrap_err().to_string();
    assert!(refused.contains("nothing") || refused.contains("already"), "{refused}");
    let through_it = four.client(4).await;
    assert!(through_it.get("/before").await.unwrap().is_some(), "it has what was there before");
    through_it.close().await;
    four.write(4, "/through-4").await;

    // Its configuration names three members; what was decided since counts.
    members[0].kill().unwrap();
    members[0].restart().unwrap();
    four.voters(1, &["1", "2", "3", "4"]).await;

    // Of the three that stay, two are a majority, and the new one is of them.
    four.ottla(&[2, 3, 4], &["remove", "1"]).await.unwrap();
    four.voters(4, &["2", "3", "4"]).await;
    members[0].kill().unwrap();
    members[1].kill().unwrap();
    four.write(4, "/without-1-and-2").await;
    members[1].restart().unwrap();
    four.write(2, "/with-2").await;
    let lines = four.ottla(&[2, 3, 4], &["verify"]).await.unwrap();
    assert_eq!(lines.len(), 3);
}
