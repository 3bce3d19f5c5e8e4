//! All members hold the same state at the same zxid, however they came to it: by applying entries,
//! by a snapshot of another member, or by their own snapshot and log after a start (Z12, Z13).

use super::{Check, Id, violation};

/// The digest at each zxid, as the first member had it.
#[derive(Debug, Default)]
pub struct TreeDigest {
    digests: Vec<Option<(u64, Id)>>,
}

impl TreeDigest {
    /// A member's state at a zxid.
    pub fn state(&mut self, member: Id, zxid: i64, digest: u64, how: &str) -> Check {
        let place = usize::try_from(zxid).unwrap_or_default();
        if self.digests.len() <= place {
            self.digests.resize(place + 1, None);
        }
        match self.digests[place] {
            None => {
                self.digests[place] = Some((digest, member));
                Ok(())
            }
            Some((known, _)) if known == digest => Ok(()),
            Some((known, other)) => {
                let what = format!(
                    "at zxid {zxid} member {member} ({how}) has the digest {digest:#018x}, member \
                     {other} had {known:#018x}"
                );
                Err(violation("tree_digest", what))
            }
        }
    }
}
