//! Sessions that ask as fast as they are answered, or at a rate.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use fastrand::Rng;
use ottla_coordinator::frontends::zookeeper::messages::{Request, error_code};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::client::{Session, create, get, set};
use super::histogram::Histogram;
use super::{open_all, reconnect};

/// Nodes that are set and got.
const KEYS: usize = 1_000;

/// What a session asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// New nodes, below a parent of the session's own.
    Create,
    /// New data for one of a thousand nodes.
    Set,
    /// The data of one of a thousand nodes.
    Get,
    /// Nine times of ten the data of one of a thousand nodes, else new data for it.
    Mixed,
}

/// How to load the servers.
#[derive(Args, Clone, Debug)]
pub struct Load {
    /// What is asked.
    #[arg(long, value_enum)]
    work: Work,
    /// How many sessions ask, spread over the servers.
    #[arg(long, default_value_t = 64)]
    sessions: usize,
    /// The size of a node's data, in bytes.
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// Requests that each session has under way.
    #[arg(long, default_value_t = 1)]
    depth: usize,
    /// Requests a second of all sessions together; as many as are answered if not given. Latency
    /// then counts from when a request was due.
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds before anything is counted.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds that are counted.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

/// What a session was told.
#[derive(Default)]
struct Told {
    took: Histogram,
    refused: u64,
    reconnects: u64,
}

/// What one session does.
struct Worker {
    servers: Rc<[SocketAddr]>,
    number: usize,
    load: Rc<Load>,
    data: Rc<[u8]>,
    random: Rng,
    created: u64,
    run: u64,
    period: Period,
    /// When the next request is due, if there is a rate.
    due: Instant,
    /// When those under way were sent, or due.
    sent: VecDeque<Instant>,
    told: Told,
}

/// When the counting begins and ends.
#[derive(Clone, Copy)]
struct Period {
    from: Instant,
    to: Instant,
}

impl Worker {
    fn key(&mut self) -> String {
        format!("/load/key-{}", self.random.usize(..KEYS))
    }

    fn request(&mut self) -> Request {
        match self.load.work {
            Work::Create => {
                self.created += 1;
                create(format!("/load/{}-{}/{}", self.run, self.number, self.created), &self.data)
            }
            Work::Set => set(self.key(), &self.data),
            Work::Get => get(self.key(), false),
            Work::Mixed if self.random.usize(..10) == 0 => set(self.key(), &self.data),
            Work::Mixed => get(self.key(), false),
        }
    }

    /// The time between two requests of a session, if there is a rate.
    fn every(&self) -> Option<Duration> {
        let sessions = f64::from(u32::try_from(self.load.sessions).unwrap_or(1));
        self.load.rate.map(|rate| Duration::from_secs_f64(sessions / rate))
    }

    /// Sends what is due, and waits for an answer.
    async fn turn(&mut self, session: &mut Session) -> anyhow::Result<()> {
        if let Some(every) = self.every() {
            sleep_until(self.due).await;
            self.sent.push_back(self.due);
            session.put(&self.request());
            self.due += every;
        } else {
            while self.sent.len() < self.load.depth {
                self.sent.push_back(Instant::now());
                session.put(&self.request());
            }
        }
        session.flush().await?;
        let reply = session.next().await?;
        let refused = reply.err != error_code::OK;
        let began = self.sent.pop_front().context("a reply that nobody asked for")?;
        let now = Instant::now();
        if now >= self.period.from && now < self.period.to {
            self.told.refused += u64::from(refused);
            self.told.took.record(now - began);
        }
        Ok(())
    }

    async fn ask(mut self, mut session: Session) -> anyhow::Result<Told> {
        self.due += self.every().unwrap_or_default().mul_f64(self.random.f64());
        let mut next = self.number;
        while Instant::now() < self.period.to {
            if self.turn(&mut session).await.is_err() {
                // What was under way was done or not. Whoever asks at a rate asks again and late.
                self.told.reconnects += 1;
                self.sent.clear();
                session = reconnect(&self.servers, &session, &mut next).await?;
            }
        }
        Ok(self.told)
    }
}

/// Makes the nodes that are set and got, and the parents of those that will be created.
async fn prepare(servers: &[SocketAddr], load: &Load, run: u64, data: &[u8]) -> anyhow::Result<()> {
    let mut session = open_all(servers, 1).await?.pop().context("a session")?;
    session.ask(&create("/load".to_owned(), b"")).await?;
    let names = match load.work {
        Work::Create => (0..load.sessions).map(|number| format!("/load/{run}-{number}")).collect(),
        _ => (0..KEYS).map(|key| format!("/load/key-{key}")).collect::<Vec<_>>(),
    };
    for batch in names.chunks(100) {
        let sets = load.work != Work::Create;
        for name in batch {
            session.put(&create(name.clone(), if sets { data } else { b"" }));
            if sets {
                session.put(&set(name.clone(), data));
            }
        }
        session.flush().await?;
        for _ in 0..batch.len() * if sets { 2 } else { 1 } {
            session.next().await?;
        }
    }
    Ok(())
}

/// Loads the servers and tells how many requests they answered, and how fast.
pub async fn run(servers: &[SocketAddr], load: Load) -> anyhow::Result<Value> {
    let data: Rc<[u8]> = vec![b'x'; load.size].into();
    let run_number = fastrand::u64(..);
    prepare(servers, &load, run_number, &data).await?;
    let sessions = open_all(servers, load.sessions).await?;
    let from = Instant::now() + Duration::from_secs_f64(load.warm_up);
    let period = Period { from, to: from + Duration::from_secs_f64(load.seconds) };
    let load = Rc::new(load);
    let mut workers = JoinSet::new();
    for (number, session) in sessions.into_iter().enumerate() {
        let worker = Worker {
            number,
            load: Rc::clone(&load),
            data: Rc::clone(&data),
            random: Rng::new(),
            created: 0,
            run: run_number,
            servers: servers.into(),
            period,
            due: Instant::now(),
            sent: VecDeque::new(),
            told: Told::default(),
        };
        workers.spawn_local(worker.ask(session));
    }
    let mut all = Told::default();
    while let Some(done) = workers.join_next().await {
        let told = done??;
        all.took.merge(&told.took);
        all.refused += told.refused;
        all.reconnects += told.reconnects;
    }
    let Told { took, refused, reconnects } = all;
    let total = f64::from(u32::try_from(took.total()).unwrap_or(u32::MAX));
    Ok(json!({
        "ops_per_second": total / load.seconds,
        "p50_ms": took.per_mille_ms(500),
        "p99_ms": took.per_mille_ms(990),
        "p999_ms": took.per_mille_ms(999),
        "longest_ms": took.longest_ms(),
        "refused": refused,
        "reconnects": reconnects,
    }))
}
