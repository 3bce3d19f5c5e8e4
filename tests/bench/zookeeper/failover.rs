//! How long writes stop when a server is killed.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use ottla_coordinator::frontends::zookeeper::messages::error_code;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::client::{Session, create, set};
use super::{open_all, reconnect, server_of};

/// Which process to kill, and how many sessions write.
#[derive(Args, Clone, Debug)]
pub struct Kill {
    /// The process that is killed with SIGKILL, after a second of writing.
    #[arg(long)]
    pid: i32,
    /// Sessions that write, each one request after another.
    #[arg(long, default_value_t = 3)]
    sessions: usize,
    /// How long to wait for the writes to go on, in seconds.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
}

/// What the writers tell one another.
#[derive(Default)]
struct Shared {
    killed: Cell<Option<Instant>>,
    /// Of each writer: how long after the kill it was first told that a write was done which it had
    /// asked for after the kill.
    first: RefCell<Vec<Duration>>,
}

async fn write(
    servers: Vec<SocketAddr>,
    mut session: Session,
    number: usize,
    shared: Rc<Shared>,
) -> anyhow::Result<()> {
    let request = set(format!("/failover/{number}"), b"x");
    let mut next = number;
    loop {
        let asked = Instant::now();
        if matches!(session.ask(&request).await, Ok(error_code::OK)) {
            match shared.killed.get() {
                Some(killed) if asked > killed => {
                    shared.first.borrow_mut().push(killed.elapsed());
                    return Ok(());
                }
                _ => continue,
            }
        }
        session = reconnect(&servers, &session, &mut next).await?;
    }
}

/// Writes, kills the process, and tells when the first and the last session could write again.
pub async fn run(servers: &[SocketAddr], kill: Kill) -> anyhow::Result<Value> {
    let mut first = Session::open(server_of(servers, 0)?).await?;
    first.ask(&create("/failover".to_owned(), b"")).await?;
    for number in 0..kill.sessions {
        first.ask(&create(format!("/failover/{number}"), b"")).await?;
    }
    let shared = Rc::new(Shared::default());
    let mut writers = JoinSet::new();
    for (number, session) in open_all(servers, kill.sessions).await?.into_iter().enumerate() {
        writers.spawn_local(write(servers.to_vec(), session, number, Rc::clone(&shared)));
    }
    sleep(Duration::from_secs(1)).await;
    shared.killed.set(Some(Instant::now()));
    kill_process(Pid::from_raw(kill.pid).context("a process id")?, Signal::KILL)?;
    let all = async {
        while let Some(done) = writers.join_next().await {
            done??;
        }
        anyhow::Ok(())
    };
    timeout(Duration::from_secs_f64(kill.seconds), all).await.context("writes stay stopped")??;
    let after = shared.first.borrow();
    let ms = |one: Option<&Duration>| one.map(|one| one.as_secs_f64() * 1e3);
    Ok(json!({ "first_ms": ms(after.iter().min()), "all_ms": ms(after.iter().max()) }))
}
