//! How long it takes until all who watch a node were told that it changed.

use std::net::SocketAddr;

use clap::Args;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::client::{Session, create, get, set};
use super::histogram::Histogram;
use super::{open_all, server_of};

/// How many watch, and how often.
#[derive(Args, Clone, Debug)]
pub struct Watching {
    /// Sessions that watch one node.
    #[arg(long, default_value_t = 1_000)]
    watchers: usize,
    /// How often it is changed, all watching again each time.
    #[arg(long, default_value_t = 20)]
    rounds: u32,
}

/// The node.
const PATH: &str = "/fan-out";

async fn watch(mut session: Session) -> anyhow::Result<Session> {
    session.call(&get(PATH.to_owned(), true)).await?;
    Ok(session)
}

async fn hear(mut session: Session) -> anyhow::Result<(Session, Instant)> {
    while !session.next().await?.is_event() {}
    Ok((session, Instant::now()))
}

/// Changes the watched node again and again, and tells the time from the request to the last event.
pub async fn run(servers: &[SocketAddr], watching: Watching) -> anyhow::Result<Value> {
    let mut writer = Session::open(server_of(servers, 0)?).await?;
    writer.ask(&create(PATH.to_owned(), b"")).await?;
    let mut watchers = open_all(servers, watching.watchers).await?;
    let mut last = Histogram::default();
    for _ in 0..watching.rounds {
        let mut tasks = JoinSet::new();
        for session in watchers.drain(..) {
            tasks.spawn_local(watch(session));
        }
        let mut hearing = JoinSet::new();
        while let Some(session) = tasks.join_next().await {
            hearing.spawn_local(hear(session??));
        }
        // The tasks get to run once, so that each one is waiting.
        tokio::task::yield_now().await;
        let began = Instant::now();
        let mut latest = began;
        writer.call(&set(PATH.to_owned(), b"x")).await?;
        while let Some(heard) = hearing.join_next().await {
            let (session, at) = heard??;
            latest = latest.max(at);
            watchers.push(session);
        }
        last.record(latest - began);
    }
    Ok(json!({ "p50_ms": last.per_mille_ms(500), "p99_ms": last.per_mille_ms(990) }))
}
