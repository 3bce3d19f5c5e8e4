//! The thread that owns the log: it gives each command its place and its time, and makes all that
//! waits durable by one flush.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ottla_common::clock::Clock;
use tokio::sync::mpsc;

use super::apply::{Applier, Durable};
use super::load::remove_files;
use super::{Event, Progress, Waiting};
use crate::limits::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX};
use crate::storage::StorageError;
use crate::storage::files::{Files, FolderLock};
use crate::storage::wal::Wal;
use crate::storage::wal_record::{Entry, EntryKind};

pub struct Driver {
    wal: Wal,
    applier: Applier,
    progress: Arc<Progress>,
    clock: Clock,
    /// Held until everything else has ended.
    _lock: FolderLock,
}

/// What one round does.
#[derive(Default)]
struct Round {
    commands: Vec<Waiting>,
    bytes: usize,
    forget_before: Option<u64>,
    stop: bool,
}

impl Round {
    fn take(&mut self, event: Event) {
        match event {
            Event::Propose(waiting) => {
                self.bytes += waiting.payload.len();
                self.commands.push(waiting);
            }
            Event::Forget(index) => self.forget_before = Some(index),
            Event::Stop => self.stop = true,
        }
    }

    fn is_full(&self) -> bool {
        self.stop || self.bytes >= BATCH_BYTES_MAX || self.commands.len() >= BATCH_COMMANDS_MAX
    }
}

impl Driver {
    pub fn new(
        (wal, lock): (Wal, FolderLock),
        applier: Applier,
        (progress, clock): (Arc<Progress>, Clock),
    ) -> Self {
        Self { wal, applier, progress, clock, _lock: lock }
    }

    /// Runs until it is told to stop or the disk fails.
    pub fn run(mut self, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.blocking_recv() {
            let mut round = Round::default();
            round.take(event);
            while !round.is_full() {
                let Ok(event) = events.try_recv() else { break };
                round.take(event);
            }
            let stop = round.stop;
            if let Err(error) = self.carry_out(round) {
                tracing::error!(%error, "the log has failed, the member stops");
                let failure = Arc::from(error.to_string());
                self.progress.failure.send_replace(Some(failure));
                break;
            }
            if stop {
                break;
            }
        }
        // Whoever still waits learns that the member stops; who comes later as well.
        drop(events);
        self.applier.finish();
        match self.wal.close() {
            Ok(()) | Err(StorageError::FailedBefore) => {}
            Err(error) => tracing::error!(%error, "cannot close the log"),
        }
    }

    fn carry_out(&mut self, round: Round) -> Result<(), StorageError> {
        if !round.commands.is_empty() {
            self.commit(round.commands, round.bytes)?;
        }
        if let Some(index) = round.forget_before {
            self.forget(index);
        }
        Ok(())
    }

    /// Makes commands durable and has them applied. If this fails, nobody is told an outcome.
    fn commit(&mut self, commands: Vec<Waiting>, bytes: usize) -> Result<(), StorageError> {
        let first_index = self.wal.last_index() + 1;
        let (term, time_ms) = (self.progress.term, self.clock.wall_time_ms());
        let entries = (first_index..).zip(&commands).map(|(index, waiting)| {
            let payload = waiting.payload.clone();
            Entry { index, term, time_ms, kind: EntryKind::Command, payload }
        });
        let entries: Vec<Entry> = entries.collect();
        let started = Instant::now();
        self.wal.append(&entries)?;
        let progress = &self.progress;
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        progress.flushes.fetch_add(1, Ordering::Relaxed);
        progress.flush_micros_total.fetch_add(micros, Ordering::Relaxed);
        progress.metrics.flushes.observe_micros(micros);
        progress.flush_micros_last.store(micros, Ordering::Relaxed);
        progress.committed.store(self.wal.last_index(), Ordering::Release);
        // Waits while the applier is behind: then proposals wait in their queue, which is bounded.
        self.applier.apply(Durable { first_index, term, time_ms, bytes, commands });
        Ok(())
    }

    /// Drops segments that no snapshot needs. Removing large files takes time, so another thread
    /// does it.
    fn forget(&mut self, index: u64) {
        let paths = self.wal.forget_before(index);
        self.progress.first_index.store(self.wal.first_index(), Ordering::Relaxed);
        if paths.is_empty() {
            return;
        }
        let files: Files = self.wal.files().clone();
        let thread = std::thread::Builder::new().name("coordinator-cleanup".to_owned());
        if let Err(error) = thread.spawn(move || remove_files(&files, &paths)) {
            tracing::warn!(%error, "no thread to remove old segments of the log");
        }
    }
}
