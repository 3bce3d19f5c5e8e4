//! What members say to each other, and its bytes.

use std::fmt;

use bytes::{Buf, BufMut, Bytes};
use ottla_common::types::{MemberId, Uuid};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::storage::hard_state::Standing;
use crate::storage::membership::SnapshotMeta;
use crate::storage::wal_record::{Entry, EntryKind};

/// A message from one member to another. Who sent it has been authenticated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub from: MemberId,
    /// To whom.
    pub to: MemberId,
    /// The sender's term.
    pub term: u64,
    /// Which ensemble the sender belongs to, once it knows for sure.
    pub cluster_id: Option<Uuid>,
    /// What it says.
    pub kind: MessageKind,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MessageKind {
    /// Would you vote for me? Nothing is promised by it, and no term changes.
    PreVote {
        /// The term that it would be.
        campaign_term: u64,
        /// The sender's newest entry.
        last_index: u64,
        /// And that one's term.
        last_term: u64,
    },
    /// The answer.
    PreVoteResponse {
        /// As in the question.
        campaign_term: u64,
        /// Whether the sender would.
        granted: bool,
    },
    /// Vote for me in the message's term.
    Vote {
        /// The sender's newest entry.
        last_index: u64,
        /// And that one's term.
        last_term: u64,
        /// The leader's newest round of heartbeats when it handed leadership over. A member that
        /// has heard no newer one votes although the leader is alive.
        transfer_round: Option<u64>,
    },
    /// The answer.
    VoteResponse {
        /// Whether the sender did.
        granted: bool,
    },
    /// From the leader: entries to be appended.
    Append {
        /// The entry before the first.
        prev_index: u64,
        /// And that one's term.
        prev_term: u64,
        /// All up to here is committed.
        commit_index: u64,
        /// The entries, without gaps.
        #[serde(with = "packed_entries")]
        entries: Vec<Entry>,
    },
    /// The log is equal to the leader's up to here, and durable.
    Appended {
        /// Up to here.
        match_index: u64,
    },
    /// The log is not equal to the leader's, or the term is over.
    AppendRefused {
        /// The `prev_index` that did not match.
        prev_index: u64,
        /// At or before this entry the logs may be equal.
        hint_index: u64,
        /// And that one's term.
        hint_term: u64,
    },
    /// From the leader: I am alive.
    Heartbeat {
        /// All up to here is committed.
        commit_index: u64,
        /// Which round of heartbeats.
        round: u64,
        /// When it was sent, by the leader's clock.
        sent_ms: u64,
        /// The leader's newest entry.
        last_index: u64,
    },
    /// From the leader: what was sent to you is committed up to here. Not answered.
    Committed {
        /// Up to here.
        commit_index: u64,
    },
    /// The answer to a heartbeat, at once: it waits for no disk.
    HeartbeatResponse {
        /// As in the heartbeat.
        round: u64,
        /// As in the heartbeat.
        sent_ms: u64,
        /// As in [`MessageKind::Appended`], in case one of those was lost.
        match_index: u64,
        /// The same, durable or not: what was sent behind it has not arrived.
        verified_index: u64,
        /// Whether the sender may vote.
        standing: Standing,
    },
    /// From the leader: a piece of a snapshot.
    SnapshotChunk {
        /// The snapshot.
        meta: SnapshotMeta,
        /// The length of the whole file.
        size: u64,
        /// Where the piece begins.
        offset: u64,
        /// The piece.
        #[serde(with = "plain_bytes")]
        bytes: Bytes,
    },
    /// The answer.
    SnapshotAck {
        /// The snapshot's entry.
        index: u64,
        /// What is needed next begins here.
        offset: u64,
        /// It could not be used.
        failed: bool,
    },
    /// From the leader: campaign at once, you have all that I have.
    TimeoutNow {
        /// The leader's newest round of heartbeats.
        round: u64,
    },
    /// I know no leader; who are you all?
    Greeting {
        /// Whether the sender may vote.
        standing: Standing,
        /// Whether the sender has never taken part in anything: no term, no log.
        blank: bool,
    },
    /// The answer.
    GreetingResponse {
        /// Whether the sender may vote.
        standing: Standing,
        /// As in the greeting.
        blank: bool,
        /// Who else belongs to the ensemble.
        members: Vec<MemberId>,
    },
}

