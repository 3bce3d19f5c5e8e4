//! Runs the asynchronous parts of one member in one thread and in an order of their own, so that
//! nothing depends on who woke whom first.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use ottla_coordinator::requests::tasks;
use parking_lot::Mutex;

/// How often tasks may be run on in one go before that is taken for an endless loop.
const POLLS_MAX: usize = 100_000;

/// Tasks of one member. They end with it.
#[derive(Default)]
pub struct Tasks {
    tasks: BTreeMap<u64, Task>,
    spawned: u64,
    ready: Arc<Mutex<BTreeSet<u64>>>,
    arriving: Arc<Mutex<Vec<tasks::Task>>>,
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
}

struct Alarm {
    task: u64,
    ready: Arc<Mutex<BTreeSet<u64>>>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.ready.lock().insert(self.task);
    }
}

impl Tasks {
    /// Adds a task. It begins at the next [`Tasks::run`].
    pub fn spawn(&mut self, future: impl Future<Output = ()> + 'static) {
        self.spawned += 1;
        let task = self.spawned;
        let waker = Waker::from(Arc::new(Alarm { task, ready: Arc::clone(&self.ready) }));
        self.tasks.insert(task, Task { future: Box::pin(future), waker });
        self.ready.lock().insert(task);
    }

    /// What lets the product add tasks.
    pub fn handle(&self) -> tasks::Tasks {
        let arriving = Arc::clone(&self.arriving);
        tasks::Tasks::new(move |task| arriving.lock().push(task))
    }

    /// Runs until all tasks wait for something. Returns whether there was anything to do.
    pub fn run(&mut self) -> bool {
        for polls in 0..POLLS_MAX {
            let arriving = std::mem::take(&mut *self.arriving.lock());
            arriving.into_iter().for_each(|task| self.spawn(task));
            let next = self.ready.lock().pop_first();
            let Some(number) = next else { return polls > 0 };
            let Some(task) = self.tasks.get_mut(&number) else { continue };
            let mut context = Context::from_waker(&task.waker);
            if let Poll::Ready(()) = task.future.as_mut().poll(&mut context) {
                self.tasks.remove(&number);
            }
        }
        panic!("the tasks of a member wake each other for ever");
    }
}
