//! A member's files. No `async` here; callers bring a thread that may wait for the disk.
//!
//! ```text
//! <dir>/
//!   lock                              held (flock) while a process uses the folder
//!   hard_state                        term, vote, and whether the member may vote at all
//!   committed                         a record that is known to be committed, perhaps an old one
//!   log/
//!     00000000000000000001.log        a segment; the name is the index of its first record
//!     00000000000000048213.log
//!     extent                          how far the log is known to reach
//!   snapshots/
//!     00000000000000048000.snapshot   the state after the record of that index
//! ```
//!
//! **Segments.** A header of 32 bytes (magic `OTTLALOG`, format, a random salt, the first index,
//! CRC-32C), then records, each at a multiple of 8: a header of 40 bytes (CRC-32C, length, index,
//! term, the leader's wall clock, the first index of the batch in seven bytes, and in the last byte
//! what kind of entry it is), the payload (by its kind: a `Command` or a `Membership` in
//! MessagePack, or nothing) and zeros up to the next multiple of 8. All numbers are little-endian;
//! a record's CRC begins with the salt of its segment. Space is reserved ahead in steps of a few
//! MiB, so that a segment ends in zeros. The index is the zxid.
//!
//! **Writing.** All proposals that wait become one batch: one write, one `fdatasync`. Only then are
//! they acknowledged. A new segment is written aside, flushed and renamed, the folder flushed and
//! `extent` replaced, before the first record goes there; the full one was flushed before. When a
//! write or a flush fails, the member stops: a second try that succeeds would prove nothing.
//!
//! **Starting.** The newest snapshot that is whole, then all records behind it: those up to the one
//! that `committed` names are applied while they are read. The end of the
//! newest segment may be torn, because the process died between write and flush. Then nothing
//! behind the first record that is not whole was ever acknowledged, and it is cut. But if a whole
//! record stands behind it *whose batch began later*, the damaged record had been flushed before
//! that batch was written: that is damage to acknowledged data, and the member refuses to start,
//! naming file and place. So it does when a segment is missing, when the log ends before what
//! `extent` or a snapshot say it holds, and when the log does not reach back to a snapshot that is
//! whole. It never starts empty in a folder that was used. Damage to the last batch alone, after an
//! unclean stop, looks like a torn end: no member can tell the two on its own.
//!
//! **Snapshots.** Written aside by a background thread from a clone of the state, flushed, renamed,
//! folder flushed. Header (magic `OTTLASNP`, format, index, term, CRC-32C), then records (length,
//! CRC-32C chained over all records before it, payload), then an end mark with the count. The first
//! record is the membership, the others are the state. Three are kept, with the log from the oldest
//! of them on: each of them and the log give the whole state.
//!
//! **Getting shorter.** A follower cuts entries that a new leader does not have: `extent` is
//! replaced first, then segments are removed, the newest first and each durably, and the place
//! behind the cut is zeros again before anything is written there. A snapshot that another member
//! sent is written aside, flushed, checked to its end and renamed to `<index>.received`: then it
//! takes the place of the log and of all older snapshots, and a start that finds it finishes that.
//!
//! **Files** are reached only through [`files::Files`], over a [`file_system::FileSystem`]: the
//! operating system's, or the simulator's, which loses at a crash what was not flushed.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod commit_mark;
mod error;
pub mod file_system;
pub mod files;
pub mod hard_state;
pub mod membership;
pub mod snapshot;
pub mod snapshot_transfer;
pub mod wal;
pub mod wal_reader;
pub mod wal_record;

pub use error::StorageError;
