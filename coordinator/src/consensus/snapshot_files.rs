//! The thread that reads snapshots for other members, puts together those that come from them, and
//! notes how far the log is committed.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use ottla_common::types::MemberId;
use parking_lot::Mutex;

use super::apply::{ApplyJob, ApplyQueue};
use super::driver::Letter;
use super::load::machine_of;
use super::log_thread::LogJob;
use super::mailbox::Mailbox;
use super::node::Input;
use super::raft::{ChunkReceived, ChunkWanted, SnapshotMeta};
use crate::storage::StorageError;
use crate::storage::commit_mark::CommitMark;
use crate::storage::files::Files;
use crate::storage::snapshot::Snapshots;
use crate::storage::snapshot_transfer::{SnapshotChunks, SnapshotReceiver};

/// What the thread is to do, in order.
#[derive(Debug)]
pub enum SnapshotJob {
    /// A member needs a snapshot of an entry not below this one.
    Wanted {
        /// Who.
        to: MemberId,
        /// Not below.
        index_min: u64,
    },
    /// Read a piece.
    Read(ChunkWanted),
    /// A piece has come.
    Received(ChunkReceived),
    /// This member has taken a snapshot.
    Taken(SnapshotMeta),
    /// It could not.
    Failed,
    /// All up to a record is committed.
    Committed(CommitMark),
    /// End.
    Stop,
}

/// The way to the thread.
#[derive(Debug)]
pub struct SnapshotThread {
    jobs: Mailbox<SnapshotJob>,
    thread: Option<JoinHandle<()>>,
}

/// Where it is noted how far the log is committed.
#[derive(Clone, Debug)]
pub struct Notes {
    /// The member's folder.
    pub folder: PathBuf,
    /// The way to it.
    pub files: Files,
}

impl Notes {
    /// Notes it. Without it the next start is slower and needs more memory.
    pub fn note(&self, mark: CommitMark) {
        if let Err(error) = mark.store(&self.folder, &self.files) {
            tracing::warn!(%error, "cannot note how far the log is committed");
        }
    }
}

/// The thread's own side: where snapshots are, and who hears of them.
#[derive(Debug)]
pub struct SnapshotFiles {
    pub notes: Notes,
    pub snapshots: Arc<Mutex<Snapshots>>,
    pub driver: Mailbox<Letter>,
    pub applier: ApplyQueue,
    pub log: Mailbox<LogJob>,
    /// Members that wait for a newer snapshot.
    pub waiting: Vec<(MemberId, u64)>,
    pub sending: Option<(u64, SnapshotChunks)>,
    pub receiving: Option<SnapshotReceiver>,
}

impl SnapshotThread {
    /// The way to a thread that does not run yet.
    pub fn new(jobs: Mailbox<SnapshotJob>) -> Self {
        Self { jobs, thread: None }
    }

    pub fn start(&mut self, files: SnapshotFiles) -> std::io::Result<()> {
        let thread = std::thread::Builder::new().name("coordinator-files".to_owned());
        let jobs = self.jobs.clone();
        self.thread = Some(thread.spawn(move || files.run(&jobs))?);
        Ok(())
    }

    pub fn put(&self, job: SnapshotJob) {
        self.jobs.put(job);
    }

    /// Does what is left, and ends.
    pub fn finish(&mut self) {
        self.jobs.put(SnapshotJob::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the snapshots' files has panicked");
        }
    }
}

impl SnapshotFiles {
    fn run(mut self, jobs: &Mailbox<SnapshotJob>) {
        while self.round(jobs.take()) {}
    }

    /// Does what there is to do. Returns whether there will be more.
    pub fn round(&mut self, jobs: Vec<SnapshotJob>) -> bool {
        for job in jobs {
            match job {
                SnapshotJob::Wanted { to, index_min } => self.wanted(to, index_min),
                SnapshotJob::Read(wanted) => self.read(wanted),
                SnapshotJob::Received(chunk) => self.received(&chunk),
                SnapshotJob::Taken(meta) => self.taken(&meta),
                SnapshotJob::Failed => self.waiting.drain(..).for_each(|(to, _)| {
                    self.driver.put(Letter::Input(Input::SnapshotUnavailable(to)));
                }),
                SnapshotJob::Committed(mark) => self.notes.note(mark),
                SnapshotJob::Stop => return false,
            }
        }
        true
    }

    fn wanted(&mut self, to: MemberId, index_min: u64) {
        match self.newest(index_min) {
            Ok(Some((meta, size))) => self.offer(to, meta, size),
            Ok(None) => {
                self.waiting.retain(|(waiting, _)| *waiting != to);
                self.waiting.push((to, index_min));
                self.applier.put(ApplyJob::TakeSnapshot);
            }
            Err(error) => {
                tracing::error!(%error, "cannot read a snapshot for another member");
                self.driver.put(Letter::Input(Input::SnapshotUnavailable(to)));
            }
        }
    }