/// A blob, borrowed from what is read and copied once.
struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a blob")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
        Ok(Bytes::copy_from_slice(bytes))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
        Ok(Bytes::from(bytes))
    }
}

mod plain_bytes {
    use super::*;

    pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        deserializer.deserialize_bytes(BytesVisitor)
    }
}

/// Entries in one blob, so that reading them allocates once, and not for each: the first index
/// (8 bytes), then for each entry term (8), time (8), kind (1), length (4) and payload.
mod packed_entries {
    use super::*;

    const ENTRY_HEADER_SIZE: usize = 21;

    pub fn serialize<S: Serializer>(entries: &[Entry], serializer: S) -> Result<S::Ok, S::Error> {
        let payloads: usize = entries.iter().map(|entry| entry.payload.len()).sum();
        let mut blob = Vec::with_capacity(8 + payloads + entries.len() * ENTRY_HEADER_SIZE);
        blob.put_u64_le(entries.first().map_or(0, |entry| entry.index));
        for entry in entries {
            blob.put_u64_le(entry.term);
            blob.put_i64_le(entry.time_ms);
            blob.put_u8(entry.kind as u8);
            let length = u32::try_from(entry.payload.len());
            blob.put_u32_le(length.map_err(serde::ser::Error::custom)?);
            blob.put_slice(&entry.payload);
        }
        serializer.serialize_bytes(&blob)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Entry>, D::Error> {
        let blob = deserializer.deserialize_bytes(BytesVisitor)?;
        unpack(blob).ok_or_else(|| D::Error::custom("entries that cannot be read"))
    }

    fn unpack(mut blob: Bytes) -> Option<Vec<Entry>> {
        let mut index = blob.try_get_u64_le().ok()?;
        let mut entries = Vec::new();
        while blob.has_remaining() {
            let term = blob.try_get_u64_le().ok()?;
            let time_ms = blob.try_get_i64_le().ok()?;
            let kind = EntryKind::from_byte(blob.try_get_u8().ok()?)?;
            let length = usize::try_from(blob.try_get_u32_le().ok()?).ok()?;
            if length > blob.remaining() {
                return None;
            }
            let payload = blob.split_to(length);
            entries.push(Entry { index, term, time_ms, kind, payload });
            index = index.checked_add(1)?;
        }
        Some(entries)
    }
}

#[cfg(test)]
mod tests {
    use ottla_common::coordination::codec::{decode_message, encode_message};

    use super::*;

    fn append(entries: Vec<Entry>) -> Message {
        let kind = MessageKind::Append { prev_index: 6, prev_term: 2, commit_index: 5, entries };
        Message { from: MemberId(1), to: MemberId(2), term: 3, cluster_id: None, kind }
    }

    fn entries() -> Vec<Entry> {
        let payloads =
            [(EntryKind::Blank, ""), (EntryKind::Command, "one"), (EntryKind::Command, "")];
        let entries = (7..).zip(payloads).map(|(index, (kind, payload))| Entry {
            index,
            term: 3,
            time_ms: -8,
            kind,
            payload: Bytes::from_static(payload.as_bytes()),
        });
        entries.collect()
    }

    #[test]
    fn entries_are_read_as_they_were_sent() {
        for message in [append(entries()), append(Vec::new())] {
            let bytes = encode_message(&message).unwrap();
            assert_eq!(decode_message::<Message>(&bytes).unwrap(), message);
        }
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        let bytes = encode_message(&append(entries())).unwrap();
        for length in 0..bytes.len() {
            assert!(decode_message::<Message>(&bytes[..length]).is_err(), "{length} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = decode_message::<Message>(&flipped);
        }
    }
}
