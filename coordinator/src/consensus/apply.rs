//! The thread that applies what is durable, in the order of the log, answers the proposers, and has
//! snapshots taken.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use ottla_common::clock::Clock;

use super::load::zxid_of;
use super::snapshotter::Snapshotter;
use super::{Applied, Waiting};
use crate::limits::BATCHES_TO_APPLY_MAX;
use crate::sessions::keeper::Keeper;
use crate::watches::LiveState;

/// Commands that are durable.
#[derive(Debug)]
pub struct Durable {
    /// The index of the first; the others follow.
    pub first_index: u64,
    pub term: u64,
    pub time_ms: i64,
    /// How long they are in the log.
    pub bytes: usize,
    pub commands: Vec<Waiting>,
}

/// The state, and what hears of each command that is applied to it.
pub type Told = (Arc<LiveState>, Arc<Keeper>, Clock);

/// The driver's end of the applying thread.
#[derive(Debug)]
pub struct Applier {
    batches: Option<SyncSender<Durable>>,
    thread: Option<JoinHandle<()>>,
}

impl Applier {
    pub fn start(told: Told, snapshotter: Snapshotter) -> io::Result<Self> {
        let (batches, arriving) = sync_channel(BATCHES_TO_APPLY_MAX);
        let thread = std::thread::Builder::new().name("coordinator-apply".to_owned());
        let thread = thread.spawn(move || run(&told, snapshotter, &arriving))?;
        Ok(Self { batches: Some(batches), thread: Some(thread) })
    }

    /// Hands over a batch; waits while too many are under way.
    pub fn apply(&self, batch: Durable) {
        if let Some(batches) = &self.batches {
            assert!(batches.send(batch).is_ok(), "the applying thread has ended");
        }
    }

    /// Waits until all is applied and the thread has ended.
    pub fn finish(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the applying thread has panicked");
        }
    }
}

fn run((live, keeper, clock): &Told, mut snapshotter: Snapshotter, arriving: &Receiver<Durable>) {
    for batch in arriving {
        let Durable { first_index, term, time_ms, bytes, commands } = batch;
        let count = commands.len();
        for (index, waiting) in (first_index..).zip(commands) {
            let zxid = zxid_of(index);
            let outcome = live.apply(zxid, time_ms, &waiting.command);
            if let Ok(effect) = &outcome {
                keeper.applied(&waiting.command.action, effect, clock.monotonic_ms());
            }
            // Nobody waits any more if the connection has ended.
            let _ = waiting.done.send(Applied { zxid, outcome });
        }
        snapshotter.applied(count, bytes, || (live.machine(), term));
    }
    snapshotter.finish();
}
