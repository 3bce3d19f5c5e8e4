//! Replies in the order of requests, reads after the session's own writes, events before data.

use ottla_common::coordination::protocol::*;

use super::raw::{Member, add_watch, create, get, set};

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_each_read_sees_just_what_was_written_before()
{
    let member = Member::start().await;
    let mut client = member.connect().await;
    client.create("/a", CreateMode::Persistent).await.unwrap();
    // A write, a read, a write, a read, ... all sent before the first answer is awaited.
    let mut asked = Vec::new();
    for round in 0..200 {
        asked.push((client.send(Request::Write(set("/a", &round.to_string()))).await, None));
        asked.push((client.send(get("/a", false)).await, Some(round.to_string())));
    }
    let mut newest = 0;
    for (asked, expected) in asked {
        let ServerFrame::Reply { xid, zxid, result } = client.frame().await else { panic!() };
        assert_eq!(xid, asked);
        assert!(zxid.0 >= newest, "the zxid never goes back");
        newest = zxid.0;
        match (result.unwrap(), expected) {
            (Response::Data { data, .. }, Some(expected)) => {
                assert_eq!(String::from_utf8(data).unwrap(), expected);
            }
            (Response::Written(_), None) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn writes_of_one_session_are_done_in_order_even_when_many_are_on_their_way() {
    let member = Member::start().await;
    let mut client = member.connect().await;
    client.create("/a", CreateMode::Persistent).await.unwrap();
    for version in 0..3_000 {
        let op = Op::SetData { path: "/a".to_owned(), data: vec![], version: Some(version) };
        client.send(Request::Write(op)).await;
    }
    for version in 1..=3_000 {
        let ServerFrame::Reply { result, .. } = client.frame().await else { panic!() };
        let Response::Written(OpResult::Set { stat }) = result.unwrap() else { panic!() };
        assert_eq!(stat.version, version);
    }
}

#[tokio::test]
async fn an_event_comes_before_any_reply_that_shows_the_change() {
    let member = Member::start().await;
    let mut writer = member.connect().await;
    let mut watcher = member.connect().await;
    writer.create("/a", CreateMode::Persistent).await.unwrap();
    for round in 0..200 {
        watcher.ask(get("/a", true)).await.unwrap();
        // The writer writes while the watcher reads again and again.
        writer.send(Request::Write(set("/a", &round.to_string()))).await;
        let mut was_told = false;
        for _ in 0..1_000_000 {
            watcher.send(get("/a", false)).await;
            let shown = match watcher.frame().await {
                ServerFrame::Watch(event) => {
                    assert_eq!(event.kind, WatchEventKind::NodeDataChanged);
                    was_told = true;
                    watcher.frame().await
                }
                other => other,
            };
            let ServerFrame::Reply { result: Ok(Response::Data { stat, .. }), .. } = shown else {
                panic!("{shown:?}");
            };
            if stat.version > round {
                assert!(was_told, "round {round}: new data without its event");
                break;
            }
        }
        assert!(was_told);
        writer.frame().await;
    }
}

#[tokio::test]
async fn a_session_hears_of_its_own_write_before_the_reply_to_it() {
    let member = Member::start().await;
    let mut client = member.connect().await;
    client.ask(add_watch("/a", true)).await.unwrap();
    client.send(Request::Write(create("/a", CreateMode::Persistent))).await;
    let created = client.event().await;
    assert_eq!((created.kind, &*created.path), (WatchEventKind::NodeCreated, "/a"));
    let ServerFrame::Reply { zxid, result: Ok(_), .. } = client.frame().await else { panic!() };
    assert_eq!(created.zxid, zxid);
    client.ask(Request::RemoveWatches { path: "/a".to_owned() }).await.unwrap();
    client.set("/a", "unheard").await;
    let removed = client.ask(Request::RemoveWatches { path: "/a".to_owned() }).await;
    assert_eq!(removed, Err(CoordinationError::NoWatch { path: "/a".to_owned() }));
}

#[tokio::test]
async fn a_failed_multi_tells_which_part_failed_and_changes_nothing() {
    let member = Member::start().await;
    let mut client = member.connect().await;
    let ops = vec![create("/a", CreateMode::Persistent), set("/missing", "")];
    let failed = client.ask(Request::Multi(ops)).await;
    let error = Box::new(CoordinationError::NoNode { path: "/missing".to_owned() });
    assert_eq!(failed, Err(CoordinationError::MultiFailed { index: 1, error }));
    assert!(!client.exists("/a").await);
}

#[tokio::test]
async fn a_sync_and_a_linearizable_read_see_what_others_have_completed() {
    let member = Member::start().await;
    let mut one = member.connect().await;
    let mut two = member.connect().await;
    one.create("/a", CreateMode::Persistent).await.unwrap();
    assert_eq!(two.ask(Request::Sync).await, Ok(Response::Done));
    assert!(two.exists("/a").await);
    one.set("/a", "new").await;
    let read = Request::Get { path: "/a".to_owned(), watch: false, linearizable: true };
    let Ok(Response::Data { data, .. }) = two.ask(read).await else { panic!() };
    assert_eq!(data, b"new");
}

#[tokio::test]
async fn who_proved_an_identity_may_do_what_others_may_not() {
    let member = Member::start().await;
    let mut owner = member.connect().await;
    let mut stranger = member.connect().await;
    let auth = |credential: &str| Request::Auth {
        scheme: "digest".to_owned(),
        credential: credential.as_bytes().to_vec(),
    };
    owner.ask(auth("alice:secret")).await.unwrap();
    let mine = Acl { permissions: 31, scheme: "auth".to_owned(), id: String::new() };
    let op = Op::Create {
        path: "/private".to_owned(),
        data: b"x".to_vec(),
        mode: CreateMode::Persistent,
        acl: vec![mine],
    };
    owner.ask(Request::Write(op)).await.unwrap();
    let no_auth = CoordinationError::NoAuth { path: "/private".to_owned() };
    assert_eq!(stranger.ask(get("/private", false)).await, Err(no_auth.clone()));
    assert_eq!(stranger.ask(Request::Write(set("/private", ""))).await, Err(no_auth.clone()));
    assert_eq!(stranger.ask(add_watch("/private", false)).await, Err(no_auth));
    // A watch above it tells a stranger nothing of it.
    stranger.ask(add_watch("/", true)).await.unwrap();
    owner.set("/private", "y").await;
    assert!(matches!(owner.ask(get("/private", false)).await, Ok(Response::Data { .. })));
    stranger.ask(Request::Ping).await.unwrap();
    stranger.ask(auth("alice:secret")).await.unwrap();
    owner.set("/private", "z").await;
    assert_eq!(stranger.event().await.path, "/private");
    // A proof that is none ends the connection.
    let kerberos = Request::Auth { scheme: "kerberos".to_owned(), credential: vec![] };
    assert_eq!(owner.ask(kerberos).await, Err(CoordinationError::AuthFailed));
    let error = CoordinationError::AuthFailed;
    assert_eq!(owner.receive().await, Some(ServerFrame::Closed { error }));
    assert_eq!(owner.receive::<ServerFrame>().await, None);
}
