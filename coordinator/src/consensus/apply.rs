//! The thread that applies what is committed, in the order of the log, answers the proposers, and
//! has snapshots taken.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use ottla_common::clock::Clock;
use ottla_common::types::{MemberId, Zxid};
use parking_lot::Mutex;

use super::driver::Letter;
use super::intake::{Intake, Waiting};
use super::load::{command_of, zxid_of};
use super::mailbox::Mailbox;
use super::node::Input;
use super::raft::{Entry, EntryKind, Membership, SnapshotMeta};
use super::snapshot_files::Notes;
use super::snapshotter::Snapshotter;
use super::{Applied, ProposeError};
use crate::limits::APPLY_BACKLOG_MAX;
use crate::sessions::keeper::Keeper;
use crate::storage::commit_mark::CommitMark;
use crate::tree::{Command, Origin, Outcome, PayloadError, StateMachine};
use crate::watches::LiveState;

/// If not more bytes than this wait to be applied, whoever brings them may do it.
const ATTENDED_SIZE_MAX: usize = 16 * 1024;

/// What the thread is to do, in order.
#[derive(Debug)]
pub enum ApplyJob {
    /// Apply.
    Entries(Vec<Entry>),
    /// This member leads in a term, and all that was committed before is applied by now.
    Lead {
        /// The term.
        term: u64,
    },
    /// A snapshot takes the place of the state.
    Install(SnapshotMeta, Box<StateMachine>),
    /// A member needs a newer snapshot than there is.
    TakeSnapshot,
    /// End.
    Stop,
}

/// The way to the thread. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ApplyQueue {
    jobs: Mailbox<ApplyJob>,
    /// How many bytes of entries wait to be applied.
    backlog: Arc<AtomicUsize>,
}

impl ApplyQueue {
    /// Has something done.
    pub fn put(&self, job: ApplyJob) {
        self.count(&job);
        self.jobs.put(job);
    }

    /// Has something done that [`ApplyQueue::attend`] will be called for.
    pub fn put_quietly(&self, job: ApplyJob) {
        self.count(&job);
        self.jobs.put_quietly(job);
    }

    fn count(&self, job: &ApplyJob) {
        if let ApplyJob::Entries(entries) = job {
            self.backlog.fetch_add(size_of(entries), Ordering::AcqRel);
        }
    }

    /// Does what was put in quietly: here if it is little and nobody else is at it, else the thread
    /// does.
    pub fn attend(&self) {
        if !self.jobs.is_empty() {
            self.jobs.attend_now();
        }
    }

    /// What waits, without waiting for more.
    pub fn take_now(&self) -> Vec<ApplyJob> {
        self.jobs.take_now()
    }

    /// How many bytes of entries wait to be applied.
    pub fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Acquire)
    }
}

fn size_of(entries: &[Entry]) -> usize {
    const HEAD: usize = 64;
    entries.iter().map(|entry| HEAD + entry.payload.len()).sum()
}

/// Applies entries: to the state, to the sessions' deadlines, and to those who wait.
#[derive(Debug)]
pub struct Applier {
    /// This member.
    pub member_id: MemberId,
    /// The state.
    pub live: Arc<LiveState>,
    /// The deadlines.
    pub keeper: Arc<Keeper>,
    /// Who waits.
    pub intake: Arc<Intake>,
    /// What tells the time.
    pub clock: Clock,
    /// The term of the newest applied entry.
    pub term: u64,
    /// The membership as of the newest applied entry.
    pub membership: Membership,
}

/// A committed entry that this build does not understand.
#[derive(Debug, thiserror::Error)]
#[error("the record {index} of the log cannot be read by this build: {error}")]
pub struct UnknownEntry {
    index: u64,
    error: PayloadError,
}