    /// The newest snapshot, if it is not of an entry below `index_min`, and its size. It is read to
    /// its end before: who is sent a damaged one can only refuse it, again and again.
    fn newest(&mut self, index_min: u64) -> Result<Option<(SnapshotMeta, u64)>, StorageError> {
        loop {
            let snapshots = self.snapshots.lock();
            let Some(index) = snapshots.newest_whole().filter(|at| *at >= index_min) else {
                return Ok(None);
            };
            let (reader, chunks) = (snapshots.read(index), snapshots.chunks(index)?);
            drop(snapshots);
            let read = reader.and_then(|mut reader| {
                let meta = reader.meta().clone();
                reader.try_for_each(|record| record.map(drop)).map(|()| meta)
            });
            match read {
                Ok(meta) => {
                    let size = chunks.size();
                    self.sending = Some((index, chunks));
                    return Ok(Some((meta, size)));
                }
                Err(error @ StorageError::Io { .. }) => return Err(error),
                Err(error) => {
                    tracing::error!(index, %error, "a snapshot is damaged, and is not sent");
                    self.snapshots.lock().mark_damaged(index);
                }
            }
        }
    }

    fn offer(&self, to: MemberId, meta: SnapshotMeta, size: u64) {
        tracing::info!(member_id = %to, index = meta.index, size, "a member is sent a snapshot");
        self.driver.put(Letter::Input(Input::SnapshotOffered(to, meta, size)));
    }

    fn taken(&mut self, meta: &SnapshotMeta) {
        self.driver.put(Letter::Input(Input::SnapshotTaken(meta.clone())));
        for (to, index_min) in std::mem::take(&mut self.waiting) {
            self.wanted(to, index_min);
        }
    }

    fn read(&mut self, wanted: ChunkWanted) {
        let input = match self.read_chunk(wanted) {
            Ok(bytes) => Input::ChunkRead(wanted, bytes),
            Err(error) => {
                tracing::warn!(%error, "cannot read a snapshot for another member");
                Input::SnapshotUnavailable(wanted.to)
            }
        };
        self.driver.put(Letter::Input(input));
    }

    fn read_chunk(&mut self, wanted: ChunkWanted) -> Result<bytes::Bytes, StorageError> {
        let chunks = match &mut self.sending {
            Some((index, chunks)) if *index == wanted.index => chunks,
            sending => {
                let chunks = self.snapshots.lock().chunks(wanted.index)?;
                &sending.insert((wanted.index, chunks)).1
            }
        };
        chunks.read(wanted.offset, wanted.length)
    }

    fn received(&mut self, chunk: &ChunkReceived) {
        if let Err(error) = self.put_together(chunk) {
            let index = chunk.meta.index;
            tracing::warn!(index, %error, "a snapshot that was received cannot be used");
            self.receiving = None;
            self.driver.put(Letter::Input(Input::SnapshotFailed(index)));
        }
    }

    fn put_together(&mut self, chunk: &ChunkReceived) -> Result<(), Unusable> {
        let index = chunk.meta.index;
        if chunk.offset == 0 {
            if let Some(unfinished) = self.receiving.take() {
                unfinished.abandon()?;
            }
            tracing::info!(index, from = %chunk.from, size = chunk.size, "receiving a snapshot");
            self.receiving = Some(self.snapshots.lock().receive(index)?);
        }
        let receiver = self
            .receiving
            .as_mut()
            .filter(|receiver| receiver.index() == index && receiver.received() == chunk.offset);
        receiver.ok_or(Unusable::Gap)?.put(&chunk.bytes)?;
        if !chunk.last {
            return Ok(());
        }
        let received = self.receiving.take().ok_or(Unusable::Gap)?;
        let (meta, machine) = received.finish(|reader| {
            machine_of(reader, index).map_err(|error| Unusable::State(error.to_string()))
        })?;
        self.log.put(LogJob::Install(meta, Box::new(machine)));
        Ok(())
    }
}

/// Why a received snapshot is of no use.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("a piece of it is missing")]
    Gap,
    #[error("{0}")]
    State(String),
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::storage::files::Files;

    #[test]
    fn a_damaged_snapshot_is_not_sent() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::default();
        let mut snapshots = Snapshots::open(folder.path(), &files).unwrap();
        for index in [10, 20] {
            let meta = SnapshotMeta { index, term: 1, ..SnapshotMeta::default() };
            let records = [b"a record".to_vec()].into_iter();
            snapshots.writer().write(&meta, records, &AtomicBool::new(false)).unwrap();
            snapshots.mark_whole(index);
        }
        let mut files = SnapshotFiles {
            notes: Notes { folder: folder.path().to_owned(), files },
            snapshots: Arc::new(Mutex::new(snapshots)),
            driver: Mailbox::new(),
            applier: ApplyQueue::default(),
            log: Mailbox::new(),
            waiting: Vec::new(),
            sending: None,
            receiving: None,
        };
        let mut newest = |min| files.newest(min).unwrap().map(|(meta, _)| meta.index);
        assert_eq!([newest(5), newest(20), newest(21)], [Some(20), Some(20), None]);
        let path = folder.path().join(format!("{:020}.snapshot", 20));
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!([newest(20), newest(5)], [None, Some(10)]);
    }
}
