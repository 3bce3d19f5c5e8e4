//! Group commit: brings what was appended to disk, one `fdatasync` for all who wait for a log.
//!
//! A request costs a flag, and a place in a queue if the log is not in it yet. A few threads for
//! each directory take logs from its queue and flush them. While a log is being flushed, further
//! requests set its flag only, and it is flushed once more for all of them together: the busier the
//! log, the larger its groups, with nobody waiting for a timer.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::{Condvar, Mutex};
use tracing::{debug, error};

use super::log::Log;

/// Nothing is asked for.
const IDLE: u8 = 0;
/// The log is in the queue.
const QUEUED: u8 = 1;
/// The log is being flushed.
const RUNNING: u8 = 2;
/// The log is being flushed, and was asked for again since that began.
const AGAIN: u8 = 3;

#[derive(Default)]
struct Queue {
    logs: VecDeque<Arc<Log>>,
    stopping: bool,
}

/// The logs of one directory that wait for a flush.
#[derive(Default)]
struct DirQueue {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl DirQueue {
    fn push(&self, log: Arc<Log>) {
        let mut queue = self.queue.lock();
        if !queue.stopping {
            queue.logs.push_back(log);
            drop(queue);
            self.changed.notify_one();
        }
    }

    /// The next log; `None` when the flusher stops and nothing is left.
    fn pop(&self) -> Option<Arc<Log>> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(log) = queue.logs.pop_front() {
                return Some(log);
            }
            if queue.stopping {
                return None;
            }
            self.changed.wait(&mut queue);
        }
    }
}

/// Threads that flush logs on demand.
pub struct Flusher {
    dirs: Vec<(PathBuf, Arc<DirQueue>)>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

impl Flusher {
    /// Starts `threads_per_dir` threads for each directory.
    ///
    /// # Errors
    /// If the system gives no more threads.
    pub fn start(dirs: &[PathBuf], threads_per_dir: usize) -> std::io::Result<Self> {
        let flusher = Self {
            dirs: dirs.iter().map(|path| (path.clone(), Arc::default())).collect(),
            threads: Mutex::default(),
        };
        for (_, queue) in &flusher.dirs {
            for number in 0..threads_per_dir.max(1) {
                let queue: Arc<DirQueue> = queue.clone();
                let builder = std::thread::Builder::new().name(format!("flush-{number}"));
                let thread = builder.spawn(move || {
                    while let Some(log) = queue.pop() {
                        run(&queue, log);
                    }
                })?;
                flusher.threads.lock().push(thread);
            }
        }
        Ok(flusher)
    }

    /// Asks that everything appended to `log` so far be brought to disk soon. Cheap and
    /// non-blocking; who waits learns of it by [`Log::on_flush`] or [`Log::flushed_offset`]. If the
    /// disk fails, the directory goes offline and the manager's failure listener is called instead.
    pub fn request(&self, log: &Arc<Log>) {
        let state = &log.flush_request;
        loop {
            let current = state.load(Ordering::Acquire);
            let next = match current {
                IDLE => QUEUED,
                RUNNING => AGAIN,
                // It will be flushed after this moment anyway.
                _ => return,
            };
            if replace(state, current, next) {
                if next == QUEUED {
                    self.push(log);
                }
                return;
            }
        }
    }

    fn push(&self, log: &Arc<Log>) {
        let path = log.dir().path();
        if let Some((_, queue)) = self.dirs.iter().find(|(dir, _)| dir == path) {
            queue.push(log.clone());
        }
    }

    /// Flushes what was asked for, then ends the threads.
    pub fn stop(&self) {
        for (_, queue) in &self.dirs {
            queue.queue.lock().stopping = true;
            queue.changed.notify_all();
        }
        let current = std::thread::current().id();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // One of its own threads may have held the last handle on the flusher's owner.
            if thread.thread().id() != current && thread.join().is_err() {
                error!("a flusher thread panicked");
            }
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.stop();
    }
}

fn replace(state: &AtomicU8, current: u8, next: u8) -> bool {
    state.compare_exchange(current, next, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

fn run(queue: &DirQueue, log: Arc<Log>) {
    let state = &log.flush_request;
    state.store(RUNNING, Ordering::Release);
    if let Err(error) = log.flush() {
        // A failed disk was reported by its directory; a closed log needs no flush.
        debug!(log = %log.topic_partition(), %error, "did not flush");
    }
    if !replace(state, RUNNING, IDLE) {
        state.store(QUEUED, Ordering::Release);
        queue.push(log);
    }
}