impl Applier {
    /// Applies entries, in the order of the log, and answers those of them that were proposed here.
    ///
    /// Entries that a snapshot from elsewhere has brought are left out: they may have been
    /// committed here while it was being put in the place of the log.
    pub fn apply(&mut self, entries: &[Entry]) -> Result<(), UnknownEntry> {
        let applied = self.live.zxid();
        let known = entries.partition_point(|entry| zxid_of(entry.index) <= applied);
        let (known, entries) = entries.split_at(known);
        for number in known.iter().filter_map(|entry| self.own_number(entry)) {
            if let Some(waiting) = self.intake.take(number) {
                waiting.done(Err(ProposeError::Unknown));
            }
        }
        let own = entries.iter().filter_map(|entry| self.own_number(entry));
        let mut waiting = self.intake.take_all(own);
        for entry in entries {
            let first = waiting.front().map(|(number, _)| *number);
            let is_awaited = first.is_some() && first == self.own_number(entry);
            let proposer = if is_awaited { waiting.pop_front() } else { None };
            self.apply_one(entry, proposer.map(|(_, waiting)| waiting))?;
        }
        Ok(())
    }

    fn own_number(&self, entry: &Entry) -> Option<u64> {
        if entry.kind != EntryKind::Command {
            return None;
        }
        let origin = Origin::of_payload(&entry.payload)?;
        (origin.member_id == self.member_id).then_some(origin.number)
    }

    fn apply_one(&mut self, entry: &Entry, waiting: Option<Waiting>) -> Result<(), UnknownEntry> {
        let (index, zxid) = (entry.index, zxid_of(entry.index));
        self.term = entry.term;
        let unknown = |error| UnknownEntry { index, error };
        if let Some(waiting) = waiting {
            let outcome = self.apply_command(zxid, entry.time_ms, &waiting.command);
            waiting.done(Ok(Applied { zxid, outcome }));
            return Ok(());
        }
        let (command, membership) = command_of(entry).map_err(unknown)?;
        if let Some(membership) = membership {
            self.membership = membership;
        }
        let _ = self.apply_command(zxid, entry.time_ms, &command);
        Ok(())
    }

    fn apply_command(&self, zxid: Zxid, time_ms: i64, command: &Command) -> Outcome {
        let outcome = self.live.apply(zxid, time_ms, command);
        if let Ok(effect) = &outcome {
            self.keeper.applied(&command.action, effect, self.clock.monotonic_ms());
        }
        outcome
    }

    /// From here on this member keeps the sessions' deadlines.
    pub fn lead(&self, term: u64) {
        let now_ms = self.clock.monotonic_ms();
        self.keeper.lead(term, self.live.view().machine(), now_ms);
    }

    /// Takes over the state of a snapshot.
    pub fn install(&mut self, meta: &SnapshotMeta, machine: StateMachine) {
        self.term = meta.term;
        self.membership = meta.membership.clone();
        self.live.install(machine);
    }
}

/// The membership that an entry holds.
pub fn membership_of(entry: &Entry) -> Result<Membership, PayloadError> {
    Ok(ottla_common::coordination::codec::decode_message(&entry.payload)?)
}

/// The driver's end of the applying thread.
#[derive(Debug)]
pub struct ApplyThread {
    queue: ApplyQueue,
    thread: Option<JoinHandle<()>>,
}

impl ApplyThread {
    /// The way to a thread that does not run yet, and what is to run there.
    pub fn new(
        applier: Applier,
        queue: ApplyQueue,
        (driver, snapshotter, notes): (Mailbox<Letter>, Snapshotter, Notes),
    ) -> (Self, ApplyRunner) {
        let (runs, goes_on) = (queue.clone(), true);
        let runner = ApplyRunner { applier, queue: runs, driver, snapshotter, notes, goes_on };
        (Self { queue, thread: None }, runner)
    }

    /// Starts the thread.
    pub fn start(&mut self, runner: ApplyRunner) -> io::Result<()> {
        let runner = Arc::new(Mutex::new(runner));
        let (shared, queue) = (Arc::downgrade(&runner), self.queue.clone());
        self.queue.jobs.attended_by(move |is_free| match shared.upgrade() {
            Some(runner) if is_free && queue.backlog() <= ATTENDED_SIZE_MAX => attend(&runner),
            _ => false,
        });
        let thread = std::thread::Builder::new().name("coordinator-apply".to_owned());
        self.thread = Some(thread.spawn(move || run(&runner))?);
        Ok(())
    }

