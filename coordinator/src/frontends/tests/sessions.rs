//! Sessions: how they are resumed, how they move, how they end.

use ottla_common::coordination::protocol::*;
use ottla_common::types::{SessionId, Zxid};
use tokio::io::AsyncWriteExt;

use super::raw::{Member, RawClient, add_watch, get};

#[tokio::test]
async fn a_client_that_dies_loses_its_ephemerals_after_the_grace_all_at_once() {
    let member = Member::start_with(|config| config.disconnect_grace_ms = 100).await;
    let mut dying = RawClient::open(member.address, 60_000).await;
    let mut other = member.connect().await;
    for path in ["/a", "/b", "/c"] {
        dying.create(path, CreateMode::Ephemeral).await.unwrap();
    }
    other.ask(add_watch("/", true)).await.unwrap();
    drop(dying);
    let mut zxids = Vec::new();
    for path in ["/a", "/b", "/c"] {
        let event = other.event().await;
        assert_eq!((event.kind, &*event.path), (WatchEventKind::NodeDeleted, path));
        zxids.push(event.zxid);
    }
    zxids.dedup();
    assert_eq!(zxids.len(), 1, "all of them go in one zxid");
}

#[tokio::test]
async fn a_client_that_falls_silent_loses_its_session_and_is_told() {
    let member = Member::start().await;
    let mut silent = RawClient::open(member.address, 100).await;
    assert_eq!(silent.grant.session_timeout_ms, 100);
    silent.create("/a", CreateMode::Ephemeral).await.unwrap();
    let error = CoordinationError::SessionExpired;
    assert_eq!(silent.receive().await, Some(ServerFrame::Closed { error: error.clone() }));
    assert_eq!(silent.receive::<ServerFrame>().await, None);
    assert!(!member.connect().await.exists("/a").await);
    let SessionGrant { session_id, password, .. } = silent.grant;
    let resumed = RawClient::resume(member.address, session_id, password).await;
    assert_eq!(resumed.err(), Some(error), "an expired session never comes back");
}

#[tokio::test]
async fn a_session_that_comes_back_in_time_goes_on_with_its_ephemerals() {
    let member = Member::start_with(|config| config.disconnect_grace_ms = 10_000).await;
    let mut client = RawClient::open(member.address, 20_000).await;
    client.create("/a", CreateMode::Ephemeral).await.unwrap();
    for _ in 0..10 {
        let SessionGrant { session_id, password, .. } = client.grant.clone();
        drop(client);
        client = RawClient::resume(member.address, session_id, password).await.unwrap();
        assert_eq!(client.grant.session_id, session_id);
        let asked = client.ask(Request::GetEphemerals { prefix: "/".to_owned() }).await;
        assert_eq!(asked, Ok(Response::Ephemerals(vec!["/a".to_owned()])));
    }
}

/// A client that goes elsewhere before its welcome comes may be served there by the time this
/// member carries the old hello out: it relies on the timeout that it was told there.
#[tokio::test]
async fn a_connection_that_is_never_used_does_not_shorten_its_session_at_its_end() {
    let member = Member::start_with(|config| config.disconnect_grace_ms = 1).await;
    let mut client = RawClient::open(member.address, 20_000).await;
    client.create("/a", CreateMode::Ephemeral).await.unwrap();
    let SessionGrant { session_id, password, .. } = client.grant.clone();
    drop(RawClient::resume(member.address, session_id, password).await.unwrap());
    let mut other = member.connect().await;
    let mut later = RawClient::open(member.address, 20_000).await;
    later.create("/b", CreateMode::Ephemeral).await.unwrap();
    other.ask(add_watch("/", true)).await.unwrap();
    drop(later);
    assert_eq!(other.event().await.path, "/b");
    assert!(other.exists("/a").await);
}

#[tokio::test]
async fn a_session_that_moves_leaves_its_old_connection_behind() {
    let member = Member::start().await;
    let mut old = member.connect().await;
    let SessionGrant { session_id, password, .. } = old.grant.clone();
    let mut new = RawClient::resume(member.address, session_id, password).await.unwrap();
    let error = CoordinationError::SessionMoved;
    assert_eq!(old.receive().await, Some(ServerFrame::Closed { error }));
    assert_eq!(old.receive::<ServerFrame>().await, None);
    new.create("/a", CreateMode::Ephemeral).await.unwrap();
    drop(old);
    assert!(new.exists("/a").await);
}

#[tokio::test]
async fn the_secret_is_needed_to_resume() {
    let member = Member::start().await;
    let client = member.connect().await;
    let SessionGrant { session_id, mut password, .. } = client.grant.clone();
    assert_eq!(password.len(), 16);
    password[15] ^= 1;
    let expired = Some(CoordinationError::SessionExpired);
    for wrong in [password, vec![], vec![0; 17]] {
        let refused = RawClient::resume(member.address, session_id, wrong).await;
        assert_eq!(refused.err(), expired);
    }
    let nobody = RawClient::resume(member.address, SessionId(999), vec![0; 16]).await;
    assert_eq!(nobody.err(), expired);
}

