//! What becomes of a batch, and the futures of those who wait for it. All records of a batch share
//! one cell, so that a record costs no allocation.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::kafka::client::ClientError;

/// Where a batch was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    /// The first record's offset; -1 if the broker does not say.
    pub base_offset: i64,
    /// The broker's timestamp, or -1 if the records keep theirs.
    pub log_append_time_ms: i64,
}

/// Is told once what became of a batch.
#[derive(Debug, Default)]
pub(super) struct BatchCell {
    state: Mutex<CellState>,
}

#[derive(Debug, Default)]
struct CellState {
    result: Option<Result<Settled, ClientError>>,
    wakers: Vec<Waker>,
}

impl BatchCell {
    /// Tells everyone who waits. Only the first time counts.
    pub fn settle(&self, result: Result<Settled, ClientError>) {
        let mut state = self.state.lock();
        if state.result.is_none() {
            state.result = Some(result);
        }
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        for waker in wakers {
            waker.wake();
        }
    }

    /// Whether it is settled.
    pub fn is_settled(&self) -> bool {
        self.state.lock().result.is_some()
    }

    fn poll(
        &self,
        slot: &mut Option<usize>,
        context: &Context<'_>,
    ) -> Poll<Result<Settled, ClientError>> {
        let mut state = self.state.lock();
        if let Some(result) = &state.result {
            return Poll::Ready(result.clone());
        }
        // A future that is polled again replaces its waker instead of adding one.
        if let Some(waker) = slot.and_then(|slot| state.wakers.get_mut(slot)) {
            waker.clone_from(context.waker());
        } else {
            *slot = Some(state.wakers.len());
            state.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}

/// The side of a cell that settles it. If it is dropped before, the producer was closed.
#[derive(Debug, Default)]
pub(super) struct SettledOnDrop(pub Arc<BatchCell>);

impl SettledOnDrop {
    /// As [`BatchCell::settle`].
    pub fn settle(&self, result: Result<Settled, ClientError>) {
        self.0.settle(result);
    }
}

impl Drop for SettledOnDrop {
    fn drop(&mut self) {
        self.0.settle(Err(ClientError::Closed));
    }
}

/// Completes when a cell is settled.
pub(super) struct WhenSettled {
    cell: Arc<BatchCell>,
    slot: Option<usize>,
}

impl WhenSettled {
    pub fn new(cell: Arc<BatchCell>) -> Self {
        Self { cell, slot: None }
    }
}

impl Future for WhenSettled {
    type Output = Result<Settled, ClientError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { cell, slot } = &mut *self;
        cell.poll(slot, context)
    }
}

/// Where a record was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The partition.
    pub partition: i32,
    /// The record's offset; -1 if the broker did not say (`acks=0`).
    pub offset: i64,
    /// The record's timestamp, in milliseconds since 1970: its own, or the broker's.
    pub timestamp_ms: i64,
}

/// The delivery of one record, to come.
#[derive(Debug)]
pub struct Delivery {
    pub(super) cell: Arc<BatchCell>,
    pub(super) slot: Option<usize>,
    pub(super) partition: i32,
    /// The record's number in its batch.
    pub(super) index: i64,
    pub(super) timestamp_ms: i64,
}

impl Delivery {
    /// The partition that the record goes to.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    fn delivered(&self, settled: Settled) -> Delivered {
        let Settled { base_offset, log_append_time_ms } = settled;
        Delivered {
            partition: self.partition,
            offset: if base_offset < 0 { -1 } else { base_offset.saturating_add(self.index) },
            timestamp_ms: if log_append_time_ms < 0 {
                self.timestamp_ms
            } else {
                log_append_time_ms
            },
        }
    }
}

impl Future for Delivery {
    type Output = Result<Delivered, ClientError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { cell, slot, .. } = &mut *self;
        match cell.poll(slot, context) {
            Poll::Ready(result) => Poll::Ready(result.map(|settled| self.delivered(settled))),
            Poll::Pending => Poll::Pending,
        }
    }
}
