//! What strangers send: the member closes such connections, and lives.

use ottla_common::coordination::codec::encode_message;
use ottla_common::coordination::protocol::*;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::raw::{Member, RawClient, get};

async fn is_closed_after(member: &Member, bytes: &[u8]) -> bool {
    let mut stream = TcpStream::connect(member.address).await.unwrap();
    // The member may close before all was written.
    let _ = stream.write_all(bytes).await;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap_or(0);
    rest.is_empty()
}

#[tokio::test]
async fn other_protocols_and_broken_hellos_are_closed_without_a_word() {
    let member = Member::start().await;
    let preamble = |rest: &[u8]| [&PREAMBLE[..], rest].concat();
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        b"OTTLA\x00\x00\x02".to_vec(),
        vec![0; 64],
        preamble(&[0xff; 8]),
        preamble(&[0, 0, 0, 1, 0xc1]),
        preamble(&[0, 0, 0, 5, 0xdd, 0xff, 0xff, 0xff, 0xff]),
        preamble(&u32::try_from(FRAME_SIZE_MAX).unwrap().to_be_bytes()),
    ] {
        assert!(is_closed_after(&member, &bytes).await, "{bytes:?}");
    }
    member.connect().await.ask(Request::Ping).await.unwrap();
}

#[tokio::test]
async fn a_version_that_is_not_spoken_is_told() {
    let member = Member::start().await;
    let mut stream = TcpStream::connect(member.address).await.unwrap();
    let hello = encode_message(&ClientHello {
        version_min: 2,
        version_max: 7,
        client_name: String::new(),
        session: SessionRequest::New { session_timeout_ms: 1_000 },
        last_zxid_seen: Default::default(),
    })
    .unwrap();
    let length = u32::try_from(hello.len()).unwrap().to_be_bytes();
    stream.write_all(&[&PREAMBLE[..], &length, &hello].concat()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer: ServerHello =
        ottla_common::coordination::codec::decode_message(&answer[4..]).unwrap();
    assert_eq!(answer.session, Err(CoordinationError::UnsupportedVersion));
}

#[tokio::test]
async fn a_request_of_the_future_is_refused_and_the_connection_goes_on() {
    #[derive(Serialize)]
    enum Future {
        Teleport { path: String },
    }
    #[derive(Serialize)]
    struct Frame {
        xid: u64,
        request: Future,
        more: u8,
    }
    let member = Member::start().await;
    let mut client = member.connect().await;
    let request = Future::Teleport { path: "/a".to_owned() };
    client.send_frame(&Frame { xid: 77, request, more: 1 }).await;
    let ServerFrame::Reply { xid, result, .. } = client.frame().await else { panic!() };
    assert_eq!((xid, result), (77, Err(CoordinationError::Unimplemented)));
    client.ask(Request::Ping).await.unwrap();
}

#[tokio::test]
async fn a_broken_frame_ends_the_connection_but_not_the_session() {
    let member = Member::start_with(|config| config.disconnect_grace_ms = 0).await;
    let mut client = member.connect().await;
    client.create("/a", CreateMode::Ephemeral).await.unwrap();
    client.stream.write_all(&[0, 0, 0, 2, 0xc1, 0xc1]).await.unwrap();
    assert_eq!(client.receive::<ServerFrame>().await, None);
    let SessionGrant { session_id, password, .. } = client.grant.clone();
    let mut resumed = RawClient::resume(member.address, session_id, password).await.unwrap();
    assert!(resumed.exists("/a").await);
}

#[tokio::test]
async fn bad_arguments_are_refused_one_by_one() {
    let member = Member::start().await;
    let mut client = member.connect().await;
    for path in ["", "a", "/a/", "/a//b", "/a/../b", "/\0"] {
        for request in [
            get(path, true),
            Request::Exists { path: path.to_owned(), watch: true, linearizable: false },
            Request::Write(super::raw::create(path, CreateMode::Persistent)),
            Request::AddWatch { path: path.to_owned(), recursive: true },
            Request::Subscribe { prefix: path.to_owned(), from_zxid: None },
        ] {
            let asked = client.ask(request.clone()).await;
            assert!(
                matches!(asked, Err(CoordinationError::BadArguments { .. })),
                "{request:?}: {asked:?}"
            );
        }
    }
    let big = vec![0; NODE_DATA_SIZE_MAX + 1];
    let op = Op::SetData { path: "/".to_owned(), data: big, version: None };
    let asked = client.ask(Request::Write(op)).await;
    assert!(matches!(asked, Err(CoordinationError::LimitReached { .. })));
}

#[tokio::test]
async fn noise_after_a_hello_never_stops_the_member() {
    let seed = std::env::var("OTTLA_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("OTTLA_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let member = Member::start().await;
    let example = RequestFrame {
        xid: 1,
        request: Request::Multi(vec![super::raw::create("/a", CreateMode::Ephemeral)]),
    };
    let example = encode_message(&example).unwrap();
    for _ in 0..300 {
        let mut client = member.connect().await;
        let mut noise = example.clone();
        for _ in 0..random.usize(1..6) {
            let place = random.usize(..noise.len());
            noise[place] = random.u8(..);
        }
        let length = u32::try_from(noise.len()).unwrap().to_be_bytes();
        let _ = client.stream.write_all(&[&length[..], &noise].concat()).await;
        if random.bool() {
            let _ = client.stream.write_all(&[random.u8(..)]).await;
        }
    }
    let mut client = member.connect().await;
    client.ask(Request::Status).await.unwrap();
}
