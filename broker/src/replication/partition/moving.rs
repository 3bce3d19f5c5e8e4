//! What a partition does when its replica moves to another log directory of this broker.

use std::sync::Arc;

use ottla_common::clock::wall_time_ms;

use super::Partition;
use crate::limits::MOVED_SIZE_AT_ONCE;
use crate::storage::log::Log;
use crate::storage::movements::CopyError;

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveStep {
    /// So many bytes were copied; there is more to do.
    Copied(usize),
    /// The replica is in its new directory.
    Done,
    /// There is nothing to move, or not any more.
    CalledOff,
}

impl Partition {
    /// Copies a piece of the log to where it moves. Once nearly all of it is there, takes the rest
    /// while nobody may append, and goes on with the copy. Blocks on the disk.
    ///
    /// # Errors
    /// If a disk fails, or what the log has cannot be read.
    pub fn move_on(self: &Arc<Self>) -> Result<MoveStep, CopyError> {
        let name = self.topic_partition();
        let Some(future) = self.shared.logs.future(name) else { return Ok(MoveStep::CalledOff) };
        let copied = future.catch_up_with(&self.log(), MOVED_SIZE_AT_ONCE, wall_time_ms())?;
        if copied > 0 {
            return Ok(MoveStep::Copied(copied));
        }
        // So that little is left to be flushed while the others wait.
        future.flush()?;
        let role = self.role.write();
        let old = self.log();
        let left = old.bytes_between(future.log_end_offset(), old.log_end_offset());
        if left > MOVED_SIZE_AT_ONCE as u64 {
            return Ok(MoveStep::Copied(0));
        }
        while future.catch_up_with(&old, MOVED_SIZE_AT_ONCE, wall_time_ms())? > 0 {}
        let replaced = self.shared.logs.replace_with_future(name, wall_time_ms());
        let current = self.shared.logs.any_log(name).filter(|log| !Arc::ptr_eq(log, &old));
        let is_another = current.is_some();
        if let Some(log) = current {
            self.listen_to(&log);
            self.log.store(log);
        }
        drop(role);
        if let Err(error) = replaced {
            if is_another {
                self.disk_failed();
            }
            return Err(error.into());
        }
        // Whoever waits for the disk waits for the log of before.
        self.flushed();
        Ok(MoveStep::Done)
    }

    /// Does something with the log, and does it again if the log was replaced meanwhile.
    pub(super) fn with_log<T, E>(&self, act: impl Fn(&Arc<Log>) -> Result<T, E>) -> Result<T, E> {
        let log = self.log();
        let result = act(&log);
        if result.is_ok() || !log.is_closed() {
            return result;
        }
        // It is being replaced while somebody holds this lock.
        drop(self.role.read());
        let current = self.log();
        if Arc::ptr_eq(&log, &current) { result } else { act(&current) }
    }
}
