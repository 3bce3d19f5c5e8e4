//! Members that meet over real sockets.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_common::shutdown::Shutdown;
use ottla_common::types::{MemberId, Uuid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::{PeerMessage, PeerOptions, Peers, Receiver};

impl PeerMessage for String {
    fn size(&self) -> usize {
        self.len()
    }
}

#[derive(Debug, PartialEq)]
enum Heard {
    Said(MemberId, String),
    Connected(MemberId),
    Disconnected(MemberId),
}

struct Ear {
    cluster_id: Option<Uuid>,
    heard: mpsc::UnboundedSender<Heard>,
}

impl Receiver<String> for Ear {
    fn cluster_id(&self) -> Option<Uuid> {
        self.cluster_id
    }

    async fn received(&self, from: MemberId, message: String) {
        let _ = self.heard.send(Heard::Said(from, message));
    }

    fn connected(&self, to: MemberId) {
        let _ = self.heard.send(Heard::Connected(to));
    }

    fn disconnected(&self, to: MemberId) {
        let _ = self.heard.send(Heard::Disconnected(to));
    }
}

struct Member {
    peers: Peers<String, Ear>,
    heard: mpsc::UnboundedReceiver<Heard>,
    address: String,
    shutdown: Shutdown,
}

impl Member {
    async fn start(id: u64, key: &str, cluster_id: Option<Uuid>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (heard, hears) = mpsc::unbounded_channel();
        let key = key.as_bytes().into();
        let options = PeerOptions { member_id: MemberId(id), address: address.clone(), key };
        let shutdown = Shutdown::new();
        let ear = Arc::new(Ear { cluster_id, heard });
        let peers = Peers::start(options, listener, ear, &shutdown);
        Self { peers, heard: hears, address, shutdown }
    }

    fn meet(&self, others: &[(u64, &Member)]) {
        let others = others.iter().map(|(id, other)| (MemberId(*id), other.address.clone()));
        self.peers.set_members(&others.collect());
    }

    async fn hears(&mut self, expected: Heard) {
        assert_eq!(self.heard.recv().await, Some(expected));
    }

    async fn stop(self) {
        self.shutdown.finish(std::time::Duration::from_secs(10)).await;
    }
}

#[tokio::test]
async fn members_hear_each_other_in_order_and_again_after_one_was_away() {
    let (mut one, mut two) = (Member::start(1, "k", None).await, Member::start(2, "k", None).await);
    one.meet(&[(2, &two)]);
    two.meet(&[(1, &one)]);
    one.hears(Heard::Connected(MemberId(2))).await;
    two.hears(Heard::Connected(MemberId(1))).await;
    for number in 0..1_000 {
        assert!(one.peers.send(MemberId(2), number.to_string()));
    }
    for number in 0..1_000 {
        two.hears(Heard::Said(MemberId(1), number.to_string())).await;
    }
    // Nobody listens to whoever is not a member.
    assert!(!one.peers.send(MemberId(3), "x".to_owned()));
    two.peers.set_members(&BTreeMap::new());
    one.hears(Heard::Disconnected(MemberId(2))).await;
    two.hears(Heard::Disconnected(MemberId(1))).await;
    assert!(!two.peers.send(MemberId(1), "x".to_owned()));
    two.meet(&[(1, &one)]);
    two.hears(Heard::Connected(MemberId(1))).await;
    one.hears(Heard::Connected(MemberId(2))).await;
    assert!(two.peers.send(MemberId(1), "again".to_owned()));
    one.hears(Heard::Said(MemberId(2), "again".to_owned())).await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn who_has_another_key_or_another_ensemble_or_is_unknown_is_not_heard() {
    let cluster = |byte| Some(Uuid([byte; 16]));
    let mut one = Member::start(1, "key", cluster(1)).await;
    let wrong_key = Member::start(2, "Key", cluster(1)).await;
    let other_cluster = Member::start(3, "key", cluster(2)).await;
    let unknown = Member::start(4, "key", None).await;
    let mut right = Member::start(5, "key", None).await;
    let (two, three) = ((2, &wrong_key), (3, &other_cluster));
    one.meet(&[two, three, (5, &right)]);
    for member in [&wrong_key, &other_cluster, &unknown, &right] {
        member.meet(&[(1, &one)]);
    }
    right.hears(Heard::Connected(MemberId(1))).await;
    one.hears(Heard::Connected(MemberId(5))).await;
    // Each of them has been refused at least once by then: their pauses are short.
    for (member, id) in [(&wrong_key, 2), (&other_cluster, 3), (&unknown, 4)] {
        assert!(!member.peers.send(MemberId(1), "x".to_owned()));
        assert!(!one.peers.is_connected(MemberId(id)));
    }
    assert!(right.peers.send(MemberId(1), "hello".to_owned()));
    one.hears(Heard::Said(MemberId(5), "hello".to_owned())).await;
    for member in [one, wrong_key, other_cluster, unknown, right] {
        member.stop().await;
    }
}

#[tokio::test]
async fn a_member_that_nobody_has_named_is_answered_if_it_belongs_to_the_ensemble() {
    let cluster_id = Some(Uuid([1; 16]));
    let mut one = Member::start(1, "key", cluster_id).await;
    let mut added = Member::start(4, "key", cluster_id).await;
    added.meet(&[(1, &one)]);
    added.hears(Heard::Connected(MemberId(1))).await;
    one.hears(Heard::Connected(MemberId(4))).await;
    assert!(one.peers.send(MemberId(4), "who are you?".to_owned()));
    added.hears(Heard::Said(MemberId(1), "who are you?".to_owned())).await;
    // It stays while the others change, until it is named itself.
    one.peers.set_members(&BTreeMap::new());
    assert!(one.peers.is_connected(MemberId(4)));
    one.stop().await;
    added.stop().await;
}

#[tokio::test]
async fn strangers_get_a_closed_connection() {
    let one = Member::start(1, "key", None).await;
    for said in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 64],
        &[0, 0, 0, 1, 0xc0],
        &[0, 0, 0, 0],
        &[0, 0, 4, 0, 0xdd, 0xff, 0xff, 0xff, 0xff],
    ] {
        let mut stream = TcpStream::connect(&one.address).await.unwrap();
        stream.write_all(said).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // Closed, or reset where not all was read.
        let _ = stream.read_to_end(&mut answer).await;
        assert_eq!(answer, b"");
    }
    one.stop().await;
}
