//! Who does the driver's work. It has a thread of its own, which does what takes longer and keeps
//! the time; but a message of another member, the end of a flush and a single proposal are handled
//! on the thread that brings them, if nobody else is at work: to wake a thread takes longer.

use std::time::Instant;

use parking_lot::Mutex;

use super::apply::ApplyQueue;
use super::driver::{Driver, Letter};
use super::mailbox::Mailbox;

/// How often one that is not the driver's thread goes on with what came meanwhile.
const ROUNDS_MAX: usize = 4;

/// See the module.
pub struct Helm {
    mailbox: Mailbox<Letter>,
    to_apply: ApplyQueue,
    /// None when it has ended.
    driver: Mutex<Option<Steered>>,
}

struct Steered {
    driver: Driver,
    /// Nothing more is to be done.
    has_ended: bool,
    /// A round was begun and not finished: it panics.
    is_in_round: bool,
}

impl Helm {
    pub fn new(driver: Driver) -> Self {
        let (mailbox, to_apply) = (driver.mailbox.clone(), driver.applier.queue().clone());
        let steered = Steered { driver, has_ended: false, is_in_round: false };
        Self { mailbox, to_apply, driver: Mutex::new(Some(steered)) }
    }

    /// Does what there is to do, unless someone is at it, who will see it then. False if the
    /// driver's thread has to.
    ///
    /// What follows is applied here as well if `is_free`: the state may be waited for then.
    pub fn attend(&self, is_free: bool) -> bool {
        let is_done = self.steer(is_free);
        if is_free {
            self.to_apply.attend();
        }
        is_done
    }

    fn steer(&self, is_free: bool) -> bool {
        for _ in 0..ROUNDS_MAX {
            let Some(mut place) = self.driver.try_lock() else { return true };
            // A member that is alone waits for its disk in its rounds.
            let Some(steered) = place.as_mut().filter(|steered| steered.may_be_attended()) else {
                return false;
            };
            steered.driver.applies_soon = is_free;
            steered.round(&self.mailbox, false);
            steered.driver.applies_soon = false;
            if steered.has_ended {
                return false;
            }
            drop(place);
            // Whoever found the place taken relies on this.
            if self.mailbox.is_empty() {
                return true;
            }
        }
        false
    }

    /// Runs until the driver is told to stop or the disk fails.
    pub fn run(&self) {
        let mut next_tick = Instant::now();
        loop {
            self.mailbox.wait(Some(next_tick.saturating_duration_since(Instant::now())));
            let mut place = self.driver.lock();
            let Some(steered) = place.as_mut() else { return };
            assert!(!steered.is_in_round, "a round of the consensus has panicked");
            let is_tick = Instant::now() >= next_tick;
            if is_tick {
                next_tick = Instant::now() + steered.driver.tick;
            }
            steered.round(&self.mailbox, is_tick);
            if !steered.has_ended {
                continue;
            }
            let ended = place.take();
            drop(place);
            if let Some(steered) = ended {
                steered.driver.finish();
            }
            return;
        }
    }
}

impl Steered {
    fn may_be_attended(&self) -> bool {
        !self.driver.is_alone && !self.has_ended && !self.is_in_round
    }

    fn round(&mut self, mailbox: &Mailbox<Letter>, is_tick: bool) {
        if self.has_ended {
            return;
        }
        self.is_in_round = true;
        self.has_ended = self.driver.round(mailbox.take_now(), is_tick);
        self.is_in_round = false;
    }
}
