//! The member's log and hard state: the one who writes them, and the thread that does it while the
//! consensus goes on, so that no heartbeat waits for the disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Progress;
use super::apply::{ApplyJob, ApplyQueue};
use super::driver::Letter;
use super::load::remove_files;
use super::mailbox::Mailbox;
use super::node::{Input, Persist};
use super::raft::SnapshotMeta;
use crate::storage::StorageError;
use crate::storage::files::{Files, FolderLock};
use crate::storage::snapshot::Snapshots;
use crate::storage::wal::Wal;
use crate::storage::wal_record::Entry;
use crate::tree::StateMachine;

/// How long the file system has to free a segment, before the next is removed.
const REMOVAL_PAUSE: Duration = Duration::from_millis(200);

/// After a flush of so many entries the thread itself lets the consensus go on.
const ATTENDED_ENTRIES_MAX: usize = 16;

/// Writes the log and the hard state.
#[derive(Debug)]
pub struct LogWriter {
    wal: Wal,
    folder: PathBuf,
    files: Files,
    progress: Arc<Progress>,
    /// Whether another thread removes files.
    has_threads: bool,
    /// Held until everything else has ended.
    _lock: FolderLock,
}

impl LogWriter {
    pub fn new(wal: Wal, (folder, files): (PathBuf, Files), lock: FolderLock) -> Self {
        Self { wal, folder, files, progress: Arc::default(), has_threads: true, _lock: lock }
    }

    pub fn with_progress(mut self, progress: Arc<Progress>) -> Self {
        self.progress = progress;
        self.note_extent();
        self
    }

    /// Removes files itself, since there are no threads.
    pub fn without_threads(mut self) -> Self {
        self.has_threads = false;
        self
    }

    /// Makes all of it durable, by one flush if it can be. If this fails, nobody knows what is on
    /// the disk, and the member has to stop.
    pub fn persist(&mut self, persists: Vec<Persist>) -> Result<(), StorageError> {
        let started = Instant::now();
        let mut newest_state = None;
        let mut batch: Vec<Entry> = Vec::new();
        for Persist { hard_state, entries, .. } in persists {
            newest_state = hard_state.or(newest_state);
            let Some(first) = entries.first().map(|entry| entry.index) else { continue };
            let kept = batch.partition_point(|entry| entry.index < first);
            batch.truncate(kept);
            if batch.is_empty() {
                batch = entries;
            } else {
                batch.extend(entries);
            }
        }
        if let Some(hard_state) = newest_state {
            hard_state.store(&self.folder, &self.files)?;
        }
        let Some(first) = batch.first().map(|entry| entry.index) else { return Ok(()) };
        if first <= self.wal.last_index() {
            self.wal.truncate_from(first)?;
        }
        self.wal.append(&batch)?;
        self.progress.log_size.store(self.wal.size(), Ordering::Relaxed);
        self.progress.flushed(started.elapsed());
        Ok(())
    }

    /// Drops segments that no snapshot needs. Removing large files takes time, so another thread
    /// does it.
    fn forget(&mut self, index: u64) {
        let paths = self.wal.forget_before(index);
        self.note_extent();
        if paths.is_empty() {
            return;
        }
        let files: Files = self.wal.files().clone();
        if !self.has_threads {
            return remove_files(&files, &paths, || ());
        }
        let thread = std::thread::Builder::new().name("coordinator-cleanup".to_owned());
        let pause = || std::thread::sleep(REMOVAL_PAUSE);
        if let Err(error) = thread.spawn(move || remove_files(&files, &paths, pause)) {
            tracing::warn!(%error, "no thread to remove old segments of the log");
        }
    }

    /// Puts a received snapshot in the place of the log.
    fn install(
        &mut self,
        meta: &SnapshotMeta,
        snapshots: &Mutex<Snapshots>,
    ) -> Result<(), StorageError> {
        snapshots.lock().install(meta, &mut self.wal)?;
        self.note_extent();
        self.progress.snapshot_index.store(meta.index, Ordering::Relaxed);
        Ok(())
    }

    /// Tells where the log begins and how large it is.
    fn note_extent(&self) {
        self.progress.first_index.store(self.wal.first_index(), Ordering::Relaxed);
        self.progress.log_size.store(self.wal.size(), Ordering::Relaxed);
    }

    /// Notes that all is flushed.
    pub fn close(&mut self) {
        match self.wal.close() {
            Ok(()) | Err(StorageError::FailedBefore) => {}
            Err(error) => tracing::error!(%error, "cannot close the log"),
        }
    }
}

