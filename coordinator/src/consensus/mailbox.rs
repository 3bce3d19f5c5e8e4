//! Where a thread finds what it has to do. Putting in never waits, so that threads that feed each
//! other cannot wait for each other; what is under way between them is bounded by those who begin
//! it (see `limits`).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// A queue with one reader. Clones share it.
#[derive(Debug)]
pub struct Mailbox<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
}

#[derive(Debug)]
struct State<T> {
    letters: Vec<T>,
    woken: bool,
    waits: bool,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Mailbox<T> {
    /// An empty one.
    pub fn new() -> Self {
        let state = State { letters: Vec::new(), woken: false, waits: false };
        Self(Arc::new(Shared { state: Mutex::new(state), arrived: Condvar::new() }))
    }

    /// Puts something in.
    pub fn put(&self, letter: T) {
        let mut state = self.0.state.lock();
        state.letters.push(letter);
        self.notify(&mut state);
    }

    /// Ends the reader's wait though nothing is put in.
    pub fn wake(&self) {
        let mut state = self.0.state.lock();
        state.woken = true;
        self.notify(&mut state);
    }

    fn notify(&self, state: &mut State<T>) {
        if std::mem::take(&mut state.waits) {
            self.0.arrived.notify_one();
        }
    }

    /// Takes all that is there.
    pub fn take_now(&self) -> Vec<T> {
        let mut state = self.0.state.lock();
        state.woken = false;
        std::mem::take(&mut state.letters)
    }

    /// Takes all that is there; waits for something, if a time is given no longer than that.
    pub fn take(&self, patience: Option<Duration>) -> Vec<T> {
        let mut state = self.0.state.lock();
        while state.letters.is_empty() && !std::mem::take(&mut state.woken) {
            state.waits = true;
            match patience {
                None => self.0.arrived.wait(&mut state),
                Some(patience) => {
                    if self.0.arrived.wait_for(&mut state, patience).timed_out() {
                        break;
                    }
                }
            }
        }
        state.waits = false;
        state.woken = false;
        std::mem::take(&mut state.letters)
    }
}
