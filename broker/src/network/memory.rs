//! The budget for the memory of all requests under way. It is taken as bytes arrive, never at a
//! size that a client merely announces, so that a client can hold no more of it than it has sent
//! for.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

use crate::limits;

/// What one permit of the semaphore stands for.
const UNIT_SIZE: usize = 1024;

/// The budget. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    units: Arc<Semaphore>,
    size: usize,
}

impl MemoryBudget {
    /// A budget of `size` bytes, and at least one kibibyte.
    pub fn new(size: usize) -> Self {
        let units = (size / UNIT_SIZE).clamp(1, Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(units)), size: units * UNIT_SIZE }
    }

    /// A share of the machine's memory.
    pub fn of_this_machine() -> Self {
        Self::new(machine_memory().map_or(limits::REQUEST_MEMORY_MIN, |total| {
            let share = usize::try_from(total / limits::REQUEST_MEMORY_DIVISOR);
            share.unwrap_or(usize::MAX).max(limits::REQUEST_MEMORY_MIN)
        }))
    }

    /// Bytes that are free now.
    pub fn available(&self) -> usize {
        self.units.available_permits() * UNIT_SIZE
    }

    /// The size of the whole budget in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// One connection's door to the budget.
    pub fn account(&self) -> MemoryAccount {
        MemoryAccount { units: PollSemaphore::new(Arc::clone(&self.units)) }
    }
}

/// One connection's door to the budget: at most one reservation is waited for at a time.
#[derive(Debug)]
pub struct MemoryAccount {
    units: PollSemaphore,
}

impl MemoryAccount {
    /// Grows a reservation to at least `size` bytes, or registers the task to be woken when it may
    /// be tried again.
    pub fn poll_grow(
        &mut self,
        context: &mut Context<'_>,
        reservation: &mut Reservation,
        size: usize,
    ) -> Poll<()> {
        let Some(missing) = size.div_ceil(UNIT_SIZE).checked_sub(reservation.units()) else {
            return Poll::Ready(());
        };
        let Ok(missing) = u32::try_from(missing) else { return Poll::Pending };
        if missing == 0 {
            return Poll::Ready(());
        }
        match self.units.poll_acquire_many(context, missing) {
            Poll::Pending => Poll::Pending,
            // The semaphore is never closed.
            Poll::Ready(None) => Poll::Ready(()),
            Poll::Ready(Some(permit)) => {
                reservation.add(permit);
                Poll::Ready(())
            }
        }
    }
}

/// Memory taken from the budget; given back when dropped.
#[derive(Debug, Default)]
pub struct Reservation {
    permit: Option<OwnedSemaphorePermit>,
}

impl Reservation {
    fn units(&self) -> usize {
        self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Bytes that are reserved.
    pub fn size(&self) -> usize {
        self.units() * UNIT_SIZE
    }

    fn add(&mut self, more: OwnedSemaphorePermit) {
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
    }
}

/// The memory of the machine in bytes, or of the control group that this process is confined to,
/// if that is less.
fn machine_memory() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let confined = group.and_then(|text| text.trim().parse().ok()).unwrap_or(u64::MAX);
    Some((kibibytes * 1024).min(confined))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::future::poll_fn;

    #[tokio::test]
    async fn a_reservation_grows_waits_and_is_given_back() {
        let budget = MemoryBudget::new(64 * 1024);
        let (mut first, mut second) = (budget.account(), budget.account());
        let (mut held, mut wanted) = (Reservation::default(), Reservation::default());

        poll_fn(|context| first.poll_grow(context, &mut held, 10)).await;
        assert_eq!(held.size(), 1024);
        poll_fn(|context| first.poll_grow(context, &mut held, 60 * 1024)).await;
        assert_eq!((held.size(), budget.available()), (60 * 1024, 4 * 1024));

        let waits = poll_fn(|context| {
            Poll::Ready(second.poll_grow(context, &mut wanted, 8 * 1024).is_pending())
        });
        assert!(waits.await);
        drop(held);
        poll_fn(|context| second.poll_grow(context, &mut wanted, 8 * 1024)).await;
        assert_eq!(wanted.size(), 8 * 1024);
        drop(wanted);
        assert_eq!(budget.available(), budget.size());
    }

    #[test]
    fn the_machine_has_memory() {
        assert!(MemoryBudget::of_this_machine().size() >= limits::REQUEST_MEMORY_MIN);
    }
}