/// What the thread is to do, in order.
#[derive(Debug)]
pub enum LogJob {
    /// Make durable.
    Persist(Persist),
    /// No snapshot that is kept needs the log before this index.
    Forget(u64),
    /// A snapshot was received whole: it takes the place of the log, and this state that of ours.
    Install(SnapshotMeta, Box<StateMachine>),
    /// End.
    Stop,
}

/// The way to the thread.
#[derive(Debug)]
pub struct LogThread {
    jobs: Mailbox<LogJob>,
    writer: Arc<Mutex<LogWriter>>,
    /// How many jobs are not done yet.
    under_way: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

/// Who hears of what the thread has done.
#[derive(Debug)]
pub struct LogReaders {
    pub driver: Mailbox<Letter>,
    pub applier: ApplyQueue,
    pub snapshots: Arc<Mutex<Snapshots>>,
}

impl LogThread {
    /// The way to a thread that does not run yet, and what is to run there.
    pub fn new(writer: LogWriter, jobs: Mailbox<LogJob>, readers: LogReaders) -> (Self, LogRunner) {
        let writer = Arc::new(Mutex::new(writer));
        let under_way = Arc::new(AtomicUsize::new(0));
        let runner = LogRunner {
            jobs: jobs.clone(),
            writer: Arc::clone(&writer),
            under_way: Arc::clone(&under_way),
            readers,
        };
        (Self { jobs, writer, under_way, thread: None }, runner)
    }

    pub fn start(&mut self, runner: LogRunner) -> std::io::Result<()> {
        let thread = std::thread::Builder::new().name("coordinator-log".to_owned());
        self.thread = Some(thread.spawn(move || runner.run())?);
        Ok(())
    }

    /// Has something made durable; the driver is told when it is.
    pub fn persist(&self, persist: Persist) {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        self.jobs.put(LogJob::Persist(persist));
    }

    /// The writer itself, if the thread has nothing to persist: what it writes is in order.
    pub fn if_idle(&self) -> Option<&Mutex<LogWriter>> {
        let is_idle = self.thread.is_some() && self.under_way.load(Ordering::Acquire) == 0;
        is_idle.then_some(&self.writer)
    }

    /// Does what is left, and ends.
    pub fn finish(&mut self) {
        self.jobs.put(LogJob::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the log has panicked");
        }
        self.writer.lock().close();
    }
}

/// The thread's own side.
#[derive(Debug)]
pub struct LogRunner {
    jobs: Mailbox<LogJob>,
    writer: Arc<Mutex<LogWriter>>,
    under_way: Arc<AtomicUsize>,
    readers: LogReaders,
}

impl LogRunner {
    fn run(self) {
        while self.round(self.jobs.take()) {}
    }

    /// Does what there is to do. Returns whether there will be more.
    pub fn round(&self, jobs: Vec<LogJob>) -> bool {
        self.carry_out(jobs).unwrap_or_else(|error| {
            self.fail(&error);
            false
        })
    }

    fn carry_out(&self, jobs: Vec<LogJob>) -> Result<bool, StorageError> {
        let mut persists = Vec::new();
        let mut goes_on = true;
        for job in jobs {
            match job {
                LogJob::Persist(persist) => persists.push(persist),
                LogJob::Forget(index) => self.writer.lock().forget(index),
                LogJob::Install(meta, machine) => {
                    self.persist(std::mem::take(&mut persists))?;
                    self.install(meta, machine)?;
                }
                LogJob::Stop => {
                    goes_on = false;
                    break;
                }
            }
        }
        self.persist(persists)?;
        Ok(goes_on)
    }

    fn persist(&self, persists: Vec<Persist>) -> Result<(), StorageError> {
        let Some(number) = persists.last().map(|persist| persist.number) else { return Ok(()) };
        let count = persists.len();
        let is_short = persists.iter().map(|persist| persist.entries.len()).sum::<usize>()
            <= ATTENDED_ENTRIES_MAX;
        self.writer.lock().persist(persists)?;
        self.under_way.fetch_sub(count, Ordering::AcqRel);
        let persisted = Letter::Input(Input::Persisted(number));
        if is_short && self.jobs.is_empty() {
            self.readers.driver.put_and_attend(persisted);
        } else {
            self.readers.driver.put(persisted);
        }
        Ok(())
    }

    fn install(&self, meta: SnapshotMeta, machine: Box<StateMachine>) -> Result<(), StorageError> {
        self.writer.lock().install(&meta, &self.readers.snapshots)?;
        self.readers.applier.put(ApplyJob::Install(meta, machine));
        Ok(())
    }

    fn fail(&self, error: &StorageError) {
        self.readers.driver.put(Letter::Failed(Arc::from(error.to_string())));
    }
}
