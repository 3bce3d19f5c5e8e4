//! Many nodes, and many sessions that do nothing.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use ottla_coordinator::frontends::zookeeper::messages::{error_code, xid};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

use super::client::{Session, create, get};
use super::{open_all, server_of};

/// Nodes below one parent.
const BELOW_ONE: usize = 1_000;

/// How often a session that does nothing says that it is alive.
const PING_EVERY: Duration = Duration::from_secs(10);

/// How long to wait before a server that does not answer yet is asked again.
const RETRY_AFTER: Duration = Duration::from_millis(5);

/// How many nodes to make.
#[derive(Args, Clone, Debug)]
pub struct Fill {
    /// How many.
    #[arg(long, default_value_t = 1_000_000)]
    nodes: usize,
    /// The size of their data, in bytes.
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// Sessions that make them.
    #[arg(long, default_value_t = 3)]
    sessions: usize,
    /// Requests that each session has under way.
    #[arg(long, default_value_t = 200)]
    depth: usize,
}

async fn fill_parents(mut session: Session, parents: Vec<usize>, fill: Fill) -> anyhow::Result<()> {
    let data = vec![b'x'; fill.size];
    for parent in parents {
        session.call(&create(format!("/fill/{parent}"), b"")).await?;
        let (mut asked, mut answered) = (0, 0);
        while answered < BELOW_ONE {
            while asked < BELOW_ONE && asked - answered < fill.depth {
                session.put(&create(format!("/fill/{parent}/node-{asked:04}"), &data));
                asked += 1;
            }
            session.flush().await?;
            let reply = session.next().await?;
            anyhow::ensure!(reply.err == error_code::OK, "answered with error {}", reply.err);
            answered += 1;
        }
    }
    Ok(())
}

/// Makes the nodes, a thousand below each parent.
pub async fn fill(servers: &[SocketAddr], fill: Fill) -> anyhow::Result<Value> {
    let began = Instant::now();
    let mut sessions = open_all(servers, fill.sessions).await?;
    if let Some(first) = sessions.first_mut() {
        first.call(&create("/fill".to_owned(), b"")).await?;
    }
    let parents = fill.nodes.div_ceil(BELOW_ONE);
    let mut tasks = JoinSet::new();
    for (number, session) in sessions.into_iter().enumerate() {
        let own = (number..parents).step_by(fill.sessions).collect();
        tasks.spawn_local(fill_parents(session, own, fill.clone()));
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(json!({ "nodes": parents * BELOW_ONE, "seconds": began.elapsed().as_secs_f64() }))
}

async fn idle(mut session: Session) -> anyhow::Result<()> {
    let mut pings = interval(PING_EVERY);
    sleep(PING_EVERY.mul_f64(fastrand::f64())).await;
    loop {
        pings.tick().await;
        session.put_ping();
        session.flush().await?;
        while session.next().await?.xid != xid::PING {}
    }
}

/// Opens sessions, tells that they are open, and keeps them until its input ends.
pub async fn hold(servers: &[SocketAddr], sessions: usize) -> anyhow::Result<Value> {
    let began = Instant::now();
    let opened = open_all(servers, sessions).await?;
    println!("{}", json!({ "sessions": sessions, "seconds": began.elapsed().as_secs_f64() }));
    let mut tasks = JoinSet::new();
    for session in opened {
        tasks.spawn_local(idle(session));
    }
    let mut until_end = [0];
    while tokio::io::stdin().read(&mut until_end).await? > 0 {}
    let mut lost = 0;
    while let Some(done) = tasks.try_join_next() {
        done??;
        lost += 1;
    }
    Ok(json!({ "lost": lost }))
}

/// Waits until each server opens a session and answers a read.
pub async fn wait(servers: &[SocketAddr]) -> anyhow::Result<Value> {
    let began = Instant::now();
    for number in 0..servers.len() {
        let server = server_of(servers, number)?;
        loop {
            let answered = async {
                let mut session = Session::open(server).await?;
                session.call(&get("/".to_owned(), false)).await
            };
            if answered.await.is_ok() {
                break;
            }
            sleep(RETRY_AFTER).await;
        }
    }
    Ok(json!({ "seconds": began.elapsed().as_secs_f64() }))
}
