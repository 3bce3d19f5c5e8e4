//! What can go wrong between a client and a cluster.

use crate::kafka::error_code::ErrorCode;
use crate::kafka::record_batch::BatchError;
use crate::kafka::wire::WireError;

/// Why a client did not get what it asked for. It can be cloned, since one failed batch fails every
/// record in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No connection could be made.
    #[error(
        "cannot connect to the broker at {address}: {reason}; check the address, and that the \
         broker runs and advertises a listener that can be reached from here"
    )]
    Connect {
        /// Host and port.
        address: String,
        /// What the system says.
        reason: String,
    },
    /// An address is not `host:port`.
    #[error("{address:?} is not an address of the form host:port")]
    InvalidAddress {
        /// What was given.
        address: String,
    },
    /// None of the bootstrap addresses answered.
    #[error("none of the bootstrap servers answered; the last failure: {reason}")]
    NoBootstrapServer {
        /// The last failure.
        reason: String,
    },
    /// The connection ended before the answer came. Whether the request was carried out is not
    /// known.
    #[error("the connection to {address} was lost before {api} was answered: {reason}")]
    Disconnected {
        /// Host and port.
        address: String,
        /// The request's API.
        api: &'static str,
        /// Why.
        reason: String,
    },
    /// No answer in time. Whether the request was carried out is not known.
    #[error("{address} did not answer {api} within {timeout_ms} ms")]
    TimedOut {
        /// Host and port, or what was waited for.
        address: String,
        /// The request's API.
        api: &'static str,
        /// The patience there was.
        timeout_ms: u64,
    },
    /// The broker and this client share no version of the API.
    #[error(
        "the broker at {address} does not offer {api} in a version that this client speaks \
         ({supported}); the broker offers {offered}"
    )]
    UnsupportedVersion {
        /// Host and port.
        address: String,
        /// The API.
        api: &'static str,
        /// What this client speaks.
        supported: String,
        /// What the broker offers.
        offered: String,
    },
    /// A request cannot be encoded, or an answer not decoded.
    #[error("{api} with {address}: {error}")]
    Wire {
        /// Host and port.
        address: String,
        /// The API.
        api: &'static str,
        /// What is wrong.
        error: WireError,
    },
    /// The cluster answered with an error code.
    #[error("{subject}: {code}{}", after_colon(.message))]
    Refused {
        /// The API, and what the request was about.
        subject: String,
        /// The code.
        code: ErrorCode,
        /// What the broker said besides.
        message: Option<String>,
    },
    /// The topic does not exist, after the metadata was looked up anew.
    #[error("topic {topic:?} does not exist, and the cluster did not create it")]
    UnknownTopic {
        /// The topic.
        topic: String,
    },
    /// The topic has no such partition.
    #[error("topic {topic:?} has no partition {partition}, it has {count}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// What was asked for.
        partition: i32,
        /// How many there are.
        count: usize,
    },
    /// The partition has no leader now.
    #[error("partition {partition} of topic {topic:?} has no leader; are its brokers up?")]
    NoLeader {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The metadata name a broker that they do not list.
    #[error("broker {broker} is not in the cluster")]
    UnknownBroker {
        /// Its id.
        broker: i32,
    },
    /// A record is larger than a request may be.
    #[error("a record of {size} bytes is larger than the largest request, {max} bytes")]
    RecordTooLarge {
        /// The record's size when encoded.
        size: usize,
        /// What is allowed.
        max: usize,
    },
    /// A record was not delivered in time; it may have been appended.
    #[error(
        "a record for {topic}-{partition} was not acknowledged within {timeout_ms} ms: {reason}"
    )]
    DeliveryTimedOut {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The patience there was.
        timeout_ms: u64,
        /// The last failure.
        reason: String,
    },
    /// There is no position to read from, and none to fall back to.
    #[error("offset {offset} of {topic}-{partition} is out of range; seek to another")]
    OffsetOutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// What was asked for.
        offset: i64,
    },
    /// The partition is not assigned to this consumer.
    #[error("partition {partition} of topic {topic:?} is not assigned to this consumer")]
    NotAssigned {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// A batch that was fetched, or was to be built, is not sound.
    #[error("invalid record batch in {topic}-{partition}: {reason}")]
    InvalidBatch {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// What is wrong.
        reason: String,
    },
    /// The client was closed.
    #[error("this client was closed")]
    Closed,
    /// An option is out of its range, or contradicts another.
    #[error("{option} {reason}")]
    InvalidOption {
        /// Its name.
        option: &'static str,
        /// What is wrong with its value.
        reason: &'static str,
    },
}

fn after_colon(message: &Option<String>) -> String {
    message.as_ref().map(|message| format!(": {message}")).unwrap_or_default()
}

impl ClientError {
    /// The error of a response, for what `subject` names; `Ok` if it is none.
    ///
    /// # Errors
    /// `Refused`, if the code is an error.
    pub fn check(
        subject: impl FnOnce() -> String,
        code: ErrorCode,
        message: Option<impl AsRef<str>>,
    ) -> Result<(), Self> {
        if code == ErrorCode::None {
            return Ok(());
        }
        let message = message.map(|message| message.as_ref().to_owned());
        Err(Self::Refused { subject: subject(), code, message })
    }

    /// That a batch of a partition is not sound.
    pub fn invalid_batch(topic: &str, partition: i32, error: &BatchError) -> Self {
        Self::InvalidBatch { topic: topic.to_owned(), partition, reason: error.to_string() }
    }

    /// The error code, if the cluster gave one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the same request may succeed later, perhaps with another broker.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::NoBootstrapServer { .. }
            | Self::Disconnected { .. }
            | Self::TimedOut { .. }
            | Self::NoLeader { .. }
            | Self::UnknownBroker { .. } => true,
            Self::Refused { code, .. } => code.is_retriable(),
            _ => false,
        }
    }

    /// Whether the request may have been carried out although this is an error.
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::Disconnected { .. } | Self::TimedOut { .. } | Self::DeliveryTimedOut { .. } => {
                true
            }
            Self::Refused { code, .. } => matches!(
                code,
                ErrorCode::RequestTimedOut
                    | ErrorCode::NotEnoughReplicasAfterAppend
                    | ErrorCode::UnknownServerError
            ),
            _ => false,
        }
    }
}
