//! Where what runs beside a connection's requests is run: on tokio, or by a simulator that decides
//! what goes on when.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::{CancellationToken, DropGuard};

/// A task that is to be run to its end.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A way to have tasks run. Clones share it.
#[derive(Clone)]
pub struct Tasks(Arc<dyn Fn(Task) + Send + Sync>);

/// A task that runs until it has ended, or this is dropped.
#[derive(Debug)]
pub struct RunningTask {
    has_ended: Arc<AtomicBool>,
    _stop: DropGuard,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tasks")
    }
}

impl Default for Tasks {
    /// Tokio's, of the runtime that a task is begun in.
    fn default() -> Self {
        Self::new(|task| {
            tokio::spawn(task);
        })
    }
}

impl Tasks {
    /// Hands every task to `run`.
    pub fn new(run: impl Fn(Task) + Send + Sync + 'static) -> Self {
        Self(Arc::new(run))
    }

    /// Has something run.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> RunningTask {
        let stop = CancellationToken::new();
        let has_ended = Arc::new(AtomicBool::new(false));
        let (stopped, ended) = (stop.clone(), Arc::clone(&has_ended));
        (self.0)(Box::pin(async move {
            stopped.run_until_cancelled(task).await;
            ended.store(true, Ordering::Release);
        }));
        RunningTask { has_ended, _stop: stop.drop_guard() }
    }
}

impl RunningTask {
    /// Whether it has ended by itself.
    pub fn is_finished(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }
}
