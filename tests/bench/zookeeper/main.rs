//! Loads servers that speak ZooKeeper's protocol, whichever they are, and prints one line of JSON.
//!
//! It has one thread, since it shares the machine with the servers that it measures.

mod bulk;
mod client;
mod failover;
mod fan_out;
mod histogram;
mod workload;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout};

use self::client::{Expired, Session};

/// Sessions that are opened at the same time.
const OPENING_AT_ONCE: usize = 64;

/// How long the opening of a session is tried.
const OPENING_PATIENCE: Duration = Duration::from_secs(30);

/// How long a client waits before it tries the next server.
const PAUSE: Duration = Duration::from_millis(2);

/// How long it waits for a server to take its session up.
const PATIENCE: Duration = Duration::from_secs(1);

/// Loads servers that speak ZooKeeper's protocol.
#[derive(Parser)]
struct Arguments {
    /// The servers: HOST:PORT,HOST:PORT…
    #[arg(long, value_delimiter = ',', required = true)]
    servers: Vec<SocketAddr>,
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Asks as much as is answered, or at a rate.
    Run(workload::Load),
    /// Changes a node that many watch.
    FanOut(fan_out::Watching),
    /// Makes many nodes.
    Fill(bulk::Fill),
    /// Opens sessions and keeps them until the end of its input.
    Hold {
        /// How many.
        #[arg(long, default_value_t = 10_000)]
        sessions: usize,
    },
    /// Waits until all servers answer.
    Wait,
    /// Kills a server's process and tells when writes go on.
    Failover(failover::Kill),
}

/// The server that a session is given.
fn server_of(servers: &[SocketAddr], number: usize) -> anyhow::Result<SocketAddr> {
    servers.get(number % servers.len()).copied().context("a server")
}

/// Opens sessions, spread over the servers. A server that has just lost its leader may refuse.
async fn open_all(servers: &[SocketAddr], count: usize) -> anyhow::Result<Vec<Session>> {
    let opening = |number| async move {
        let began = Instant::now();
        loop {
            match Session::open(server_of(servers, number)?).await {
                Err(error) if began.elapsed() > OPENING_PATIENCE => return Err(error),
                Err(_) => sleep(PAUSE).await,
                Ok(session) => return Ok(session),
            }
        }
    };
    stream::iter(0..count).map(opening).buffered(OPENING_AT_ONCE).try_collect().await
}

/// Goes on with a session whose connection is gone at the next server that takes it, or with a new
/// session if it has expired. `next` counts the tries, over all servers.
async fn reconnect(
    servers: &[SocketAddr],
    lost: &Session,
    next: &mut usize,
) -> anyhow::Result<Session> {
    loop {
        sleep(PAUSE).await;
        *next += 1;
        let server = server_of(servers, *next)?;
        match timeout(PATIENCE, lost.resume(server)).await {
            Ok(Ok(session)) => return Ok(session),
            Ok(Err(error)) if error.is::<Expired>() => {
                if let Ok(Ok(session)) = timeout(PATIENCE, Session::open(server)).await {
                    return Ok(session);
                }
            }
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Arguments { servers, task } = Arguments::parse();
    let tasks = LocalSet::new();
    let told = tasks.run_until(async {
        match task {
            Task::Run(load) => workload::run(&servers, load).await,
            Task::FanOut(watching) => fan_out::run(&servers, watching).await,
            Task::Fill(fill) => bulk::fill(&servers, fill).await,
            Task::Hold { sessions } => bulk::hold(&servers, sessions).await,
            Task::Wait => bulk::wait(&servers).await,
            Task::Failover(kill) => failover::run(&servers, kill).await,
        }
    });
    println!("{}", told.await?);
    Ok(())
}
