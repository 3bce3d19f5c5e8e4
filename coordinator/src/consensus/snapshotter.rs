//! Takes snapshots while commands go on being applied: the state is cloned between two commands,
//! which costs next to nothing, and a thread of its own writes the clone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ottla_common::clock::Clock;
use ottla_common::coordination::codec::encode_message;
use parking_lot::Mutex;

use super::log_thread::LogJob;
use super::mailbox::Mailbox;
use super::raft::SnapshotMeta;
use super::snapshot_files::SnapshotJob;
use super::{EnsembleOptions, Progress};
use crate::storage::StorageError;
use crate::storage::commit_mark::CommitMark;
use crate::storage::snapshot::Snapshots;
use crate::tree::StateMachine;

/// How many records are written before the others get their turn.
const RECORDS_PER_TURN: u32 = 256;

/// The longest turn that the others get.
const TURN_MAX: Duration = Duration::from_millis(100);

/// How often it is noted what is committed, for each snapshot that comes by the number of records.
const MARKS_PER_SNAPSHOT: u64 = 4;

/// How many members take turns.
const TURNS: u64 = 3;

/// How many times as long as a turn of its own those of the others are.
const TURNS_OF_OTHERS: u32 = 3;

/// How long the file system has to free what was cut off an old snapshot, before more is.
const REMOVAL_PAUSE: Duration = Duration::from_millis(5);

/// How much less urgent the writing thread is than all others, as `nice` counts it.
const NICENESS: i32 = 10;

/// Decides when a snapshot is due.
#[derive(Debug)]
pub struct Snapshotter {
    shared: Arc<Shared>,
    after_records: u64,
    after_bytes: u64,
    /// So many records before its turn would come by their number alone: members that apply the
    /// same log, perhaps on one disk, are not to write their snapshots at the same time.
    ahead: u64,
    /// The entry that the newest snapshot, or the one being written, stands behind.
    taken: u64,
    /// What came into the log since then.
    bytes: u64,
    /// The newest record that is noted as committed.
    noted: u64,
    /// Whether snapshots are written by a thread of their own.
    has_threads: bool,
    thread: Option<JoinHandle<()>>,
}

/// What the writing thread needs.
#[derive(Debug)]
struct Shared {
    snapshots: Arc<Mutex<Snapshots>>,
    progress: Arc<Progress>,
    log: Mailbox<LogJob>,
    files: Mailbox<SnapshotJob>,
    cancelled: AtomicBool,
    clock: Clock,
}

/// Who hears of a new snapshot.
#[derive(Debug)]
pub struct SnapshotReaders {
    pub progress: Arc<Progress>,
    pub log: Mailbox<LogJob>,
    pub files: Mailbox<SnapshotJob>,
}

impl Snapshotter {
    /// The newest snapshot stands behind the entry `taken`.
    pub fn new(
        options: &EnsembleOptions,
        snapshots: Arc<Mutex<Snapshots>>,
        readers: SnapshotReaders,
        taken: u64,
    ) -> Self {
        let SnapshotReaders { progress, log, files } = readers;
        let (cancelled, clock) = (AtomicBool::new(false), options.clock.clone());
        let place = options.member_id.0 % TURNS;
        Self {
            shared: Arc::new(Shared { snapshots, progress, log, files, cancelled, clock }),
            after_records: options.snapshot_after_records.max(1),
            after_bytes: options.snapshot_after_bytes - options.snapshot_after_bytes / 6 * place,
            ahead: options.snapshot_after_records / TURNS * place,
            taken,
            bytes: 0,
            noted: taken,
            has_threads: true,
            thread: None,
        }
    }

    /// Writes snapshots at once, since there are no threads.
    pub fn without_threads(mut self) -> Self {
        self.has_threads = false;
        self
    }

    /// Notes that all up to an entry was applied, and begins a snapshot of `state` if one is due
    /// and none is being written.
    pub fn applied(
        &mut self,
        index: u64,
        bytes: usize,
        state: impl FnOnce() -> (StateMachine, SnapshotMeta),
    ) {
        self.bytes += bytes as u64;
        let turn = |index: u64| index.saturating_add(self.ahead) / self.after_records;
        let is_turn = turn(index) > turn(self.taken);
        if self.is_writing() {
            // The next turn will do: to begin late would be in another's.
            self.taken = index;
        } else if is_turn || self.bytes >= self.after_bytes {
            self.take(state);
        }
    }

