//! Where a thread finds what it has to do. Putting in never waits, so that threads that feed each
//! other cannot wait for each other; what is under way between them is bounded by those who begin
//! it (see `limits`).
//!
//! Waking a thread takes longer than most of what there is to do. So a mailbox may have an
//! attendant: whoever puts in something short lets it do the reader's work there and then.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// A queue with one reader at a time. Clones share it.
pub struct Mailbox<T>(Arc<Shared<T>>);

/// Does what there is to do, on the caller's thread. False if the reader's own thread has to. It is
/// told whether the caller holds nothing that others may wait for.
type Attendant = Box<dyn Fn(bool) -> bool + Send + Sync>;

struct Shared<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
    attendant: OnceLock<Attendant>,
}

struct State<T> {
    letters: Vec<T>,
    woken: bool,
    waits: bool,
}

impl<T> fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("letters", &self.0.state.lock().letters.len()).finish()
    }
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
        let state = Mutex::new(state);
        Self(Arc::new(Shared { state, arrived: Condvar::new(), attendant: OnceLock::new() }))
    }

    /// From now on there is someone who can do the reader's work on other threads. It has to look
    /// again ([`Mailbox::is_empty`]) after it has let another one do it.
    pub fn attended_by(&self, attendant: impl Fn(bool) -> bool + Send + Sync + 'static) {
        let _ = self.0.attendant.set(Box::new(attendant));
    }

    /// Puts something in.
    pub fn put(&self, letter: T) {
        let mut state = self.0.state.lock();
        state.letters.push(letter);
        self.notify(&mut state);
    }

    /// Puts in what can wait for what comes next.
    pub fn put_quietly(&self, letter: T) {
        self.0.state.lock().letters.push(letter);
    }

    /// Puts in what takes no time, and does it, unless that is someone else's work just now. For
    /// callers that hold nothing.
    pub fn put_and_attend(&self, letter: T) {
        self.0.state.lock().letters.push(letter);
        self.attend(true);
    }

    /// Ends the reader's wait though nothing is put in.
    pub fn wake(&self) {
        let mut state = self.0.state.lock();
        state.woken = true;
        self.notify(&mut state);
    }

    /// Has the reader look, here if possible, though nothing is put in.
    pub fn wake_and_attend(&self) {
        self.0.state.lock().woken = true;
        self.attend(false);
    }

    /// Does what was put in quietly. For callers that hold nothing.
    pub fn attend_now(&self) {
        self.attend(true);
    }

    fn attend(&self, is_free: bool) {
        if !self.0.attendant.get().is_some_and(|attendant| attendant(is_free)) {
            self.notify(&mut self.0.state.lock());
        }
    }

    fn notify(&self, state: &mut State<T>) {
        if std::mem::take(&mut state.waits) {
            self.0.arrived.notify_one();
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        let state = self.0.state.lock();
        state.letters.is_empty() && !state.woken
    }

    /// Takes all that is there.
    pub fn take_now(&self) -> Vec<T> {
        let mut state = self.0.state.lock();
        state.woken = false;
        std::mem::take(&mut state.letters)
    }

    /// Takes all that is there; waits for something.
    pub fn take(&self) -> Vec<T> {
        loop {
            self.wait(None);
            let letters = self.take_now();
            if !letters.is_empty() {
                return letters;
            }
        }
    }

    /// Waits until there is something to do; if a time is given no longer than that.
    pub fn wait(&self, patience: Option<Duration>) {
        let mut state = self.0.state.lock();
        while state.letters.is_empty() && !state.woken {
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
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;

    const THREADS: usize = 4;
    const LETTERS: usize = 5_000;

    struct Reader {
        mailbox: Mailbox<usize>,
        read: Mutex<Vec<usize>>,
    }

    impl Reader {
        fn attend(&self) -> bool {
            let Some(mut read) = self.read.try_lock() else { return true };
            read.extend(self.mailbox.take_now());
            drop(read);
            self.mailbox.is_empty()
        }
    }

    #[test]
    fn what_is_put_in_while_someone_else_attends_is_not_left_lying() {
        let mailbox = Mailbox::new();
        let reader = Arc::new(Reader { mailbox: mailbox.clone(), read: Mutex::default() });
        let attendant: Weak<Reader> = Arc::downgrade(&reader);
        mailbox.attended_by(move |_| attendant.upgrade().is_some_and(|reader| reader.attend()));
        let putting = |first: usize| {
            let mailbox = mailbox.clone();
            std::thread::spawn(move || {
                for letter in (first..THREADS * LETTERS).step_by(THREADS) {
                    match letter % 3 {
                        0 => mailbox.put(letter),
                        1 => mailbox.put_quietly(letter),
                        _ => mailbox.put_and_attend(letter),
                    }
                }
                mailbox.wake_and_attend();
            })
        };
        let putting: Vec<_> = (0..THREADS).map(putting).collect();
        let mut read = Vec::new();
        while read.len() < THREADS * LETTERS {
            mailbox.wait(Some(Duration::from_millis(20)));
            let mut place = reader.read.lock();
            place.extend(mailbox.take_now());
            read.append(&mut place);
        }
        putting.into_iter().for_each(|thread| thread.join().unwrap());
        for first in 0..THREADS {
            let of_one: Vec<_> = read.iter().filter(|letter| *letter % THREADS == first).collect();
            assert!(of_one.is_sorted(), "in the order in which the thread {first} put them in");
        }
        read.sort_unstable();
        assert!(read.into_iter().eq(0..THREADS * LETTERS), "each of them once");
    }
}