    /// The way to it.
    pub fn queue(&self) -> &ApplyQueue {
        &self.queue
    }

    /// Waits until all is applied and the thread has ended.
    pub fn finish(&mut self) {
        self.queue.put(ApplyJob::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the applying thread has panicked");
        }
    }
}

/// The thread's own side.
#[derive(Debug)]
pub struct ApplyRunner {
    applier: Applier,
    queue: ApplyQueue,
    driver: Mailbox<Letter>,
    snapshotter: Snapshotter,
    notes: Notes,
    /// False when it was told to stop, or cannot go on.
    goes_on: bool,
}

/// The thread.
fn run(runner: &Mutex<ApplyRunner>) {
    let jobs = runner.lock().queue.jobs.clone();
    loop {
        jobs.wait(None);
        let mut runner = runner.lock();
        if !runner.round(jobs.take_now()) {
            return;
        }
    }
}

/// Does what there is to do, unless someone is at it, who will see it then. False if the thread has
/// to.
fn attend(runner: &Mutex<ApplyRunner>) -> bool {
    let Some(mut place) = runner.try_lock() else { return true };
    let jobs = place.queue.jobs.clone();
    if !place.round(jobs.take_now()) {
        // The thread has to end.
        jobs.wake();
        return true;
    }
    drop(place);
    jobs.is_empty()
}

impl ApplyRunner {
    /// Does what there is to do. Returns whether there will be more.
    pub fn round(&mut self, jobs: Vec<ApplyJob>) -> bool {
        self.goes_on = self.goes_on && self.carry_out(jobs);
        self.goes_on
    }

    fn carry_out(&mut self, jobs: Vec<ApplyJob>) -> bool {
        for job in jobs {
            match job {
                ApplyJob::Entries(entries) => {
                    if let Err(error) = self.applier.apply(&entries) {
                        self.driver.put(Letter::Failed(Arc::from(error.to_string())));
                        return false;
                    }
                    self.applied(&entries);
                }
                ApplyJob::Lead { term } => self.applier.lead(term),
                ApplyJob::Install(meta, machine) => {
                    self.applier.install(&meta, *machine);
                    self.snapshotter.begin_anew(meta.index);
                    self.driver.put(Letter::Input(Input::SnapshotInstalled(meta)));
                }
                ApplyJob::TakeSnapshot => self.snapshotter.take(|| self.applier.state()),
                ApplyJob::Stop => {
                    self.snapshotter.finish();
                    self.notes.note(self.applier.mark());
                    return false;
                }
            }
        }
        true
    }

    fn applied(&mut self, entries: &[Entry]) {
        let size = size_of(entries);
        let backlog = self.queue.backlog.fetch_sub(size, Ordering::AcqRel);
        let Some(index) = entries.last().map(|entry| entry.index) else { return };
        let applied = Letter::Input(Input::Applied(index));
        if backlog >= APPLY_BACKLOG_MAX {
            self.driver.put(applied);
        } else {
            self.driver.put_quietly(applied);
        }
        self.snapshotter.applied(index, size, || self.applier.state());
        self.snapshotter.committed(self.applier.mark());
    }
}

impl Applier {
    /// The newest record that was applied.
    fn mark(&self) -> CommitMark {
        CommitMark { index: self.live.zxid().0.unsigned_abs(), term: self.term }
    }

    /// The state as it is now, to be written as a snapshot.
    fn state(&self) -> (StateMachine, SnapshotMeta) {
        let machine = self.live.machine();
        let index = super::load::index_of(&machine);
        let (term, membership) = (self.term, self.membership.clone());
        (machine, SnapshotMeta { index, term, membership })
    }
}
