//! Stories of ZooKeeper's clients, told in its own messages.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::raw::Member;
use crate::frontends::zookeeper::jute::{Jute, Reader, put_message};
use crate::frontends::zookeeper::messages::*;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client of ZooKeeper's protocol that knows nothing more than messages.
pub struct Client {
    pub stream: TcpStream,
    read: BytesMut,
    next_xid: i32,
    pub session: ConnectResponse,
}

/// What a member sends.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Reply { xid: i32, err: i32, body: BytesMut },
    Event { kind: i32, path: String },
}

impl Client {
    pub async fn open(address: SocketAddr) -> Self {
        let hello = ConnectRequest {
            time_out: 10_000,
            passwd: Some(vec![0; 16]),
            read_only: Some(false),
            ..ConnectRequest::default()
        };
        Self::hello(address, &hello).await.expect("a session")
    }

    /// The hello's answer; none if the member hung up instead.
    pub async fn hello(address: SocketAddr, hello: &ConnectRequest) -> Option<Self> {
        let stream = TcpStream::connect(address).await.unwrap();
        let session = ConnectResponse::default();
        let mut client = Self { stream, read: BytesMut::new(), next_xid: 0, session };
        client.put(|out| hello.encode(out)).await;
        client.session = Reader::new(&client.message().await?).read().unwrap();
        Some(client)
    }

    pub fn resumption(&self) -> ConnectRequest {
        ConnectRequest {
            time_out: 10_000,
            session_id: self.session.session_id,
            passwd: self.session.passwd.clone(),
            ..ConnectRequest::default()
        }
    }

