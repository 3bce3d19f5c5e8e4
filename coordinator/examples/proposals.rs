//! How many proposals a second an ensemble makes durable, and what the disk's flush alone costs.
//!
//! `cargo run --release -p ottla-coordinator --example proposals [FOLDER [MEMBERS]]`. The members
//! (one, unless told otherwise) run in this process, and proposals go to the one that leads. The
//! folder should be on the disk that is to be measured; what is made there is removed. Flushes
//! drift within minutes on many machines, so each line has the flush beside it, measured just
//! before.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_common::coordination::protocol::{Acl, CreateMode, Op};
use ottla_common::shutdown::Shutdown;
use ottla_common::types::MemberId;
use ottla_coordinator::consensus::raft::{Member, Membership};
use ottla_coordinator::consensus::{Ensemble, EnsembleOptions, NetworkOptions};
use ottla_coordinator::storage::files::Files;
use ottla_coordinator::tree::{Action, Command};
use tokio::net::TcpListener;

/// How long each number of clients proposes.
const MEASURED: Duration = Duration::from_secs(4);

/// The data of each proposal, in bytes.
const DATA_SIZE: usize = 256;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| ".".to_owned());
    let members = arguments.next().map_or(Ok(1), |members| members.parse::<u64>())?;
    let folder = Path::new(&folder).join(format!("proposals-{}", std::process::id()));
    for clients in [1, 64, 1024] {
        std::fs::create_dir_all(&folder)?;
        let flush = flush_micros(&folder)?;
        let line = measure(&folder, members, clients).await?;
        println!("{clients:>5} clients: {line}; fdatasync alone: p50 {flush} us");
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(())
}

/// The median time of a flush of one small record in reserved space.
fn flush_micros(folder: &Path) -> Result<u128, Box<dyn std::error::Error>> {
    let file = Files::default().create(&folder.join("flush"))?;
    file.allocate(0, 1 << 20)?;
    let mut times = Vec::new();
    for round in 0..500 {
        let started = Instant::now();
        file.write_all_at(&[7; DATA_SIZE], round * 512)?;
        file.sync()?;
        times.push(started.elapsed().as_micros());
    }
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

/// Starts members that meet over the loopback device; returns the one that leads.
async fn start(
    folder: &Path,
    count: u64,
    shutdown: &Shutdown,
) -> Result<Ensemble, Box<dyn std::error::Error>> {
    let (mut listeners, mut membership) = (Vec::new(), Membership::default());
    for id in 1..=count {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let peer_address = listener.local_addr()?.to_string();
        let member = Member { peer_address, ..Member::default() };
        membership.members.insert(MemberId(id), member);
        listeners.push(listener);
    }
    let mut members = Vec::new();
    for (id, listener) in (1..).zip(listeners) {
        let options = EnsembleOptions::new(MemberId(id), folder.join(format!("member-{id}")));
        let options = EnsembleOptions { membership: membership.clone(), ..options };
        let network = NetworkOptions { listener, key: Arc::default() };
        let network = (count > 1).then_some(network);
        members.push(Ensemble::start_with_others(options, network, shutdown)?.0);
    }
    loop {
        for member in &members {
            member.read_barrier().await?;
            if member.is_leader() {
                return Ok(member.clone());
            }
        }
    }
}

async fn measure(
    folder: &Path,
    members: u64,
    clients: usize,
) -> Result<String, Box<dyn std::error::Error>> {
    let shutdown = Shutdown::new();
    let ensemble = Arc::new(start(folder, members, &shutdown).await?);
    for client in 0..clients {
        let op = Op::Create {
            path: format!("/client-{client}"),
            data: Vec::new(),
            mode: CreateMode::Persistent,
            acl: Acl::open(),
        };
        ensemble.propose(Command::by_ensemble(Action::Write(op))).await?;
    }
    let flushes_before = ensemble.status().flushes;
    let started = Instant::now();
    let proposing = (0..clients).map(|client| {
        let ensemble = Arc::clone(&ensemble);
        tokio::spawn(async move {
            let mut times = Vec::new();
            while started.elapsed() < MEASURED {
                let path = format!("/client-{client}");
                let op = Op::SetData { path, data: vec![7; DATA_SIZE], version: None };
                let began = Instant::now();
                let proposal = ensemble.propose(Command::by_ensemble(Action::Write(op)));
                if proposal.await.is_err() {
                    break;
                }
                times.push(began.elapsed().as_micros());
            }
            times
        })
    });
    let proposing: Vec<_> = proposing.collect();
    let mut times = Vec::new();
    for client in proposing {
        times.extend(client.await?);
    }
    let seconds = started.elapsed().as_secs_f64();
    let flushes = ensemble.status().flushes - flushes_before;
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 1000).copied().unwrap_or_default();
    let (p50, p99, count) = (at(500), at(990), times.len());
    shutdown.finish(Duration::from_secs(30)).await;
    Ok(format!(
        "{:.0} proposals/s, {:.0} flushes/s, p50 {p50} us, p99 {p99} us",
        count as f64 / seconds,
        flushes as f64 / seconds,
    ))
}
