//! Subscriptions: a snapshot and then every change, or just the changes; no gap, nothing twice.

use std::collections::BTreeMap;

use ottla_common::coordination::protocol::*;
use ottla_common::types::Zxid;

use super::raw::{Member, RawClient, create, set};

/// What a subscriber knows: nodes with their data, as of a zxid.
#[derive(Debug, Default, PartialEq)]
struct Replica {
    nodes: BTreeMap<String, Vec<u8>>,
    zxid: Zxid,
}

impl Replica {
    fn take(&mut self, frame: ServerFrame) {
        match frame {
            ServerFrame::Snapshot { zxid, nodes, .. } => {
                self.zxid = zxid;
                self.nodes.extend(nodes.into_iter().map(|node| (node.path, node.data)));
            }
            ServerFrame::Changes { zxid, changes, last, .. } => {
                assert!(zxid > self.zxid, "{zxid} after {}", self.zxid);
                for change in changes {
                    match change.kind {
                        ChangeKind::Deleted => {
                            assert!(self.nodes.remove(&change.path).is_some(), "{}", change.path);
                        }
                        ChangeKind::Created => {
                            assert!(self.nodes.insert(change.path, change.data).is_none());
                        }
                        _ => assert!(self.nodes.insert(change.path, change.data).is_some()),
                    }
                }
                if last {
                    self.zxid = zxid;
                }
            }
            other => panic!("{other:?}"),
        }
    }

    async fn reach(&mut self, client: &mut RawClient, zxid: Zxid) {
        while self.zxid < zxid {
            self.take(client.frame().await);
        }
    }
}

async fn subscribe(client: &mut RawClient, prefix: &str, from_zxid: Option<Zxid>) -> (bool, Zxid) {
    let asked = client.send(Request::Subscribe { prefix: prefix.to_owned(), from_zxid }).await;
    match client.frame().await {
        ServerFrame::Reply { xid, zxid, result: Ok(Response::Subscribed { resumed }) } => {
            assert_eq!(xid, asked);
            (resumed, zxid)
        }
        other => panic!("{other:?}"),
    }
}

/// All nodes as a reader sees them.
fn truth(member: &Member, prefix: &str) -> BTreeMap<String, Vec<u8>> {
    let machine = member.server.live().machine();
    machine.tree().walk(prefix).map(|(path, node)| (path, node.data().to_vec())).collect()
}

#[tokio::test]
async fn a_snapshot_comes_first_and_then_every_change_while_others_write() {
    let member = Member::start().await;
    let mut writer = member.connect().await;
    writer.create("/a", CreateMode::Persistent).await.unwrap();
    let address = member.address;
    let writing = tokio::spawn(async move {
        for round in 0..300 {
            let path = format!("/a/{}", round % 17);
            writer.send(Request::Write(create(&path, CreateMode::Persistent))).await;
            writer.send(Request::Write(set(&path, &round.to_string()))).await;
            let path = format!("/a/{}", (round + 5) % 17);
            writer.send(Request::Write(Op::Delete { path, version: None })).await;
        }
        for _ in 0..900 {
            writer.frame().await;
        }
    });
    // Subscribers that begin at different moments all come to the same.
    let mut subscribers = Vec::new();
    for _ in 0..10 {
        let mut client = RawClient::open(address, 10_000).await;
        assert!(!subscribe(&mut client, "/a", None).await.0);
        let mut replica = Replica::default();
        replica.take(client.frame().await);
        subscribers.push((client, replica));
    }
    writing.await.unwrap();
    let mut last = member.connect().await;
    last.set("/a", "end").await;
    let end = member.server.live().zxid();
    for (client, replica) in &mut subscribers {
        replica.reach(client, end).await;
        assert_eq!(replica.nodes, truth(&member, "/a"));
    }
}

#[tokio::test]
async fn a_subscriber_goes_on_from_where_it_was() {
    let member = Member::start().await;
    let mut writer = member.connect().await;
    writer.create("/a", CreateMode::Persistent).await.unwrap();
    let mut client = member.connect().await;
    subscribe(&mut client, "/a", None).await;
    let mut replica = Replica::default();
    replica.take(client.frame().await);
    drop(client);
    writer.set("/a", "unseen").await;
    writer.create("/elsewhere", CreateMode::Persistent).await.unwrap();
    let stat = writer.create("/a/b", CreateMode::Persistent).await.unwrap();
    let mut client = member.connect().await;
    assert_eq!(subscribe(&mut client, "/a", Some(replica.zxid)).await, (true, replica.zxid));
    replica.reach(&mut client, stat.czxid).await;
    assert_eq!(replica.nodes, truth(&member, "/a"));
}

