//! Raw bytes over real sockets, against a dispatch that plays the broker.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use std::io::{Seek, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use ottla_common::kafka::frame::EncodedFrame;
use ottla_common::kafka::request::RequestHeader;
use ottla_common::kafka::wire::{FileRegion, Reader, Segment};
use ottla_common::net::SharedLimits;
use ottla_common::shutdown::Shutdown;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};

use super::connection::ConnectionRules;
use super::listener::{ListenerConfig, serve};
use super::memory::MemoryBudget;
use super::{Close, ConnectionInfo, Dispatch, Reply};
use crate::limits;

/// The first body byte says what the broker does with a request.
const ECHO: u8 = b'e';
const LATER: u8 = b'l';
const SILENT: u8 = b's';
const PANIC: u8 = b'p';
const REFUSE: u8 = b'r';
const FILE: u8 = b'f';
const LARGE: u8 = b'L';
/// Makes the client wait for so many tenths of a second.
const MUTE: u8 = b'm';

/// Plays the broker.
struct Fake {
    /// Correlation ids in the order of dispatch.
    dispatched: Mutex<Vec<i32>>,
    arrived: Notify,
    /// Each `LATER` request waits for one permit.
    releases: Semaphore,
    file: Arc<std::fs::File>,
}

impl Fake {
    async fn wait_for(&self, count: usize) {
        loop {
            let arrived = self.arrived.notified();
            if self.dispatched.lock().len() >= count {
                return;
            }
            arrived.await;
        }
    }
}

/// Makes a fake shareable with the futures that it returns.
struct Shared(Arc<Fake>);

impl Dispatch for Shared {
    async fn dispatch(
        &self,
        info: &Arc<ConnectionInfo>,
        header: RequestHeader,
        body: Reader,
    ) -> Result<Reply, Close> {
        let body = body.into_rest();
        let fake = Arc::clone(&self.0);
        fake.dispatched.lock().push(header.correlation_id);
        fake.arrived.notify_waiters();
        let id = header.correlation_id;
        match body[0] {
            ECHO => Ok(Reply::Now(reply(id, vec![Segment::Bytes(body)]))),
            LATER => Ok(Reply::Later(Box::pin(async move {
                fake.releases.acquire().await.unwrap().forget();
                Ok(reply(id, vec![Segment::Bytes(body)]))
            }))),
            SILENT => Ok(Reply::None),
            PANIC => panic!("a handler's bug"),
            REFUSE => Err(Close::Refused("refused".into())),
            FILE => {
                let (position, length) = (body[1] as u64, 256 * 1024);
                let region = FileRegion { file: fake.file.clone(), position, length };
                let head = Segment::Bytes(Bytes::from_static(b"head"));
                let tail = Segment::Bytes(Bytes::from_static(b"tail"));
                Ok(Reply::Now(reply(id, vec![head, Segment::File(region), tail])))
            }
            MUTE => {
                info.mute(Duration::from_millis(100) * u32::from(body[1]));
                Ok(Reply::Now(reply(id, vec![Segment::Bytes(body)])))
            }
            LARGE => Ok(Reply::Now(reply(id, vec![Segment::Bytes(vec![7; 1 << 20].into())]))),
            other => panic!("what is {other}?"),
        }
    }
}

fn reply(correlation_id: i32, body: Vec<Segment>) -> EncodedFrame {
    let size = body.iter().map(|segment| match segment {
        Segment::Bytes(bytes) => bytes.len(),
        Segment::File(region) => region.length,
    });
    let size = 4 + size.sum::<usize>();
    let mut head = BytesMut::new();
    head.put_i32(size as i32);
    head.put_i32(correlation_id);
    let mut segments = vec![Segment::Bytes(head.freeze())];
    segments.extend(body);
    EncodedFrame { segments, size: size + 4 }
}

