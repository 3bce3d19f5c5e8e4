//! Snapshots of this member's, and of others on their way.

use super::{Input, Node};

impl Node {
    pub(super) fn handle_snapshot(&mut self, input: Input, now_ms: u64) {
        match input {
            Input::SnapshotTaken(meta) => self.raft.compact(&meta),
            Input::SnapshotOffered(to, meta, size) => self.raft.snapshot_to_send(to, meta, size),
            Input::SnapshotUnavailable(to) => self.raft.snapshot_unavailable(to),
            Input::ChunkRead(wanted, bytes) => {
                self.raft.send_chunk(wanted.to, wanted.index, wanted.offset, bytes);
            }
            Input::SnapshotInstalled(meta) => {
                self.is_installing = false;
                self.last_index = meta.index;
                self.own.passed_over();
                self.raft.snapshot_installed(meta, now_ms);
                self.look_at_members();
            }
            Input::SnapshotFailed(index) => {
                self.is_installing = false;
                self.raft.snapshot_failed(index);
            }
            _ => {}
        }
    }
}