#[tokio::test]
async fn changes_of_one_zxid_stay_together_however_many() {
    let member = Member::start().await;
    let mut client = member.connect().await;
    subscribe(&mut client, "/", None).await;
    let mut replica = Replica::default();
    replica.take(client.frame().await);
    let mut writer = member.connect().await;
    let mut ops = vec![create("/a", CreateMode::Persistent)];
    ops.extend((0..20_000).map(|n| create(&format!("/a/{n}"), CreateMode::Persistent)));
    let count = ops.len();
    let asked = writer.ask(Request::Multi(ops)).await;
    assert!(matches!(asked, Ok(Response::Multi(results)) if results.len() == count));
    let mut frames = 0;
    let mut zxids = Vec::new();
    loop {
        let ServerFrame::Changes { zxid, changes, last, subscription } = client.frame().await
        else {
            panic!();
        };
        frames += 1;
        zxids.push(zxid);
        replica.take(ServerFrame::Changes { zxid, changes, last, subscription });
        if last {
            break;
        }
    }
    zxids.dedup();
    assert!(frames > 1 && zxids.len() == 1, "{frames} frames of {zxids:?}");
    assert_eq!(replica.nodes, truth(&member, "/"));
    let path = "/a".to_owned();
    writer.ask(Request::Write(Op::DeleteRecursive { path, version: None })).await.unwrap();
    replica.reach(&mut client, Zxid(zxids[0].0 + 1)).await;
    assert_eq!(replica.nodes, truth(&member, "/"));
    let mut late = member.connect().await;
    subscribe(&mut late, "/", None).await;
    let mut fresh = Replica::default();
    fresh.take(late.frame().await);
    assert_eq!(fresh.nodes, replica.nodes);
}

#[tokio::test]
async fn a_subscriber_sees_only_what_it_may_read() {
    let member = Member::start().await;
    let mut owner = member.connect().await;
    let auth = Request::Auth { scheme: "digest".to_owned(), credential: b"a:b".to_vec() };
    owner.ask(auth).await.unwrap();
    let mine = || vec![Acl { permissions: 31, scheme: "auth".to_owned(), id: String::new() }];
    owner.create("/a", CreateMode::Persistent).await.unwrap();
    let secret = Op::Create {
        path: "/a/secret".to_owned(),
        data: vec![],
        mode: CreateMode::Persistent,
        acl: mine(),
    };
    owner.ask(Request::Write(secret)).await.unwrap();
    owner.create("/a/open", CreateMode::Persistent).await.unwrap();
    let mut stranger = member.connect().await;
    subscribe(&mut stranger, "/a", None).await;
    let mut replica = Replica::default();
    replica.take(stranger.frame().await);
    assert_eq!(replica.nodes.keys().collect::<Vec<_>>(), ["/a", "/a/open"]);
    owner.set("/a/secret", "unheard").await;
    let set_acl = |path: &str, acl| Op::SetAcl { path: path.to_owned(), acl, version: None };
    owner.ask(Request::Write(set_acl("/a/open", mine()))).await.unwrap();
    owner.ask(Request::Write(set_acl("/a/secret", Acl::open()))).await.unwrap();
    owner.set("/a", "end").await;
    while replica.nodes["/a"] != b"end" {
        replica.take(stranger.frame().await);
    }
    assert_eq!(replica.nodes.keys().collect::<Vec<_>>(), ["/a", "/a/secret"]);
    assert_eq!(replica.nodes["/a/secret"], b"unheard");
}

#[tokio::test]
async fn an_ended_subscription_is_silent() {
    let member = Member::start().await;
    let mut client = member.connect().await;
    let asked = client.send(Request::Subscribe { prefix: "/".to_owned(), from_zxid: None }).await;
    client.frame().await;
    client.frame().await;
    client.ask(Request::Unsubscribe { subscription: asked }).await.unwrap();
    client.create("/a", CreateMode::Persistent).await.unwrap();
    client.ask(Request::Ping).await.unwrap();
}

#[tokio::test]
async fn a_subscription_from_the_future_is_refused() {
    let member = Member::start().await;
    let mut client = member.connect().await;
    let from_zxid = Some(Zxid(1_000));
    let asked = client.ask(Request::Subscribe { prefix: "/".to_owned(), from_zxid }).await;
    assert_eq!(asked, Err(CoordinationError::MemberBehind));
}