    /// Has it noted that all up to a record is committed, now and then.
    pub fn committed(&mut self, mark: CommitMark) {
        let step = (self.after_records / MARKS_PER_SNAPSHOT).max(1);
        if mark.index >= self.noted.saturating_add(step) {
            self.noted = mark.index;
            self.shared.files.put(SnapshotJob::Committed(mark));
        }
    }

    /// Begins a snapshot of `state`, unless one is being written.
    pub fn take(&mut self, state: impl FnOnce() -> (StateMachine, SnapshotMeta)) {
        if self.is_writing() {
            return;
        }
        self.join();
        let (machine, meta) = state();
        self.begin_anew(meta.index);
        if !self.has_threads {
            return self.shared.take(&machine, &meta, &mut |_| ());
        }
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("coordinator-snapshot".to_owned());
        let thread = thread.spawn(move || {
            // Without it a snapshot delays requests more, but is as good.
            let _ = rustix::process::nice(NICENESS);
            let mut pace = Pace::new();
            shared.take(&machine, &meta, &mut |step| pace.after(step));
        });
        match thread {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => {
                tracing::error!(%error, "no thread to write a snapshot");
                self.shared.files.put(SnapshotJob::Failed);
            }
        }
    }

    /// The state is that of a snapshot behind an entry.
    pub fn begin_anew(&mut self, index: u64) {
        (self.taken, self.bytes) = (index, 0);
    }

    /// Gives up a snapshot that is being written, and waits for its thread.
    pub fn finish(&mut self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
        self.join();
    }

    fn is_writing(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes snapshots has panicked");
        }
    }
}

/// What takes some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A record was written.
    Record,
    /// A piece was cut off an old snapshot.
    Removal,
}

/// Leaves the machine to the others for longer than it has used it: a snapshot is in no hurry, and
/// the log shares the disk and the cores with it.
#[derive(Debug)]
struct Pace {
    records: u32,
    since: Instant,
}

impl Pace {
    fn new() -> Self {
        Self { records: 0, since: Instant::now() }
    }

    fn after(&mut self, step: Step) {
        if step == Step::Removal {
            return std::thread::sleep(REMOVAL_PAUSE);
        }
        self.records += 1;
        if self.records.is_multiple_of(RECORDS_PER_TURN) {
            std::thread::sleep((self.since.elapsed() * TURNS_OF_OTHERS).min(TURN_MAX));
            self.since = Instant::now();
        }
    }
}

impl Shared {
    /// A snapshot that fails harms nothing but the length of the log: the next one is tried later.
    /// `pace` is called with each step.
    fn take(&self, machine: &StateMachine, meta: &SnapshotMeta, pace: &mut dyn FnMut(Step)) {
        let index = meta.index;
        let started_ms = self.clock.monotonic_ms();
        match self.write(machine, meta, pace) {
            Ok(Some(size)) => {
                let took_ms = self.clock.monotonic_ms() - started_ms;
                let snapshots = &self.progress.metrics.snapshots;
                snapshots.observe_micros(took_ms.saturating_mul(1_000));
                tracing::info!(index, size, took_ms, "snapshot taken");
                self.files.put(SnapshotJob::Taken(meta.clone()));
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(index, %error, "cannot take a snapshot, will try again");
                self.files.put(SnapshotJob::Failed);
            }
        }
    }

    fn write(
        &self,
        machine: &StateMachine,
        meta: &SnapshotMeta,
        pace: &mut dyn FnMut(Step),
    ) -> Result<Option<u64>, StorageError> {
        let records = machine.snapshot_records().map(|record| {
            pace(Step::Record);
            let encoded = encode_message(&record);
            encoded.unwrap_or_else(|error| unreachable!("encode a snapshot: {error}"))
        });
        let writer = self.snapshots.lock().writer();
        let Some(size) = writer.write(meta, records, &self.cancelled)? else { return Ok(None) };
        self.progress.snapshot_index.fetch_max(meta.index, Ordering::Relaxed);
        let mut snapshots = self.snapshots.lock();
        snapshots.mark_whole(meta.index);
        let needed_from = snapshots.remove_old(&mut || pace(Step::Removal))?;
        drop(snapshots);
        if let Some(index) = needed_from {
            self.log.put(LogJob::Forget(index));
        }
        Ok(Some(size))
    }
}
