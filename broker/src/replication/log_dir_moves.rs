//! Replicas that move between the log directories of this broker (AlterReplicaLogDirs): one thread,
//! which is there while there is something to move, copies piece after piece of each in turn.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ottla_common::clock::Clock;
use parking_lot::{Condvar, Mutex};
use tracing::{error, warn};

use super::partition::{MoveStep, Partition};
use crate::storage::cleaner::pace::Allowance;
use crate::storage::log_manager::LogManager;

/// How many bytes may be copied in a second (`replica.alter.log.dirs.io.max.bytes.per.second`).
pub type RateSource = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Longest wait before the rate is looked at again.
const WAIT_MAX: Duration = Duration::from_secs(1);

#[derive(Default)]
struct State {
    queue: VecDeque<Weak<Partition>>,
    is_running: bool,
    is_stopping: bool,
}

/// Moves replicas.
pub struct LogDirMoves {
    logs: Arc<LogManager>,
    rate: RateSource,
    clock: Clock,
    state: Mutex<State>,
    changed: Condvar,
}

impl LogDirMoves {
    /// Nothing to move yet.
    pub fn new(logs: Arc<LogManager>, rate: RateSource) -> Arc<Self> {
        let clock = Clock::system();
        Arc::new(Self { logs, rate, clock, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Moves a replica, for which [`LogManager::begin_move`] was called or that was being moved
    /// when the broker stopped.
    pub fn add(self: &Arc<Self>, partition: &Arc<Partition>) {
        let mut state = self.state.lock();
        let is_known = |known: &Weak<Partition>| known.as_ptr() == Arc::as_ptr(partition);
        if state.is_stopping || state.queue.iter().any(is_known) {
            return;
        }
        state.queue.push_back(Arc::downgrade(partition));
        if state.is_running {
            return;
        }
        let moves = self.clone();
        let thread = std::thread::Builder::new().name("log-dir-moves".to_owned());
        match thread.spawn(move || moves.run()) {
            Ok(_) => state.is_running = true,
            Err(error) => error!(%error, "no thread to move replicas between directories"),
        }
    }

    /// Lets what is not moved yet wait for the next start.
    pub fn stop(&self) {
        let mut state = self.state.lock();
        state.is_stopping = true;
        self.changed.notify_all();
        while state.is_running {
            self.changed.wait(&mut state);
        }
    }

    fn run(&self) {
        let mut pace = (u64::MAX, Allowance::new(u64::MAX));
        while let Some(next) = self.next() {
            let Some(partition) = next.upgrade() else { continue };
            let name = partition.topic_partition();
            let copied = match partition.move_on() {
                Ok(MoveStep::Copied(copied)) => copied as u64,
                Ok(MoveStep::Done | MoveStep::CalledOff) => continue,
                // The broker stops, or its log is gone.
                Err(error) if partition.log().is_closed() => {
                    warn!(partition = %name, %error, "moving to another directory was interrupted");
                    continue;
                }
                Err(error) => {
                    error!(partition = %name, %error, "cannot be moved to another directory");
                    if let Err(error) = self.logs.abandon_move(name) {
                        error!(partition = %name, %error, "drop the copy");
                    }
                    continue;
                }
            };
            self.state.lock().queue.push_back(next);
            self.pay(copied, &mut pace);
        }
    }

    /// Waits as long as so many bytes take at the rate of now.
    fn pay(&self, copied: u64, (rate, allowance): &mut (u64, Allowance)) {
        let mut owed = copied;
        loop {
            let current = (self.rate)();
            if current != *rate {
                (*rate, *allowance) = (current, Allowance::new(current));
            }
            let wait_micros = allowance.spend(owed, self.clock.monotonic_micros());
            owed = 0;
            if wait_micros == 0 || !self.wait(Duration::from_micros(wait_micros)) {
                return;
            }
        }
    }

    fn next(&self) -> Option<Weak<Partition>> {
        let mut state = self.state.lock();
        let next = if state.is_stopping { None } else { state.queue.pop_front() };
        if next.is_none() {
            state.is_running = false;
            self.changed.notify_all();
        }
        next
    }

    /// Waits, though not for long. `false` if it is time to stop.
    fn wait(&self, duration: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.is_stopping {
            self.changed.wait_for(&mut state, duration.min(WAIT_MAX));
        }
        !state.is_stopping
    }
}
