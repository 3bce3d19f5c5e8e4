//! Every bound of the broker that is not a configuration key, in one place. Relations between them
//! are asserted where a constant is defined, so that a bad pair does not compile.

use std::time::Duration;

/// How long a fresh connection may stay silent before its first byte.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request may take to arrive, from its first byte, when it is small.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes a second that a large request has to arrive with, on top of [`FRAME_TIMEOUT`]. Time is
/// granted for bytes that came, never for bytes that were announced.
pub const FRAME_RATE_MIN: u64 = 64 * 1024;

/// How long a client may accept no byte of a reply before its connection is closed.
pub const WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection without anything to do is kept (Kafka's `connections.max.idle.ms`).
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// How long replies that are due may take to leave once a connection is to be closed.
pub const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of a request beyond which its header must make sense before room is made for the rest.
pub const UNCHECKED_FRAME_SIZE_MAX: usize = 64 * 1024;

/// The smallest request: key, version and correlation id.
pub const FRAME_SIZE_MIN: usize = 8;

/// The largest request (Kafka's `socket.request.max.bytes`).
pub const FRAME_SIZE_MAX: usize = 100 * 1024 * 1024;

/// Room made for reading when no large request is under way.
pub const READ_SIZE: usize = 64 * 1024;

/// Less room than this is not worth a read; new room is made instead.
pub const READ_SIZE_MIN: usize = 4 * 1024;

/// Requests up to this size are copied out of the read buffer, so that a small request that waits
/// does not keep the whole buffer.
pub const FRAME_COPY_SIZE_MAX: usize = 2 * 1024;

/// Requests of one connection that may be under way; then it is not read any more.
pub const IN_FLIGHT_MAX: usize = 100;

/// Bytes of replies, files not counted, that may wait for one connection; then it is not read any
/// more.
pub const REPLY_SIZE_QUEUED_MAX: usize = 16 * 1024 * 1024;

/// Connections of one listener (Kafka's `max.connections`, which is unlimited there).
pub const CONNECTIONS_MAX: usize = 16 * 1024;

/// Connections from one address.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 4 * 1024;

/// Connections from this machine itself, beyond all others.
pub const CONNECTIONS_LOOPBACK_RESERVE: usize = 16;

/// The share of the machine's memory that requests under way may take, as a divisor.
pub const REQUEST_MEMORY_DIVISOR: u64 = 4;

/// The least memory for requests under way, whatever the machine has.
pub const REQUEST_MEMORY_MIN: usize = 128 * 1024 * 1024;

/// Pieces of replies handed to the kernel at once.
pub const WRITE_PIECES_MAX: usize = 64;

/// Bytes of a file that go through memory at once where `sendfile` cannot be used.
pub const FILE_COPY_SIZE: usize = 256 * 1024;

/// Bytes of one partition that may be written without the disk being asked to take them, even if
/// nobody waits. Kept small, since the next who waits for the disk waits for all of them.
pub const UNFLUSHED_SIZE_MAX: usize = 8 * 1024 * 1024;

/// Replicas of one partition. More are refused as long as brokers do not replicate: a promise of
/// copies that nobody makes would be worse than none.
pub const REPLICATION_FACTOR_MAX: usize = 1;

/// Partitions of one topic. All its nodes are written in one multi, which has to fit into a frame.
pub const PARTITIONS_PER_TOPIC_MAX: usize = 10_000;

/// Elections that a controller writes in one multi.
pub const ELECTIONS_PER_MULTI_MAX: usize = 500;

/// Topics that one Metadata request may bring into being.
pub const AUTO_CREATED_TOPICS_MAX: usize = 100;

/// Requests of one shard of an internal topic that may wait for their answers.
pub const WAITING_REQUESTS_PER_SHARD_MAX: usize = 100_000;

/// Bytes of records that one turn of a shard may write.
pub const RECORDS_PER_TURN_SIZE_MAX: usize = 64 * 1024 * 1024;

/// Members of one group (Kafka's `group.max.size`, which is unlimited there).
pub const MEMBERS_PER_GROUP_MAX: usize = 20_000;

/// Groups of one partition of `__consumer_offsets`.
pub const GROUPS_PER_SHARD_MAX: usize = 100_000;

/// Protocols that one member of a classic group may name.
pub const PROTOCOLS_PER_MEMBER_MAX: usize = 100;

/// Bytes that one member of a classic group may say in all under its protocols.
pub const MEMBER_METADATA_SIZE_MAX: usize = 1024 * 1024;

const _: () = assert!(READ_SIZE_MIN <= READ_SIZE && FRAME_COPY_SIZE_MAX < READ_SIZE);
const _: () = assert!(UNCHECKED_FRAME_SIZE_MAX <= READ_SIZE && READ_SIZE < FRAME_SIZE_MAX);
const _: () = assert!(FRAME_SIZE_MAX <= REQUEST_MEMORY_MIN);
