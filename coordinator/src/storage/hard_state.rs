//! What a member must never forget of its votes: replaced at once, durable before it is acted on.

use std::path::{Path, PathBuf};

use ottla_common::types::{MemberId, Uuid};
use serde::{Deserialize, Serialize};

use super::StorageError;
use super::files::Files;
use super::wal_record::Fields;

const MAGIC: [u8; 8] = *b"OTTLAVO2";

/// A member's term and vote, and whether it may vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// The newest term that the member has seen.
    pub term: u64,
    /// The member it gave its vote to in that term.
    pub vote: Option<MemberId>,
    /// Whether it may vote.
    pub standing: Standing,
    /// Which ensemble it belongs to, once that is committed. Others are not listened to.
    pub cluster_id: Option<Uuid>,
}

/// Whether a member knows all that it ever promised. One that does not must not vote: it could
/// undo what was counted with its promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Its folder was empty. Nobody knows yet whether the ensemble is new or the folder was lost.
    #[default]
    Fresh = 0,
    /// It knows all its promises.
    Voter = 1,
    /// It has lost its data. It takes the log, and votes again when the others have made it a
    /// voter anew.
    Amnesiac = 2,
}

impl Standing {
    fn from_number(number: u64) -> Option<Self> {
        [Self::Fresh, Self::Voter, Self::Amnesiac].into_iter().find(|one| *one as u64 == number)
    }
}

impl HardState {
    /// Where it stands in a member's folder.
    pub fn path(folder: &Path) -> PathBuf {
        folder.join("hard_state")
    }

    /// The bytes: magic, term, whether there is a vote, the vote, the standing,
    /// whether the ensemble is known, its id, checksum.
    fn encode(self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.term.to_le_bytes());
        bytes.extend_from_slice(&u64::from(self.vote.is_some()).to_le_bytes());
        bytes.extend_from_slice(&self.vote.map_or(0, |vote| vote.0).to_le_bytes());
        bytes.extend_from_slice(&(self.standing as u64).to_le_bytes());
        bytes.extend_from_slice(&u64::from(self.cluster_id.is_some()).to_le_bytes());
        bytes.extend_from_slice(&self.cluster_id.unwrap_or_default().0);
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Makes it durable.
    pub fn store(self, folder: &Path, files: &Files) -> Result<(), StorageError> {
        files.replace(&Self::path(folder), &self.encode())
    }

    /// What was stored, if anything ever was.
    pub fn load(folder: &Path, files: &Files) -> Result<Option<Self>, StorageError> {
        let path = Self::path(folder);
        let Some(bytes) = files.read(&path)? else { return Ok(None) };
        let mut fields = Fields(&bytes);
        let magic: [u8; 8] = fields.take();
        let term = u64::from_le_bytes(fields.take());
        let voted = u64::from_le_bytes(fields.take()) == 1;
        let vote = MemberId(u64::from_le_bytes(fields.take()));
        let standing = Standing::from_number(u64::from_le_bytes(fields.take()));
        let standing = standing.unwrap_or_default();
        let known = u64::from_le_bytes(fields.take()) == 1;
        let cluster_id = known.then_some(Uuid(fields.take()));
        let state = Self { term, vote: voted.then_some(vote), standing, cluster_id };
        if magic != MAGIC || bytes != state.encode() {
            return Err(StorageError::corrupt(&path, 0, "it is not as it was written"));
        }
        Ok(Some(state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vote_survives_and_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, files) = (folder.path(), Files::default());
        assert_eq!(HardState::load(folder, &files).unwrap(), None);
        for (vote, standing, cluster_id) in [
            (None, Standing::Fresh, None),
            (Some(MemberId(0)), Standing::Amnesiac, Some(Uuid::ZERO)),
            (Some(MemberId(3)), Standing::Voter, Some(Uuid([7; 16]))),
        ] {
            let state = HardState { term: 7, vote, standing, cluster_id };
            state.store(folder, &files).unwrap();
            assert_eq!(HardState::load(folder, &files).unwrap(), Some(state));
        }
        let path = HardState::path(folder);
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(HardState::load(folder, &files).is_err(), "{length} bytes");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &flipped).unwrap();
            assert!(HardState::load(folder, &files).is_err(), "bit {bit}");
        }
    }
}