#[tokio::test]
async fn closing_a_session_removes_its_ephemerals_before_it_is_answered() {
    let member = Member::start().await;
    let mut client = member.connect().await;
    client.create("/a", CreateMode::Ephemeral).await.unwrap();
    assert_eq!(client.ask(Request::CloseSession).await, Ok(Response::Done));
    assert_eq!(client.receive::<ServerFrame>().await, None);
    assert!(!member.connect().await.exists("/a").await);
}

#[tokio::test]
async fn what_was_asked_before_the_client_left_is_still_carried_out() {
    let member = Member::start().await;
    let mut watching = member.connect().await;
    watching.ask(add_watch("/a", false)).await.unwrap();
    let mut client = member.connect().await;
    client.send(Request::Write(super::raw::create("/a", CreateMode::Persistent))).await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(watching.event().await.kind, WatchEventKind::NodeCreated);
}

#[tokio::test]
async fn a_member_that_is_behind_what_the_client_saw_refuses_it() {
    let member = Member::start().await;
    let session = SessionRequest::New { session_timeout_ms: 1_000 };
    let refused = RawClient::hello(member.address, session, Zxid(1_000_000)).await;
    assert_eq!(refused.err(), Some(CoordinationError::MemberBehind));
}

#[tokio::test]
async fn the_timeout_is_kept_within_the_members_bounds() {
    let member = Member::start_with(|config| {
        config.session_timeout_min_ms = 2_000;
        config.session_timeout_max_ms = 3_000;
    })
    .await;
    for (asked, granted) in [(0, 2_000), (2_500, 2_500), (u32::MAX, 3_000)] {
        let client = RawClient::open(member.address, asked).await;
        assert_eq!(client.grant.session_timeout_ms, granted);
    }
}

#[tokio::test]
async fn idle_nodes_go_by_themselves() {
    let member = Member::start_with(|config| config.idle_check_interval_ms = 10).await;
    let mut client = member.connect().await;
    client.ask(add_watch("/", true)).await.unwrap();
    for (path, mode) in [
        ("/ttl", CreateMode::PersistentWithTtl { ttl_ms: 1 }),
        ("/box", CreateMode::Container),
        ("/box/a", CreateMode::Persistent),
    ] {
        client.send(Request::Write(super::raw::create(path, mode))).await;
    }
    let path = "/box/a".to_owned();
    client.send(Request::Write(Op::Delete { path, version: None })).await;
    let mut gone = Vec::new();
    while gone.len() < 3 {
        if let ServerFrame::Watch(WatchEvent { kind: WatchEventKind::NodeDeleted, path, .. }) =
            client.frame().await
        {
            gone.push(path);
        }
    }
    gone.sort();
    assert_eq!(gone, ["/box", "/box/a", "/ttl"]);
    let read = client.ask(get("/box", false)).await;
    assert_eq!(read, Err(CoordinationError::NoNode { path: "/box".to_owned() }));
}

#[tokio::test]
async fn a_restart_keeps_nodes_and_sessions_and_gives_sessions_their_timeout_again() {
    let member = Member::start().await;
    let mut client = RawClient::open(member.address, 60_000).await;
    client.create("/kept", CreateMode::Persistent).await.unwrap();
    client.create("/mine", CreateMode::Ephemeral).await.unwrap();
    client.set("/kept", "data").await;
    let before = member.server.live().machine();
    let SessionGrant { session_id, password, .. } = client.grant.clone();
    let member = member.restart().await;
    let after = member.server.live().machine();
    assert_eq!(after.digest(), before.digest());
    assert!(after.zxid() >= before.zxid());
    assert_eq!(client.receive::<ServerFrame>().await, None);
    let mut client = RawClient::resume(member.address, session_id, password).await.unwrap();
    assert!(client.exists("/mine").await);
    let Ok(Response::Data { data, stat }) = client.ask(get("/kept", false)).await else { panic!() };
    assert_eq!((data, stat.version), (b"data".to_vec(), 1));
    client.ask(Request::CloseSession).await.unwrap();
    let member = member.restart().await;
    assert!(!member.connect().await.exists("/mine").await);
}

#[tokio::test]
async fn the_sessions_of_a_member_that_was_down_still_expire() {
    let member = Member::start().await;
    let mut client = RawClient::open(member.address, 200).await;
    client.create("/mine", CreateMode::Ephemeral).await.unwrap();
    let member = member.restart().await;
    let mut other = member.connect().await;
    other.ask(add_watch("/mine", false)).await.unwrap();
    let path = "/mine".to_owned();
    other.send(Request::Exists { path, watch: false, linearizable: false }).await;
    // It goes now, or it went before the watch was left.
    loop {
        match other.frame().await {
            ServerFrame::Watch(event) => break assert_eq!(event.kind, WatchEventKind::NodeDeleted),
            ServerFrame::Reply { result: Ok(Response::Exists(None)), .. } => break,
            ServerFrame::Reply { result: Ok(Response::Exists(Some(_))), .. } => {}
            other => panic!("{other:?}"),
        }
    }
}
