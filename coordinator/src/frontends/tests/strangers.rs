//! What strangers do to the port that ZooKeeper's clients share with others: whatever it is, nobody
//! else notices.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::raw::Member;
use super::zookeeper::Client;
use crate::frontends::zookeeper::jute::{Jute, put_message};
use crate::frontends::zookeeper::messages::*;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends the bytes, and waits until the member hangs up.
async fn until_closed(address: SocketAddr, bytes: Vec<u8>) -> Vec<u8> {
    let talking = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The member may hang up before all was written.
        let _ = stream.write_all(&bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    };
    tokio::time::timeout(PATIENCE, talking).await.expect("the connection stays open")
}

fn hello() -> Vec<u8> {
    let hello = ConnectRequest {
        time_out: 10_000,
        passwd: Some(vec![0; 16]),
        read_only: Some(false),
        ..ConnectRequest::default()
    };
    let mut bytes = BytesMut::new();
    put_message(&mut bytes, |out| hello.encode(out));
    bytes.to_vec()
}

#[tokio::test]
async fn who_says_nothing_or_half_a_word_is_hung_up_on() {
    let member = Member::start().await;
    let mut client = Client::open(member.address).await;
    let whole = hello();
    let half = |size: usize| whole[..size].to_vec();
    let silences = [vec![], b"ru".to_vec(), half(3), half(7), half(20), half(whole.len() - 1)];
    let waiting = silences.map(|bytes| tokio::spawn(until_closed(member.address, bytes)));
    client.create("/a", 0).await.unwrap();
    for silence in waiting {
        assert_eq!(silence.await.unwrap(), b"");
    }
    client.create("/b", 0).await.unwrap();
}

#[tokio::test]
async fn other_protocols_are_hung_up_on_at_once() {
    let member = Member::start().await;
    let mut client = Client::open(member.address).await;
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"rest",
        b"\x00\x10\x00\x01\x00\x00\x00\x00",
        b"\xff\xff\xff\xff\x00\x00\x00\x00",
        b"\x00\x00\x00\x00\x00\x00\x00\x00",
    ] {
        assert_eq!(until_closed(member.address, bytes.to_vec()).await, b"", "{bytes:?}");
    }
    client.create("/a", 0).await.unwrap();
}

#[tokio::test]
async fn a_flood_of_connections_is_refused_and_those_who_are_in_go_on() {
    let member = Member::start_with(|config| config.connections_per_ip_max = 8).await;
    let mut client = Client::open(member.address).await;
    let mut crowd = Vec::new();
    for _ in 0..7 {
        crowd.push(Client::open(member.address).await);
    }
    for _ in 0..100 {
        assert_eq!(until_closed(member.address, hello()).await, b"");
    }
    client.create("/a", 0).await.unwrap();
    // Whoever leaves makes room, as soon as the member has noticed.
    drop(crowd);
    let resumed = client.resumption();
    let again = async { while Client::hello(member.address, &resumed).await.is_none() {} };
    tokio::time::timeout(PATIENCE, again).await.expect("no room again");
}

#[tokio::test]
async fn a_wrong_password_gets_no_session_and_harms_none() {
    let member = Member::start().await;
    let mut client = Client::open(member.address).await;
    client.create("/mine", 1).await.unwrap();
    for passwd in [None, Some(vec![]), Some(vec![0; 16]), Some(vec![1; 17])] {
        let guess = ConnectRequest { passwd, ..client.resumption() };
        let mut stranger = Client::hello(member.address, &guess).await.expect("a refusal");
        assert_eq!(stranger.session.session_id, 0);
        assert_eq!(stranger.session.time_out, 0);
        assert!(stranger.is_closed().await);
    }
    let unknown = ConnectRequest { session_id: 1 << 60, ..client.resumption() };
    let stranger = Client::hello(member.address, &unknown).await.expect("a refusal");
    assert_eq!(stranger.session.session_id, 0);
    client.create("/mine-too", 1).await.unwrap();
}

#[tokio::test]
async fn noise_in_requests_never_stops_the_member() {
    let seed = std::env::var("OTTLA_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("OTTLA_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let member = Member::start().await;
    let mut witness = Client::open(member.address).await;
    for round in 0..200_i32 {
        let mut client = Client::open(member.address).await;
        for _ in 0..random.usize(1..8) {
            let op =
                [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 16, 21, 22, 100, 101, 102, 105, 106, 107];
            let op: i32 = op[random.usize(..op.len())];
            let mut message = [round.to_be_bytes(), op.to_be_bytes()].concat();
            message.extend((0..random.usize(..64)).map(|_| random.u8(..)));
            // Lengths that are small are more often believed.
            for byte in message.iter_mut().skip(8) {
                if random.bool() {
                    *byte = 0;
                }
            }
            let length = i32::try_from(message.len()).unwrap().to_be_bytes();
            if client.stream.write_all(&[&length[..], &message].concat()).await.is_err() {
                break;
            }
        }
    }
    witness.create("/a", 0).await.unwrap();
}
