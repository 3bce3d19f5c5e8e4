//! What members say to each other: raft's messages, and what those who do not lead ask of the one
//! that does.

use bytes::Bytes;
use ottla_common::types::{MemberId, SessionId};
use serde::{Deserialize, Serialize};

use super::raft::{ChangeRefused, MembershipChange, Message, TransferRefused};
use crate::sessions::keeper::SessionConnection;

/// A message between two members. Lost ones are asked again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// Raft's own.
    Raft(Message),
    /// Proposals for the leader of a term, in order.
    Forward(Forward),
    /// The leader has taken all proposals of that process up to a number. They will be done in this
    /// term, or never by this message.
    ForwardAck {
        /// The leader's term.
        term: u64,
        /// As in [`Forward`].
        run: u64,
        /// The newest proposal that was taken; none if none was.
        last: Option<u64>,
    },
    /// Sessions were heard from at a member that does not lead.
    Touch(Touch),
    /// The leader counts them as heard from, and nobody else led when it did.
    TouchAck {
        /// As in [`Touch`].
        number: u64,
        /// All but these, whose time was over already.
        refused: Vec<SessionId>,
    },
    /// How far must I apply to have all that was acknowledged up to now?
    Barrier {
        /// Comes back with the answer.
        number: u64,
    },
    /// The answer.
    BarrierDone {
        /// As in the question.
        number: u64,
        /// Up to this entry.
        index: u64,
    },
    /// Something that only a leader can do.
    Order {
        /// Comes back with the answer.
        number: u64,
        /// What.
        order: Order,
    },
    /// The answer.
    OrderDone {
        /// As in the question.
        number: u64,
        /// What became of it.
        result: Result<u64, OrderRefused>,
    },
}

/// Proposals on their way to the leader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forward {
    /// The term of the leader that they are for. Another one's drops them.
    pub term: u64,
    /// Which process of the member proposes: a random number of its own.
    pub run: u64,
    /// The number of the proposal that was sent in this term before the first of these; none if
    /// these are the first. The leader takes no proposal before those that it comes after.
    pub previous: Option<u64>,
    /// The payloads of the entries; each begins with its origin.
    #[serde(with = "packed")]
    pub payloads: Vec<Bytes>,
}

/// Word of sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touch {
    /// Comes back with the answer.
    pub number: u64,
    /// These sessions were heard from.
    pub sessions: Vec<SessionId>,
    /// The clients of these connections left them.
    pub disconnected: Vec<SessionConnection>,
}

/// Something that only a leader can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Changes who the members are. Answered with the index of the entry when it is in the log.
    Change {
        /// How.
        change: MembershipChange,
        /// The wall clock of who orders it, in milliseconds since 1970.
        time_ms: i64,
    },
    /// Hands leadership over. Answered with 0 when that has begun.
    Transfer {
        /// To this member; none: to the one that is best for it.
        to: Option<MemberId>,
    },
}

/// Why an order is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum OrderRefused {
    /// The members are not changed.
    #[error(transparent)]
    Change(#[from] ChangeRefused),
    /// Leadership is not handed over.
    #[error(transparent)]
    Transfer(#[from] TransferRefused),
    /// No answer came: it may have been done.
    #[error("no leader answered")]
    Unavailable,
}

/// Payloads in one blob, so that reading them allocates once: for each its length (4 bytes) and its
/// bytes.
mod packed {
    use bytes::{Buf, BufMut, Bytes};
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(payloads: &[Bytes], serializer: S) -> Result<S::Ok, S::Error> {
        let size: usize = payloads.iter().map(|payload| 4 + payload.len()).sum();
        let mut blob = Vec::with_capacity(size);
        for payload in payloads {
            let length = u32::try_from(payload.len());
            blob.put_u32_le(length.map_err(serde::ser::Error::custom)?);
            blob.put_slice(payload);
        }
        serializer.serialize_bytes(&blob)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Bytes>, D::Error> {
        let blob: Vec<u8> = serde_bytes::deserialize(deserializer)?;
        unpack(blob.into()).ok_or_else(|| D::Error::custom("payloads that cannot be read"))
    }

    fn unpack(mut blob: Bytes) -> Option<Vec<Bytes>> {
        let mut payloads = Vec::new();
        while blob.has_remaining() {
            let length = usize::try_from(blob.try_get_u32_le().ok()?).ok()?;
            if length > blob.remaining() {
                return None;
            }
            payloads.push(blob.split_to(length));
        }
        Some(payloads)
    }
}

#[cfg(test)]
mod tests {
    use ottla_common::coordination::codec::{decode_message, encode_message};

    use super::*;

    #[test]
    fn forwarded_payloads_are_read_as_they_were_sent_and_damage_is_refused() {
        let payloads = ["one", "", "three"].map(|text| Bytes::from_static(text.as_bytes()));
        let forward = Forward { term: 3, run: 9, previous: None, payloads: payloads.to_vec() };
        let message = PeerMessage::Forward(forward);
        let bytes = encode_message(&message).unwrap();
        assert_eq!(decode_message::<PeerMessage>(&bytes).unwrap(), message);
        for length in 0..bytes.len() {
            assert!(decode_message::<PeerMessage>(&bytes[..length]).is_err(), "{length} bytes");
        }
    }
}