/// A Metadata request as far as the network layer can tell.
fn request(correlation_id: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_i32(10 + body.len() as i32);
    bytes.put_i16(3);
    bytes.put_i16(1);
    bytes.put_i32(correlation_id);
    bytes.put_i16(-1);
    bytes.put_slice(body);
    bytes
}

struct Server {
    address: std::net::SocketAddr,
    fake: Arc<Fake>,
    budget: MemoryBudget,
    connections: SharedLimits,
    shutdown: Shutdown,
}

impl Server {
    async fn start(rules: ConnectionRules) -> Self {
        Self::with_budget(rules, MemoryBudget::new(64 << 20)).await
    }

    async fn with_budget(rules: ConnectionRules, budget: MemoryBudget) -> Self {
        let mut file = tempfile::tempfile().unwrap();
        let pattern: Vec<u8> = (0..512 * 1024_u32).map(|at| (at % 251) as u8).collect();
        file.write_all(&pattern).unwrap();
        file.rewind().unwrap();
        let fake = Arc::new(Fake {
            dispatched: Mutex::default(),
            arrived: Notify::new(),
            releases: Semaphore::new(0),
            file: Arc::new(file),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = ListenerConfig { rules, ..ListenerConfig::new("test", budget.clone()) };
        let connections = config.connections.clone();
        let shutdown = Shutdown::new();
        let dispatch = Arc::new(Shared(Arc::clone(&fake)));
        shutdown.spawn(serve(config, listener, dispatch, shutdown.clone()));
        Self { address, fake, budget, connections, shutdown }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

async fn read_reply(client: &mut TcpStream) -> (i32, Vec<u8>) {
    let size = client.read_i32().await.unwrap();
    let id = client.read_i32().await.unwrap();
    let mut body = vec![0; size as usize - 4];
    client.read_exact(&mut body).await.unwrap();
    (id, body)
}

/// Whether the server closed, be it with a reset.
async fn is_closed(client: &mut TcpStream) -> bool {
    matches!(client.read(&mut [0]).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let server = Server::start(ConnectionRules::default()).await;
    let mut client = server.connect().await;
    let mut bytes = request(1, &[LATER]);
    bytes.extend(request(2, &[ECHO, 9]));
    bytes.extend(request(3, &[SILENT]));
    bytes.extend(request(4, &[LATER]));
    bytes.extend(request(5, &[ECHO]));
    client.write_all(&bytes).await.unwrap();
    server.fake.wait_for(5).await;
    assert_eq!(*server.fake.dispatched.lock(), [1, 2, 3, 4, 5]);

    server.fake.releases.add_permits(1);
    assert_eq!(read_reply(&mut client).await, (1, vec![LATER]));
    assert_eq!(read_reply(&mut client).await, (2, vec![ECHO, 9]));
    server.fake.releases.add_permits(1);
    assert_eq!(read_reply(&mut client).await.0, 4);
    assert_eq!(read_reply(&mut client).await.0, 5);
}

#[tokio::test]
async fn a_muted_client_is_answered_and_then_waits_without_idling() {
    let rules =
        ConnectionRules { idle_timeout: Duration::from_millis(100), ..ConnectionRules::default() };
    let server = Server::start(rules).await;
    let mut client = server.connect().await;
    let began = std::time::Instant::now();
    let bytes = [request(1, &[LATER]), request(2, &[MUTE, 5]), request(3, &[ECHO])].concat();
    client.write_all(&bytes).await.unwrap();
    server.fake.releases.add_permits(1);
    assert_eq!(read_reply(&mut client).await.0, 1, "it was under way before");
    assert_eq!(read_reply(&mut client).await.0, 2);
    assert_eq!(read_reply(&mut client).await.0, 3);
    assert!(began.elapsed() >= Duration::from_millis(500));
}

#[tokio::test]
async fn a_muted_client_holds_nothing_up() {
    let server = Server::start(ConnectionRules::default()).await;
    let mut leaving = server.connect().await;
    leaving.write_all(&request(1, &[MUTE, 255])).await.unwrap();
    assert_eq!(read_reply(&mut leaving).await.0, 1);
    let mut staying = server.connect().await;
    staying.write_all(&request(2, &[MUTE, 255])).await.unwrap();
    assert_eq!(read_reply(&mut staying).await.0, 2);
    drop(leaving);
    while server.connections.counts().open > 1 {
        tokio::task::yield_now().await;
    }
    assert!(server.shutdown.finish(Duration::from_secs(20)).await);
    assert!(is_closed(&mut staying).await);
}

#[tokio::test]
async fn requests_may_come_in_any_pieces() {
    let server = Server::start(ConnectionRules::default()).await;
    let mut client = server.connect().await;
    let bytes = [request(1, &[ECHO; 30]), request(2, &[ECHO; 40])].concat();
    for byte in bytes {
        client.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(read_reply(&mut client).await, (1, vec![ECHO; 30]));
    assert_eq!(read_reply(&mut client).await, (2, vec![ECHO; 40]));
}

#[tokio::test]
async fn large_requests_arrive_whole_and_their_memory_is_given_back() {
    let server = Server::start(ConnectionRules::default()).await;
    let mut client = server.connect().await;
    for (id, size) in [(1, 3 << 20), (2, 5000), (3, 200_000), (4, 3 << 20), (5, 65_533)] {
        let body: Vec<u8> = (0..size).map(|at| if at == 0 { ECHO } else { at as u8 }).collect();
        let (mut reading, mut writing) = client.split();
        let bytes = request(id, &body);
        let write = async { writing.write_all(&bytes).await.unwrap() };
        let read = async {
            let mut answer = vec![0; size as usize + 8];
            reading.read_exact(&mut answer).await.unwrap();
            answer
        };
        let ((), answer) = tokio::join!(write, read);
        assert_eq!(answer[8..], body[..]);
    }
    drop(client);
    server.shutdown.finish(Duration::from_secs(5)).await;
    assert_eq!(server.budget.available(), server.budget.size());
}

#[tokio::test]
async fn a_region_of_a_file_is_sent_as_it_is() {
    let server = Server::start(ConnectionRules::default()).await;
    let mut client = server.connect().await;
    client.write_all(&request(1, &[FILE, 17])).await.unwrap();
    client.write_all(&request(2, &[ECHO])).await.unwrap();
    let (id, body) = read_reply(&mut client).await;
    assert_eq!((id, body.len()), (1, 256 * 1024 + 8));
    assert!(body.starts_with(b"head") && body.ends_with(b"tail"));
    let expected = (17..17 + 256 * 1024_u32).map(|at| (at % 251) as u8);
    assert!(body[4..body.len() - 4].iter().copied().eq(expected));
    assert_eq!(read_reply(&mut client).await.0, 2);
}

#[tokio::test]
async fn a_file_that_ends_early_ends_the_connection() {
    let server = Server::start(ConnectionRules::default()).await;
    let mut client = server.connect().await;
    server.fake.file.set_len(1000).unwrap();
    client.write_all(&request(1, &[FILE, 0])).await.unwrap();
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest).await;
    assert_eq!(rest.len(), 4 + 4 + 4 + 1000);
}

#[tokio::test]
async fn only_so_many_requests_are_under_way() {
    let rules = ConnectionRules { in_flight_max: 3, ..ConnectionRules::default() };
    let server = Server::start(rules).await;
    let mut client = server.connect().await;
    let bytes: Vec<u8> = (1..=5).flat_map(|id| request(id, &[LATER])).collect();
    client.write_all(&bytes).await.unwrap();
    server.fake.wait_for(3).await;
    assert_eq!(server.fake.dispatched.lock().len(), 3);
    server.fake.releases.add_permits(1);
    assert_eq!(read_reply(&mut client).await.0, 1);
    server.fake.wait_for(4).await;
    server.fake.releases.add_permits(4);
    for id in 2..=5 {
        assert_eq!(read_reply(&mut client).await.0, id);
    }
}

#[tokio::test]
async fn a_client_that_never_reads_is_not_read_from() {
    let server = Server::start(ConnectionRules::default()).await;
    let client = server.connect().await;
    let requests: Vec<u8> = (0..1000).flat_map(|id| request(id, &[LARGE])).collect();
    let (_reading, mut writing) = client.into_split();
    let sending = tokio::spawn(async move { writing.write_all(&requests).await });
    server.fake.wait_for(1).await;
    // Another client is served as if nothing was.
    let mut other = server.connect().await;
    other.write_all(&request(-1, &[ECHO])).await.unwrap();
    assert_eq!(read_reply(&mut other).await.0, -1);
    let queued_max = limits::REPLY_SIZE_QUEUED_MAX >> 20;
    let in_kernel_max = 16;
    assert!(server.fake.dispatched.lock().len() <= queued_max + in_kernel_max + 2);
    sending.abort();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_is_closed() {
    let server = Server::start(ConnectionRules::default()).await;
    let mut client = server.connect().await;
    for id in 0..40 {
        client.write_all(&request(id, &[LARGE])).await.unwrap();
    }
    server.fake.wait_for(1).await;
    tokio::time::sleep(limits::WRITE_STALL_TIMEOUT + Duration::from_secs(60)).await;
    let mut received = 0;
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = client.read(&mut buffer).await {
        received += read;
    }
    assert!(received < 40 << 20, "all {received} bytes came");
}

#[tokio::test(start_paused = true)]
async fn silence_and_dripping_end_at_their_deadlines() {
    let server = Server::start(ConnectionRules::default()).await;

    let started = tokio::time::Instant::now();
    let mut silent = server.connect().await;
    assert!(is_closed(&mut silent).await);
    assert!(started.elapsed() >= limits::FIRST_BYTE_TIMEOUT);

    let started = tokio::time::Instant::now();
    let mut dripping = server.connect().await;
    let bytes = request(1, &[ECHO; 200]);
    for byte in &bytes[..100] {
        if dripping.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(is_closed(&mut dripping).await);
    assert!(started.elapsed() >= limits::FRAME_TIMEOUT);

    let started = tokio::time::Instant::now();
    let mut idle = server.connect().await;
    idle.write_all(&request(1, &[ECHO])).await.unwrap();
    assert_eq!(read_reply(&mut idle).await.0, 1);
    assert!(is_closed(&mut idle).await);
    assert!(started.elapsed() >= limits::IDLE_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_its_reply_is_not_idle() {
    let server = Server::start(ConnectionRules::default()).await;
    let mut client = server.connect().await;
    client.write_all(&request(1, &[LATER])).await.unwrap();
    server.fake.wait_for(1).await;
    tokio::time::sleep(limits::IDLE_TIMEOUT * 2).await;
    server.fake.releases.add_permits(1);
    assert_eq!(read_reply(&mut client).await.0, 1);
}

#[tokio::test]
async fn other_protocols_and_impossible_sizes_are_closed_at_once() {
    let server = Server::start(ConnectionRules::default()).await;
    let too_large = (limits::FRAME_SIZE_MAX as i32 + 1).to_be_bytes();
    let mut unknown_api = (1_i32 << 20).to_be_bytes().to_vec();
    unknown_api.extend([0x7f, 0xff, 0, 0]);
    let hellos: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01],
        &[0x15, 0x03, 0x01, 0x00, 0x02, 0x02],
        &[0, 0, 0, 0],
        &[0, 0, 0, 7],
        &[0xff; 4],
        &too_large,
        &unknown_api,
    ];
    for hello in hellos {
        let mut client = server.connect().await;
        client.write_all(hello).await.unwrap();
        assert!(is_closed(&mut client).await, "{hello:?}");
    }
    assert_eq!(server.budget.available(), server.budget.size());
    assert!(server.fake.dispatched.lock().is_empty());
}

#[tokio::test]
async fn an_announced_size_takes_no_memory() {
    let server = Server::start(ConnectionRules::default()).await;
    let mut client = server.connect().await;
    let mut head = request(1, &[ECHO; 100]);
    head[..4].copy_from_slice(&(limits::FRAME_SIZE_MAX as i32).to_be_bytes());
    client.write_all(&head).await.unwrap();
    // The server has taken the head when it answers on a connection accepted later.
    let mut other = server.connect().await;
    other.write_all(&request(2, &[ECHO])).await.unwrap();
    read_reply(&mut other).await;
    assert!(server.budget.size() - server.budget.available() <= limits::READ_SIZE);
}

#[tokio::test]
async fn requests_wait_for_memory_instead_of_taking_more() {
    let budget = MemoryBudget::new(1 << 20);
    let server = Server::with_budget(ConnectionRules::default(), budget).await;
    let body = vec![LATER; 700 * 1024];
    let mut first = server.connect().await;
    first.write_all(&request(1, &body)).await.unwrap();
    server.fake.wait_for(1).await;
    let mut second = server.connect().await;
    let sending = tokio::spawn(async move {
        second.write_all(&request(2, &body)).await.unwrap();
        read_reply(&mut second).await.0
    });
    let mut third = server.connect().await;
    third.write_all(&request(3, &[ECHO])).await.unwrap();
    assert_eq!(read_reply(&mut third).await.0, 3);
    assert_eq!(*server.fake.dispatched.lock(), [1, 3]);
    server.fake.releases.add_permits(2);
    assert_eq!(read_reply(&mut first).await.0, 1);
    assert_eq!(sending.await.unwrap(), 2);
}

#[tokio::test]
async fn a_panic_costs_one_connection() {
    let server = Server::start(ConnectionRules::default()).await;
    let mut other = server.connect().await;
    other.write_all(&request(1, &[ECHO])).await.unwrap();
    assert_eq!(read_reply(&mut other).await.0, 1);
    let mut unlucky = server.connect().await;
    unlucky.write_all(&request(2, &[PANIC])).await.unwrap();
    assert!(is_closed(&mut unlucky).await);
    other.write_all(&request(3, &[ECHO])).await.unwrap();
    assert_eq!(read_reply(&mut other).await.0, 3);
    drop((other, unlucky));
    assert!(server.shutdown.finish(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn what_was_answered_before_a_refusal_is_still_sent() {
    let server = Server::start(ConnectionRules::default()).await;
    let mut client = server.connect().await;
    let mut bytes = request(1, &[LATER]);
    bytes.extend(request(2, &[REFUSE]));
    bytes.extend(request(3, &[ECHO]));
    client.write_all(&bytes).await.unwrap();
    server.fake.wait_for(2).await;
    server.fake.releases.add_permits(1);
    assert_eq!(read_reply(&mut client).await.0, 1);
    assert!(is_closed(&mut client).await);
    assert_eq!(*server.fake.dispatched.lock(), [1, 2]);
}

#[tokio::test]
async fn stopping_lets_replies_leave() {
    let server = Server::start(ConnectionRules::default()).await;
    let mut client = server.connect().await;
    client.write_all(&request(1, &[LATER])).await.unwrap();
    server.fake.wait_for(1).await;
    server.shutdown.stop();
    server.fake.releases.add_permits(1);
    assert_eq!(read_reply(&mut client).await.0, 1);
    assert!(is_closed(&mut client).await);
    assert!(server.shutdown.finish(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn requests_that_came_before_the_end_are_served() {
    let server = Server::start(ConnectionRules::default()).await;
    let mut client = server.connect().await;
    let bytes: Vec<u8> = (1..=50).flat_map(|id| request(id, &[SILENT])).collect();
    client.write_all(&bytes).await.unwrap();
    drop(client);
    server.fake.wait_for(50).await;
}