    async fn put(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let mut bytes = BytesMut::new();
        put_message(&mut bytes, write);
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn send(&mut self, request: &Request) -> i32 {
        self.next_xid += 1;
        let header = RequestHeader { xid: self.next_xid, op: request.op() };
        self.put(|out| {
            header.encode(out);
            request.encode(out);
        })
        .await;
        self.next_xid
    }

    /// The next message; none if the member hung up.
    async fn message(&mut self) -> Option<BytesMut> {
        let reading = async {
            loop {
                if let Some((length, rest)) = self.read.split_first_chunk() {
                    let length = usize::try_from(i32::from_be_bytes(*length)).unwrap();
                    if rest.len() >= length {
                        self.read.advance(4);
                        return Some(self.read.split_to(length));
                    }
                }
                if self.stream.read_buf(&mut self.read).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("nothing came")
    }

    async fn hear(&mut self) -> Heard {
        let message = self.message().await.expect("the member hung up");
        let mut reader = Reader::new(&message);
        let header: ReplyHeader = reader.read().unwrap();
        if header.xid == xid::WATCH_EVENT {
            let event: WatcherEvent = reader.read().unwrap();
            assert_eq!(event.state, 3);
            return Heard::Event { kind: event.kind, path: event.path };
        }
        Heard::Reply { xid: header.xid, err: header.err, body: reader.left().into() }
    }

    /// Asks, and takes the answer that must be the next thing heard.
    async fn ask(&mut self, request: Request) -> Result<Response, i32> {
        let asked = self.send(&request).await;
        match self.hear().await {
            Heard::Reply { xid, err: 0, body } if xid == asked => {
                let mut reader = Reader::new(&body);
                let response = Response::decode(request.op(), &mut reader).unwrap().unwrap();
                assert!(reader.is_empty(), "{} bytes are left over", reader.left().len());
                Ok(response)
            }
            Heard::Reply { xid, err, body } if xid == asked && body.is_empty() => Err(err),
            other => panic!("{other:?} instead of the reply to {request:?}"),
        }
    }

    async fn event(&mut self) -> (i32, String) {
        match self.hear().await {
            Heard::Event { kind, path } => (kind, path),
            other => panic!("{other:?} instead of an event"),
        }
    }

    pub async fn create(&mut self, path: &str, flags: i32) -> Result<String, i32> {
        match self.ask(Request::Create(create(path, flags))).await? {
            Response::Create(response) => Ok(response.path),
            other => panic!("{other:?}"),
        }
    }

    async fn set(&mut self, path: &str, data: &str) {
        self.ask(set(path, data)).await.unwrap();
    }

    async fn data(&mut self, path: &str, watch: bool) -> Result<Buffer, i32> {
        match self.ask(Request::GetData(watched(path, watch))).await? {
            Response::GetData(response) => Ok(response.data),
            other => panic!("{other:?}"),
        }
    }

    pub async fn is_closed(&mut self) -> bool {
        self.message().await.is_none()
    }
}

fn open() -> Vec<Acl> {
    grant("world", "anyone")
}

fn grant(scheme: &str, id: &str) -> Vec<Acl> {
    vec![Acl { perms: 31, id: Id { scheme: scheme.to_owned(), id: id.to_owned() } }]
}

fn create(path: &str, flags: i32) -> CreateRequest {
    CreateRequest { path: path.to_owned(), data: Some(b"data".to_vec()), acl: open(), flags }
}

fn set(path: &str, data: &str) -> Request {
    let data = Some(data.as_bytes().to_vec());
    Request::SetData(SetDataRequest { path: path.to_owned(), data, version: -1 })
}

fn delete(path: &str) -> Request {
    Request::Delete(VersionedPath { path: path.to_owned(), version: -1 })
}

fn watched(path: &str, watch: bool) -> WatchedPath {
    WatchedPath { path: path.to_owned(), watch }
}

fn add_watch(path: &str, mode: i32) -> Request {
    Request::AddWatch(AddWatchRequest { path: path.to_owned(), mode })
}

fn digest(credential: &str) -> Request {
    let auth = Some(credential.as_bytes().to_vec());
    Request::Auth(AuthPacket { kind: 0, scheme: "digest".to_owned(), auth })
}

#[tokio::test]
async fn nodes_are_made_read_changed_and_removed() {
    let member = Member::start().await;
    let mut client = Client::open(member.address).await;
    assert_eq!(client.create("/a", 0).await.unwrap(), "/a");
    assert_eq!(client.create("/a/n-", 2).await.unwrap(), "/a/n-0000000000");
    let Ok(Response::Create2(made)) = client.ask(Request::Create2(create("/a/e", 1))).await else {
        panic!("not created");
    };
    assert_eq!(made.stat.ephemeral_owner, client.session.session_id);
    assert_eq!(client.create("/a/e/x", 0).await, Err(error_code::NO_CHILDREN_FOR_EPHEMERALS));
    client.set("/a", "new").await;
    assert_eq!(client.data("/a", false).await, Ok(Some(b"new".to_vec())));
    let children = client.ask(Request::GetChildren2(watched("/a", false))).await.unwrap();
    let Response::GetChildren2(GetChildren2Response { children, stat }) = children else {
        panic!("{children:?}");
    };
    assert_eq!(children, ["e", "n-0000000000"]);
    assert_eq!((stat.num_children, stat.cversion, stat.version), (2, 2, 1));
    assert_eq!(client.ask(delete("/a")).await, Err(error_code::NOT_EMPTY));
    client.ask(delete("/a/e")).await.unwrap();
    let missing = client.ask(Request::Exists(watched("/a/e", false))).await;
    assert_eq!(missing, Err(error_code::NO_NODE));
    let sync = Request::Sync(PathRequest { path: "/a".to_owned() });
    let path = "/a".to_owned();
    assert_eq!(client.ask(sync).await, Ok(Response::Sync(PathResponse { path })));
}

#[tokio::test]
async fn what_is_asked_at_once_is_answered_in_order() {
    let member = Member::start().await;
    let mut client = Client::open(member.address).await;
    client.create("/a", 0).await.unwrap();
    // More than may be in flight.
    let mut asked = Vec::new();
    for number in 0..1500 {
        asked.push((client.send(&set("/a", &number.to_string())).await, None));
        if number % 7 == 0 {
            let get = Request::GetData(watched("/a", false));
            asked.push((client.send(&get).await, Some(number.to_string())));
        }
    }
    for (asked, expected) in asked {
        let Heard::Reply { xid, err: 0, body } = client.hear().await else { panic!("an error") };
        assert_eq!(xid, asked);
        if let Some(expected) = expected {
            let response: GetDataResponse = Reader::new(&body).read().unwrap();
            assert_eq!(response.data, Some(expected.into_bytes()));
        }
    }
}

#[tokio::test]
async fn a_client_that_shuts_its_side_gets_what_it_asked() {
    let member = Member::start().await;
    let mut client = Client::open(member.address).await;
    client.send(&Request::Create(create("/a", 0))).await;
    client.send(&Request::GetData(watched("/a", false))).await;
    client.send(&Request::Create(create("/b", 0))).await;
    client.stream.shutdown().await.unwrap();
    for expected in 1..=3 {
        assert!(matches!(client.hear().await, Heard::Reply { xid, err: 0, .. } if xid == expected));
    }
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn an_old_client_is_not_told_what_it_does_not_know() {
    let member = Member::start().await;
    let hello = ConnectRequest { time_out: 5_000, ..ConnectRequest::default() };
    let client = Client::hello(member.address, &hello).await.unwrap();
    assert_eq!(client.session.read_only, None);
    assert_eq!(client.session.time_out, 5_000);
    assert_eq!(Client::open(member.address).await.session.read_only, Some(false));
}

#[tokio::test]
async fn data_without_bytes_is_not_no_data() {
    let member = Member::start().await;
    let mut client = Client::open(member.address).await;
    let nothing = CreateRequest { data: None, ..create("/a", 0) };
    client.ask(Request::Create(nothing)).await.unwrap();
    assert_eq!(client.data("/a", false).await, Ok(None));
    client.set("/a", "").await;
    assert_eq!(client.data("/a", false).await, Ok(Some(vec![])));
    let (path, data, version) = ("/a".to_owned(), None, 1);
    client.ask(Request::SetData(SetDataRequest { path, data, version })).await.unwrap();
    assert_eq!(client.data("/a", false).await, Ok(None));
    let member = member.restart().await;
    let mut client = Client::open(member.address).await;
    assert_eq!(client.data("/a", false).await, Ok(None));
}

#[tokio::test]
async fn a_multi_is_done_as_a_whole_or_not_at_all() {
    let member = Member::start().await;
    let mut client = Client::open(member.address).await;
    let check =
        |path: &str, version| Request::Check(VersionedPath { path: path.to_owned(), version });
    let ops = vec![
        Request::Create(create("/a", 0)),
        Request::Create2(create("/b", 0)),
        check("/a", 0),
        set("/a", "x"),
        delete("/b"),
    ];
    let Ok(Response::Multi(done)) = client.ask(Request::Multi(MultiRequest { ops })).await else {
        panic!("not done");
    };
    assert!(matches!(
        &done.results[..],
        [
            Ok(Response::Create(_)),
            Ok(Response::Create2(_)),
            Ok(Response::Check),
            Ok(Response::SetData(_)),
            Ok(Response::Delete)
        ]
    ));
    let ops = vec![set("/a", "y"), check("/a", 7), Request::Create(create("/c", 99)), delete("/a")];
    let failed = client.ask(Request::Multi(MultiRequest { ops })).await.unwrap();
    let results = vec![
        Err(error_code::OK),
        Err(error_code::BAD_VERSION),
        Err(error_code::RUNTIME_INCONSISTENCY),
        Err(error_code::RUNTIME_INCONSISTENCY),
    ];
    assert_eq!(failed, Response::Multi(MultiResponse { results }));
    assert_eq!(client.data("/a", false).await, Ok(Some(b"x".to_vec())));

    let ops = vec![
        Request::GetData(watched("/a", false)),
        Request::GetChildren(watched("/", false)),
        Request::GetData(watched("/b", false)),
    ];
    let read = client.ask(Request::MultiRead(MultiRequest { ops })).await.unwrap();
    let Response::MultiRead(read) = read else { panic!("{read:?}") };
    let [Ok(Response::GetData(data)), Ok(Response::GetChildren(names)), Err(missing)] =
        &read.results[..]
    else {
        panic!("{read:?}");
    };
    assert_eq!(data.data, Some(b"x".to_vec()));
    assert_eq!(names.children, ["a", "zookeeper"]);
    assert_eq!(*missing, error_code::NO_NODE);
}

#[tokio::test]
async fn an_event_comes_before_what_it_tells_of_can_be_read() {
    let member = Member::start().await;
    let (mut watcher, mut other) =
        (Client::open(member.address).await, Client::open(member.address).await);
    watcher.create("/a", 0).await.unwrap();
    watcher.data("/a", true).await.unwrap();
    watcher.ask(Request::GetChildren(watched("/a", true))).await.unwrap();
    let missing = watcher.ask(Request::Exists(watched("/a/b", true))).await;
    assert_eq!(missing, Err(error_code::NO_NODE));
    other.set("/a", "x").await;
    other.create("/a/b", 0).await.unwrap();
    other.ask(delete("/a/b")).await.unwrap();
    let get = watcher.send(&Request::GetData(watched("/a", false))).await;
    assert_eq!(watcher.event().await, (3, "/a".to_owned()));
    assert_eq!(watcher.event().await, (1, "/a/b".to_owned()));
    assert_eq!(watcher.event().await, (4, "/a".to_owned()));
    assert!(matches!(watcher.hear().await, Heard::Reply { xid, .. } if xid == get));
}

#[tokio::test]
async fn watches_that_stay_are_left_and_removed() {
    let member = Member::start().await;
    let (mut watcher, mut other) =
        (Client::open(member.address).await, Client::open(member.address).await);
    other.create("/a", 0).await.unwrap();
    watcher.ask(add_watch("/a", 0)).await.unwrap();
    watcher.ask(add_watch("/", 1)).await.unwrap();
    other.create("/a/b", 0).await.unwrap();
    assert_eq!(watcher.event().await, (1, "/a/b".to_owned()));
    assert_eq!(watcher.event().await, (4, "/a".to_owned()));
    other.set("/a", "x").await;
    assert_eq!(watcher.event().await, (3, "/a".to_owned()));
    let about = |kind| WatchesRequest { path: "/a".to_owned(), kind };
    watcher.ask(Request::CheckWatches(about(4))).await.unwrap();
    let data_watch = watcher.ask(Request::CheckWatches(about(2))).await;
    assert_eq!(data_watch, Err(error_code::NO_WATCHER));
    watcher.ask(Request::RemoveWatches(about(3))).await.unwrap();
    let again = watcher.ask(Request::RemoveWatches(about(3))).await;
    assert_eq!(again, Err(error_code::NO_WATCHER));
    other.create("/a/c", 0).await.unwrap();
    assert_eq!(watcher.event().await, (1, "/a/c".to_owned()));
    other.ask(delete("/a/c")).await.unwrap();
    assert_eq!(watcher.event().await, (2, "/a/c".to_owned()));
}

#[tokio::test]
async fn who_may_not_read_a_node_hears_nothing_of_it() {
    let member = Member::start().await;
    let (mut watcher, mut owner) =
        (Client::open(member.address).await, Client::open(member.address).await);
    owner.ask(digest("alice:secret")).await.unwrap();
    let acl = grant("auth", "");
    let private = CreateRequest { acl, ..create("/private", 0) };
    watcher.ask(add_watch("/private", 0)).await.unwrap();
    watcher.ask(add_watch("/", 1)).await.unwrap();
    owner.ask(Request::Create(private)).await.unwrap();
    owner.set("/private", "x").await;
    assert_eq!(watcher.data("/private", false).await, Err(error_code::NO_AUTH));
    let children = Request::GetChildren(watched("/private", true));
    assert_eq!(watcher.ask(children).await, Err(error_code::NO_AUTH));
    let unseen = watcher.ask(Request::SetWatches(SetWatches {
        data_watches: vec!["/private".to_owned()],
        ..SetWatches::default()
    }));
    unseen.await.unwrap();
    let missing = SetWatches { exist_watches: vec!["/private".to_owned()], ..Default::default() };
    watcher.ask(Request::SetWatches(missing)).await.unwrap();
    owner.create("/public", 0).await.unwrap();
    assert_eq!(watcher.event().await, (1, "/public".to_owned()));
    watcher.ask(digest("alice:secret")).await.unwrap();
    let Ok(Response::WhoAmI(who)) = watcher.ask(Request::WhoAmI).await else { panic!("nobody") };
    let who = who.client_info.into_iter().map(|info| (info.auth_scheme, info.user));
    let expected = [("ip", "127.0.0.1"), ("digest", "alice")];
    assert!(who.eq(expected.map(|(scheme, user)| (scheme.to_owned(), user.to_owned()))));
    assert_eq!(watcher.data("/private", false).await, Ok(Some(b"x".to_vec())));
}

#[tokio::test]
async fn a_session_goes_on_on_another_connection_and_its_watches_with_it() {
    let member = Member::start().await;
    let (mut first, mut other) =
        (Client::open(member.address).await, Client::open(member.address).await);
    first.create("/changed", 0).await.unwrap();
    first.create("/same", 0).await.unwrap();
    first.create("/gone", 0).await.unwrap();
    let Ok(Response::Create2(mine)) = first.ask(Request::Create2(create("/mine", 1))).await else {
        panic!("not created");
    };
    let resumption = first.resumption();
    let mut wrong = resumption.clone();
    wrong.passwd = Some(vec![7; 16]);
    let refused = Client::hello(member.address, &wrong).await.unwrap();
    assert_eq!((refused.session.session_id, refused.session.time_out), (0, 0));
    drop(first);
    other.set("/changed", "x").await;
    other.ask(delete("/gone")).await.unwrap();

    let mut second = Client::hello(member.address, &resumption).await.unwrap();
    assert_eq!(second.session.session_id, resumption.session_id);
    let paths = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
    let watches = SetWatches2 {
        relative_zxid: mine.stat.czxid,
        data_watches: paths(&["/changed", "/same", "/gone"]),
        exist_watches: paths(&["/same", "/none"]),
        child_watches: paths(&["/", "/same"]),
        persistent_watches: paths(&["/mine"]),
        persistent_recursive_watches: paths(&["/none"]),
    };
    let asked = second.send(&Request::SetWatches2(watches)).await;
    assert_eq!(second.event().await, (3, "/changed".to_owned()));
    assert_eq!(second.event().await, (2, "/gone".to_owned()));
    assert_eq!(second.event().await, (1, "/same".to_owned()));
    assert_eq!(second.event().await, (4, "/".to_owned()));
    assert!(matches!(second.hear().await, Heard::Reply { xid, err: 0, .. } if xid == asked));
    other.set("/same", "x").await;
    assert_eq!(second.event().await, (3, "/same".to_owned()));
    other.set("/mine", "x").await;
    assert_eq!(second.event().await, (3, "/mine".to_owned()));
    other.create("/none", 0).await.unwrap();
    assert_eq!(second.event().await, (1, "/none".to_owned()));

    let mut third = Client::hello(member.address, &resumption).await.unwrap();
    assert!(second.is_closed().await, "the session has moved");
    third.ask(Request::CloseSession).await.unwrap();
    assert!(third.is_closed().await);
    let over = Client::hello(member.address, &resumption).await.unwrap();
    assert_eq!((over.session.session_id, over.session.time_out), (0, 0));
    assert_eq!(other.data("/mine", false).await, Err(error_code::NO_NODE));
}

#[tokio::test]
async fn a_client_that_has_seen_more_than_this_member_is_sent_away() {
    let member = Member::start().await;
    let hello = ConnectRequest { last_zxid_seen: 1 << 40, ..ConnectRequest::default() };
    assert!(Client::hello(member.address, &hello).await.is_none());
}

#[tokio::test]
async fn a_broken_connection_leaves_the_session_its_whole_timeout() {
    let member = Member::start_with(|config| config.disconnect_grace_ms = 1).await;
    let mut client = Client::open(member.address).await;
    client.create("/mine", 1).await.unwrap();
    let resumption = client.resumption();
    drop(client);
    let mut other = Client::open(member.address).await;
    for number in 0..50 {
        other.create(&format!("/{number}"), 0).await.unwrap();
    }
    let mut client = Client::hello(member.address, &resumption).await.unwrap();
    assert_eq!(client.session.session_id, resumption.session_id);
    assert!(client.data("/mine", false).await.is_ok());
}

#[tokio::test]
async fn a_silent_client_loses_its_session() {
    let member = Member::start().await;
    let hello = ConnectRequest { time_out: 1_000, ..ConnectRequest::default() };
    let mut silent = Client::hello(member.address, &hello).await.unwrap();
    let mut watcher = Client::open(member.address).await;
    let missing = watcher.ask(Request::Exists(watched("/mine", true))).await;
    assert_eq!(missing, Err(error_code::NO_NODE));
    silent.create("/mine", 1).await.unwrap();
    assert_eq!(watcher.event().await, (1, "/mine".to_owned()));
    let exists = Request::Exists(watched("/mine", true));
    if watcher.ask(exists).await.is_ok() {
        assert_eq!(watcher.event().await, (2, "/mine".to_owned()));
    }
    assert!(silent.is_closed().await);
}

#[tokio::test]
async fn what_is_not_known_or_not_whole_is_refused_and_the_connection_lives_on() {
    let member = Member::start().await;
    let mut client = Client::open(member.address).await;
    let header = |xid, op| RequestHeader { xid, op };
    client.put(|out| header(1, 77).encode(out)).await;
    client.put(|out| header(2, opcode::GET_DATA).encode(out)).await;
    client.put(|out| header(3, opcode::MULTI).encode(out)).await;
    client.put(|out| header(4, opcode::DELETE_CONTAINER).encode(out)).await;
    client.put(|out| header(xid::PING, opcode::PING).encode(out)).await;
    for (expected, code) in [
        (1, error_code::UNIMPLEMENTED),
        (2, error_code::MARSHALLING_ERROR),
        (3, error_code::MARSHALLING_ERROR),
        (4, error_code::MARSHALLING_ERROR),
        (xid::PING, error_code::OK),
    ] {
        let heard = client.hear().await;
        let body = BytesMut::new();
        assert_eq!(heard, Heard::Reply { xid: expected, err: code, body });
    }
    for path in ["", "a", "/a/", "//", "/..", "/a\0"] {
        assert_eq!(client.create(path, 0).await, Err(error_code::BAD_ARGUMENTS), "{path:?}");
        assert_eq!(client.data(path, true).await, Err(error_code::NO_NODE), "{path:?}");
    }
    assert_eq!(client.create("/a", 9).await, Err(error_code::BAD_ARGUMENTS));
    let no_acl = CreateRequest { acl: vec![], ..create("/a", 0) };
    assert_eq!(client.ask(Request::Create(no_acl)).await, Err(error_code::INVALID_ACL));
    client.create("/a", 0).await.unwrap();
}

#[tokio::test]
async fn a_message_that_is_too_long_ends_the_connection_and_no_other() {
    let member = Member::start().await;
    let mut client = Client::open(member.address).await;
    for length in [0x10_0000_i32, i32::MAX, -1, 3] {
        let mut other = Client::open(member.address).await;
        other.stream.write_all(&length.to_be_bytes()).await.unwrap();
        other.stream.write_all(&[0; 16]).await.unwrap();
        assert!(other.is_closed().await, "{length}");
    }
    client.create("/a", 0).await.unwrap();
}

#[tokio::test]
async fn a_wrong_proof_ends_the_connection() {
    let member = Member::start().await;
    for scheme in ["world", "sasl", "kerberos"] {
        let mut client = Client::open(member.address).await;
        let auth = Some(b"anyone".to_vec());
        let scheme = scheme.to_owned();
        let proof = Request::Auth(AuthPacket { kind: 0, scheme, auth });
        assert_eq!(client.ask(proof).await, Err(error_code::AUTH_FAILED));
        assert!(client.is_closed().await);
    }
    let mut client = Client::open(member.address).await;
    let begin = Request::Sasl(SaslToken { token: Some(vec![]) });
    let Ok(Response::Sasl(challenge)) = client.ask(begin).await else { panic!("no challenge") };
    let challenge = String::from_utf8(challenge.token.unwrap()).unwrap();
    assert!(challenge.contains("realm=\"zk-sasl-md5\""), "{challenge}");
    let answer = Request::Sasl(SaslToken { token: Some(b"username=\"x\"".to_vec()) });
    assert_eq!(client.ask(answer).await, Err(error_code::AUTH_FAILED));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn quotas_are_counted_in_the_tree() {
    let member = Member::start().await;
    let mut client = Client::open(member.address).await;
    let text = |path: &str, text: &str| {
        let data = Some(text.as_bytes().to_vec());
        Request::Create(CreateRequest { data, ..create(path, 0) })
    };
    client.ask(text("/a", "123")).await.unwrap();
    client.ask(text("/a/b", "45")).await.unwrap();
    client.create("/zookeeper/quota/a", 0).await.unwrap();
    let limits = text("/zookeeper/quota/a/zookeeper_limits", "count=2,bytes=-1");
    client.ask(limits).await.unwrap();
    const STATS: &str = "/zookeeper/quota/a/zookeeper_stats";
    client.ask(text(STATS, "count=0,bytes=0")).await.unwrap();
    let stats = |text: &str| Ok(Some(text.as_bytes().to_vec()));
    assert_eq!(client.data(STATS, false).await, stats("count=2,bytes=5"));
    client.ask(text("/a/c", "678")).await.unwrap();
    client.set("/a", "").await;
    assert_eq!(client.data(STATS, false).await, stats("count=3,bytes=5"));
    client.ask(delete("/a/b")).await.unwrap();
    client.create("/b", 0).await.unwrap();
    assert_eq!(client.data(STATS, false).await, stats("count=2,bytes=3"));
    let member = member.restart().await;
    let mut client = Client::open(member.address).await;
    client.ask(delete("/a/c")).await.unwrap();
    assert_eq!(client.data(STATS, false).await, stats("count=1,bytes=0"));
}
