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

/// Names of hosts in `max.connections.per.ip.overrides` that are looked up.
pub const LIMITED_HOSTS_MAX: usize = 100;

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

/// Replicas that are not here yet and whose directory somebody has chosen already.
pub const PREFERRED_DIRECTORIES_MAX: usize = 100_000;

/// Bytes that a replica moves to another log directory at once; what is left is taken while nobody
/// may append to it if it is no more.
pub const MOVED_SIZE_AT_ONCE: usize = 1024 * 1024;

/// Replicas of one partition.
pub const REPLICATION_FACTOR_MAX: usize = 100;

/// Changes of ISRs that a leader writes in one multi.
pub const ISR_CHANGES_PER_MULTI_MAX: usize = 500;

/// Bytes of a client's metrics once they are decompressed.
pub const TELEMETRY_DECOMPRESSED_SIZE_MAX: usize = 4 * 1024 * 1024;

/// Clients whose metrics are kept; whoever was silent for longest makes room.
pub const TELEMETRY_CLIENTS_MAX: usize = 4096;

/// Series that are kept of one client.
pub const TELEMETRY_SERIES_PER_CLIENT_MAX: usize = 1000;

/// Series that are kept of all clients.
pub const TELEMETRY_SERIES_MAX: usize = 20_000;

/// Labels of a client's series.
pub const TELEMETRY_LABELS_MAX: usize = 16;

/// Bytes of a name, a label or a label's value of a client's series.
pub const TELEMETRY_TEXT_SIZE_MAX: usize = 200;

/// Prefixes of metrics that one client is asked for.
pub const TELEMETRY_PREFIXES_MAX: usize = 1000;

/// Bytes of a pattern of a subscription to clients' metrics once it is compiled.
pub const TELEMETRY_REGEX_SIZE_MAX: usize = 256 * 1024;

/// Connections of the address that monitoring asks.
pub const HTTP_CONNECTIONS_MAX: usize = 64;

/// Partitions whose figures monitoring is told one by one.
pub const METRICS_PARTITION_SERIES_MAX: usize = 10_000;

/// Lags of groups, one for each partition, that monitoring is told.
pub const METRICS_GROUP_SERIES_MAX: usize = 10_000;

/// Partitions of one topic. All its nodes are written in one multi, which has to fit into a frame.
pub const PARTITIONS_PER_TOPIC_MAX: usize = 10_000;

/// Nodes that a controller writes in one multi, unless one change takes more.
pub const ELECTIONS_PER_MULTI_MAX: usize = 1000;

/// Such multis that may be under way at once.
pub const ELECTION_MULTIS_IN_FLIGHT_MAX: usize = 4;

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

/// Bytes of the pattern of topics that a group's member may subscribe to.
pub const SUBSCRIPTION_REGEX_LENGTH_MAX: usize = 4096;

/// Bytes of such a pattern once it is compiled.
pub const SUBSCRIPTION_REGEX_SIZE_MAX: usize = 1024 * 1024;

const _: () = assert!(READ_SIZE_MIN <= READ_SIZE && FRAME_COPY_SIZE_MAX < READ_SIZE);
const _: () = assert!(UNCHECKED_FRAME_SIZE_MAX <= READ_SIZE && READ_SIZE < FRAME_SIZE_MAX);
const _: () = assert!(FRAME_SIZE_MAX <= REQUEST_MEMORY_MIN);

/// Users, client ids and addresses whose use of one kind is remembered; those that have been idle
/// longest are forgotten beyond it.
pub const QUOTA_SENSORS_MAX: usize = 20_000;

/// How long a client may be idle before what it has used may be forgotten (as in Kafka).
pub const QUOTA_SENSOR_IDLE_MS: u64 = 60 * 60 * 1000;
