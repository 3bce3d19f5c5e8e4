//! One stop signal for a server and all its tasks, and a bounded wait until they have finished.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The stop signal of a server. Clones share the signal and the list of tasks.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// A signal that has not been given.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a task that [`Shutdown::finish`] waits for. The task itself watches for the signal.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Tells every task to stop. It can be told more than once.
    pub fn stop(&self) {
        self.token.cancel();
    }

    /// Whether the signal was given.
    pub fn is_stopping(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Completes when the signal is given.
    pub async fn stopped(&self) {
        self.token.cancelled().await;
    }

    /// A signal of its own for a part that may stop earlier; the whole's signal stops it too.
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), tasks: TaskTracker::new() }
    }

    /// Gives the signal and waits for the tasks, at most `patience`. Returns whether all finished.
    pub async fn finish(&self, patience: Duration) -> bool {
        self.stop();
        self.tasks.close();
        tokio::time::timeout(patience, self.tasks.wait()).await.is_ok()
    }
}

/// Completes at the first SIGINT or SIGTERM.
pub async fn signalled() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
