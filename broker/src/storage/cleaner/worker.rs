//! The threads that compact: each takes the log that needs it most, and sleeps when none does.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ottla_common::clock::{Clock, wall_time_ms};
use parking_lot::{Condvar, Mutex};
use tracing::{debug, error, info, warn};

use super::super::log::Log;
use super::CleanerConfig;
use super::pace::Allowance;
use super::pass::{CleanError, Cleaned};
use super::selection::{Cleanable, Rules, cleanable, comes_before, is_due};

/// Shorter waits are saved up.
const WAIT_MICROS_MIN: u64 = 20_000;

/// Gives the logs that there are, those of failed directories too.
pub type LogSource = Box<dyn Fn() -> Vec<Arc<Log>> + Send + Sync>;

/// The threads.
pub struct Cleaner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    config: CleanerConfig,
    logs: LogSource,
    stopping: Mutex<bool>,
    stopped: Condvar,
    /// Held while a log is chosen, so that two threads do not take the same.
    choosing: Mutex<()>,
    allowance: Option<Mutex<Allowance>>,
    clock: Clock,
}

impl Cleaner {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the operating system refuses one.
    pub fn start(config: CleanerConfig, logs: LogSource) -> std::io::Result<Self> {
        let allowance = config.bytes_per_second_max.map(|bytes| Mutex::new(Allowance::new(bytes)));
        let shared = Arc::new(Shared {
            config,
            logs,
            stopping: Mutex::new(false),
            stopped: Condvar::new(),
            choosing: Mutex::new(()),
            allowance,
            clock: Clock::system(),
        });
        let cleaner = Self { shared, threads: Mutex::default() };
        for number in 0..config.threads {
            let shared = cleaner.shared.clone();
            let builder = std::thread::Builder::new().name(format!("log-cleaner-{number}"));
            cleaner.threads.lock().push(builder.spawn(move || shared.run())?);
        }
        Ok(cleaner)
    }

    /// How it was started.
    pub fn config(&self) -> CleanerConfig {
        self.shared.config
    }

    /// Tells the threads to stop, and waits until they did.
    pub fn stop(&self) {
        *self.shared.stopping.lock() = true;
        self.shared.stopped.notify_all();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // A thread that lets go of the last handle on the logs ends here itself.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                error!("a thread of the log cleaner panicked");
            }
        }
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for Cleaner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cleaner").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl Shared {
    fn run(&self) {
        loop {
            while self.clean_one(wall_time_ms()) {}
            if !self.wait(Duration::from_millis(self.config.backoff_ms)) {
                return;
            }
        }
    }

    /// `false` if it is time to stop.
    fn wait(&self, duration: Duration) -> bool {
        let mut stopping = self.stopping.lock();
        if !*stopping {
            self.stopped.wait_for(&mut stopping, duration);
        }
        !*stopping
    }

    fn spend(&self, bytes: u64) -> bool {
        let Some(allowance) = &self.allowance else { return !*self.stopping.lock() };
        let wait_micros = allowance.lock().spend(bytes, self.clock.monotonic_micros());
        match wait_micros >= WAIT_MICROS_MIN {
            true => self.wait(Duration::from_micros(wait_micros)),
            false => !*self.stopping.lock(),
        }
    }

    /// Compacts the log that needs it most. `false` if none does, or it is time to stop.
    fn clean_one(&self, now_ms: i64) -> bool {
        let chosen = {
            let _choosing = self.choosing.lock();
            let chosen = choose(&(self.logs)(), now_ms);
            if let Some((log, _)) = &chosen {
                log.cleaning.lock().in_progress = true;
            }
            chosen
        };
        let Some((log, part)) = chosen else { return false };
        let began_ms = self.clock.monotonic_ms();
        let result = log.clean(&part, &self.config, now_ms, &|bytes| self.spend(bytes));
        log.cleaning.lock().in_progress = false;
        let took_ms = self.clock.monotonic_ms().saturating_sub(began_ms);
        let go_on = result.is_ok();
        report(&log, result, took_ms);
        go_on && !*self.stopping.lock()
    }
}

fn choose(logs: &[Arc<Log>], now_ms: i64) -> Option<(Arc<Log>, Cleanable)> {
    let mut best: Option<(Arc<Log>, Cleanable)> = None;
    for log in logs {
        let config = log.config();
        let is_free = {
            let state = log.cleaning.lock();
            !state.in_progress && state.uncleanable.is_none()
        };
        if !config.cleanup_compact || !is_free {
            continue;
        }
        let rules = Rules {
            min_lag_ms: config.min_compaction_lag_ms,
            max_lag_ms: config.max_compaction_lag_ms,
            min_dirty_ratio: config.min_cleanable_dirty_ratio,
        };
        let Ok(view) = log.cleaning_view() else { continue };
        let Some(part) = cleanable(&view, &rules, now_ms).filter(|part| is_due(part, &rules))
        else {
            continue;
        };
        if best.as_ref().is_none_or(|(_, best)| comes_before(&part, best)) {
            best = Some((log.clone(), part));
        }
    }
    best
}

fn report(log: &Log, result: Result<Cleaned, CleanError>, took_ms: u64) {
    let name = log.topic_partition();
    match result {
        Ok(done) => info!(
            log = %name, up_to = done.end_offset, keys = done.keys, took_ms,
            bytes_before = done.bytes_before, bytes_after = done.bytes_after,
            segments_before = done.segments_before, segments_after = done.segments_after,
            "compacted the log"
        ),
        Err(CleanError::Stopped | CleanError::Overtaken) => {
            debug!(log = %name, "compaction was interrupted");
        }
        Err(CleanError::Uncleanable(what)) => {
            error!(log = %name, %what, "the log is not compacted until the broker starts again");
            log.cleaning.lock().uncleanable = Some(what);
        }
        Err(CleanError::Storage(error)) => warn!(log = %name, %error, "compaction failed"),
    }
}
