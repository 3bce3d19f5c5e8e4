//! A member as a task: joins, sends heartbeats and commits when they are due, leaves when told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_common::kafka::client::ClientError;
use ottla_common::kafka::membership::{Beat, Membership};
use ottla_common::types::TopicPartition;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use crate::commands::bench::histogram::Histogram;

/// The pause after a failure.
const PAUSE: Duration = Duration::from_millis(500);

/// How often members of a group do something.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From one heartbeat to the next, if not as the protocol has it.
    pub heartbeat: Option<Duration>,
    /// From one commit to the next, if there are any.
    pub commit: Option<Duration>,
}

/// What all members counted.
#[derive(Debug, Default)]
pub struct Counted {
    /// `None` while it is not measured.
    measured: Mutex<Option<Measured>>,
    errors: Mutex<BTreeMap<String, u64>>,
}

/// How long things took.
#[derive(Debug, Default)]
pub struct Measured {
    /// Heartbeats.
    pub heartbeats: Histogram,
    /// Commits.
    pub commits: Histogram,
}

impl Counted {
    /// Measures for this long.
    pub async fn measure(&self, time: Duration) -> Measured {
        *self.measured.lock() = Some(Measured::default());
        tokio::time::sleep(time).await;
        self.measured.lock().take().unwrap_or_default()
    }

    /// What went wrong, and how often.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().clone()
    }

    /// The same as text, for the message of a failure.
    pub fn describe(&self) -> String {
        format!("errors of members so far: {:?}", self.errors.lock())
    }

    fn failed(&self, error: &ClientError) {
        let name = match (error, error.code()) {
            (_, Some(code)) => code.to_string(),
            (ClientError::Disconnected { .. }, None) => "disconnected".to_owned(),
            (ClientError::TimedOut { .. }, None) => "timed out".to_owned(),
            _ => error.to_string(),
        };
        *self.errors.lock().entry(name).or_default() += 1;
    }

    fn took(&self, began: Instant, histogram: impl FnOnce(&mut Measured) -> &mut Histogram) {
        if let Some(measured) = &mut *self.measured.lock() {
            histogram(measured).add(began.elapsed(), 1);
        }
    }
}

/// A member.
pub struct Task {
    /// It.
    pub member: Membership,
    /// Its number within its group.
    pub number: usize,
    /// Where it tells what it has.
    pub board: Arc<Board>,
    /// Where it tells what took how long.
    pub counted: Arc<Counted>,
    /// How often it does something.
    pub pace: watch::Receiver<Pace>,
    /// It leaves when this is cancelled.
    pub leave: CancellationToken,
}

impl Task {
    /// Joins, works, leaves.
    pub async fn run(mut self) {
        let leave = self.leave.clone();
        leave.run_until_cancelled(self.work()).await;
        self.board.tell(self.number, None);
        if let Err(error) = self.member.leave().await {
            self.counted.failed(&error);
        }
    }

    async fn work(&mut self) {
        self.join().await;
        // Members began at the same time, and shall not go on in step.
        let mut heartbeat_at = Instant::now() + self.heartbeat_interval().mul_f64(fastrand::f64());
        let mut commit_at = self.next_commit(fastrand::f64());
        let mut commits = 0;
        loop {
            let commit_due = async {
                match commit_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep_until(heartbeat_at) => {
                    self.heartbeat().await;
                    heartbeat_at = Instant::now() + self.heartbeat_interval();
                }
                () = commit_due => {
                    commits += 1;
                    self.commit(commits).await;
                    commit_at = self.next_commit(1.0);
                }
                _ = self.pace.changed() => {
                    let share = fastrand::f64();
                    heartbeat_at = Instant::now() + self.heartbeat_interval().mul_f64(share);
                    commit_at = self.next_commit(fastrand::f64());
                }
            }
        }
    }

    fn heartbeat_interval(&self) -> Duration {
        let usual = Duration::from_millis(self.member.heartbeat_interval_ms());
        self.pace.borrow().heartbeat.unwrap_or(usual)
    }

    fn next_commit(&self, share: f64) -> Option<Instant> {
        let interval = self.pace.borrow().commit;
        interval.map(|interval| Instant::now() + interval.mul_f64(share))
    }

    fn tell(&self) {
        let has = (self.member.epoch(), self.member.assignment().len());
        self.board.tell(self.number, Some(has));
    }

    async fn join(&mut self) {
        self.board.tell(self.number, None);
        while let Err(error) = self.member.join().await {
            self.counted.failed(&error);
            tokio::time::sleep(PAUSE).await;
        }
        self.tell();
    }

    /// Sends a heartbeat, and does as the answer says until there is nothing left to do.
    async fn heartbeat(&mut self) {
        loop {
            let began = Instant::now();
            let beat = self.member.heartbeat().await;
            self.counted.took(began, |measured| &mut measured.heartbeats);
            match beat {
                Ok(Beat::Steady) => return self.tell(),
                // A member that reads nothing has let go of everything already.
                Ok(Beat::Changed) => self.tell(),
                Ok(Beat::Rejoin) => return self.join().await,
                Err(error) => {
                    self.counted.failed(&error);
                    return tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn commit(&self, offset: i64) {
        let offsets = self.member.assignment().iter().map(|name| (name.clone(), offset));
        let offsets: BTreeMap<TopicPartition, i64> = offsets.collect();
        if offsets.is_empty() {
            return;
        }
        let began = Instant::now();
        match self.member.commit(&offsets).await {
            Ok(()) => self.counted.took(began, |measured| &mut measured.commits),
            Err(error) => self.counted.failed(&error),
        }
    }
}
