//! Requests that no client would send: random bodies, and good requests with bytes changed, cut and
//! doubled. The broker answers or closes the connection; it does not panic, and it goes on.

use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fastrand::Rng;
use ottla_broker::handlers::APIS;
use ottla_common::kafka::messages::api_versions::ApiVersionsRequest;
use ottla_common::kafka::records::BatchOptions;
use ottla_common::kafka::request::encode_request;
use ottla_tests::node::Node;

use crate::asked::{batch, create, fetch, produce};

/// Requests of each kind that are tried.
const ROUNDS: usize = 1500;

/// Bytes of which lengths, flags and counts that go through are likely to come out.
const TELLING: [u8; 8] = [0, 0, 0, 1, 1, 2, 0x7f, 0xff];

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_survives_what_no_client_sends() {
    let seed = std::env::var("OTTLA_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("OTTLA_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let node = Node::start(&[("auto.create.topics.enable", "false")]).await.unwrap();
    create(&mut node.client().await.unwrap(), "t", 2).await;

    let panics = Arc::new(AtomicUsize::new(0));
    let (counted, shown) = (Arc::clone(&panics), panic::take_hook());
    panic::set_hook(Box::new(move |info| {
        counted.fetch_add(1, Ordering::Relaxed);
        shown(info);
    }));
    let mut answers = 0;
    for round in 0..ROUNDS {
        let bytes = if round % 2 == 0 { noise(&mut random) } else { mistake(&mut random) };
        let mut client = node.client().await.unwrap();
        client.send_bytes(&bytes).await.unwrap();
        // What is behind it is answered too, unless the connection is closed.
        let _ = client.send(3, &ApiVersionsRequest::default()).await;
        answers += usize::from(matches!(client.receive_bytes().await, Ok(Some(_))));
        assert_eq!(panics.load(Ordering::Relaxed), 0, "a handler panicked at {bytes:?}");
    }
    println!("{answers} of {ROUNDS} were answered");
    assert!(answers > ROUNDS / 10, "hardly any reached a handler");
    let mut client = node.client().await.unwrap();
    client.call(4, &ApiVersionsRequest::default()).await.unwrap();
    node.stop().await;
}

/// A good header before a body of telling bytes.
fn noise(random: &mut Rng) -> Vec<u8> {
    let api = &APIS[random.usize(..APIS.len())];
    let version = random.i16(api.min..=api.max);
    let mut bytes = api.key.code().to_be_bytes().to_vec();
    bytes.extend(version.to_be_bytes());
    bytes.extend(1_i32.to_be_bytes());
    bytes.extend([0xff, 0xff]);
    if api.key.is_flexible(version) {
        bytes.push(0);
    }
    for _ in 0..random.usize(..60) {
        bytes.push(TELLING[random.usize(..TELLING.len())]);
    }
    // Enough for every field after the last count, so that more of it is a request.
    bytes.extend([0; 100]);
    framed(&bytes)
}

/// A good request with a few mistakes in it.
fn mistake(random: &mut Rng) -> Vec<u8> {
    let client_id = "hostile".into();
    let version = random.i16(4..=12);
    let frame = if random.bool() {
        let records = batch(&["a", "b"], BatchOptions::default());
        let mut request = produce(1, vec![("t", 0, records.clone()), ("t", 1, records)]);
        request.timeout_ms = 100;
        encode_request(version, 1, Some(&client_id), &request)
    } else {
        let mut request = fetch(&[("t", 0, 0), ("t", 1, 0)]);
        request.max_wait_ms = 1;
        encode_request(version, 1, Some(&client_id), &request)
    };
    let mut bytes = frame.unwrap().to_bytes().unwrap()[4..].to_vec();
    // The header stays as it is, so that a handler is reached.
    for _ in 0..random.usize(1..4) {
        let at = random.usize(18..bytes.len());
        match random.u8(..4) {
            0 => bytes[at] = TELLING[random.usize(..TELLING.len())],
            1 => bytes[at] ^= 1 << random.u8(..8),
            2 => bytes.truncate(at.max(19)),
            _ => bytes.insert(at, TELLING[random.usize(..TELLING.len())]),
        }
    }
    framed(&bytes)
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut frame = i32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    frame.extend(bytes);
    frame
}
