//! Every bound of the coordinator that is not an option.

/// The longest path of a node, in bytes.
pub const PATH_LENGTH_MAX: usize = 8 * 1024;

/// The deepest that a node may lie below the root. Nodes are dropped recursively, so that this
/// bounds the stack.
pub const PATH_DEPTH_MAX: usize = 128;

/// The most operations of one multi.
pub const MULTI_OPS_MAX: usize = 65_536;

/// The most nodes that one recursive delete removes.
pub const DELETE_RECURSIVE_NODES_MAX: usize = 1_000_000;

/// The most entries of an access list.
pub const ACL_ENTRIES_MAX: usize = 256;

/// The most idle nodes that one command removes.
pub const IDLE_REMOVALS_MAX: usize = 1_000;

/// The longest time to live of a node in milliseconds: what fits beside ZooKeeper's mark of such
/// nodes.
pub const TTL_MAX_MS: u64 = 0x00ff_ffff_ffff;

/// The most members of an ensemble.
pub const MEMBERS_MAX: usize = 64;

/// The most read requests that wait for a proof that this member still leads.
pub const READS_PENDING_MAX: usize = 65_536;

/// The most proposals that wait for their turn on a member.
pub const PROPOSALS_MAX: usize = 65_536;

/// The most watches of one connection.
pub const WATCHES_PER_CONNECTION_MAX: usize = 100_000;

/// The most watch events that wait to be sent on one connection. A client that reads more slowly is
/// disconnected, since an event must not be lost.
pub const WATCH_EVENTS_QUEUED_MAX: usize = 100_000;

/// How much may wait to be sent on one connection, in bytes, before its next request is answered.
pub const OUTBOX_SIZE_MAX: usize = 8 * 1024 * 1024;

/// The most subscriptions of one connection.
pub const SUBSCRIPTIONS_PER_CONNECTION_MAX: usize = 64;

/// The most that one frame of a subscription holds, in bytes (unless a single node is longer).
pub const SUBSCRIPTION_PAGE_SIZE: usize = 1024 * 1024;

/// How many commands' changes are kept for subscriptions to go on from. A subscriber that falls
/// behind further is disconnected and begins with a snapshot.
pub const HISTORY_COMMANDS_MAX: usize = 100_000;

/// How much the kept changes may hold, in bytes (the newest command's are always kept).
/// More than may wait on one connection, so that one which is read slowly is not cut off by that.
pub const HISTORY_SIZE_MAX: usize = 12 * 1024 * 1024;

/// How long a member goes on serving ZooKeeper's clients without knowing a leader, in milliseconds:
/// longer than an election takes.
pub const LEADERLESS_PATIENCE_MS: u64 = 2_000;

/// The longest message that a client of ZooKeeper's protocol may send, in bytes: ZooKeeper's
/// default of `jute.maxbuffer`.
pub const ZOOKEEPER_MESSAGE_SIZE_MAX: usize = 0xfffff;

/// The most requests of one connection that were read and not yet answered.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 1_000;

/// How many bytes of requests of one connection may have been read and not yet answered.
pub const REQUEST_BYTES_IN_FLIGHT_MAX: usize = 16 * 1024 * 1024;

/// The most identities of one connection.
pub const IDENTITIES_MAX: usize = 32;

/// The most sessions that one command expires.
pub const EXPIRIES_PER_COMMAND_MAX: usize = 10_000;

/// The longest hello, in bytes.
pub const HELLO_SIZE_MAX: usize = 64 * 1024;

/// How long a new connection may say nothing at all, in milliseconds.
pub const FIRST_BYTE_DEADLINE_MS: u64 = 5_000;

/// The longest request of an administrator, in bytes.
pub const ADMIN_REQUEST_SIZE_MAX: usize = 64 * 1024;

/// How long an administrator's connection may say nothing, or take nothing, in milliseconds.
pub const ADMIN_DEADLINE_MS: u64 = 60_000;

/// The most connections of the HTTP address.
pub const HTTP_CONNECTIONS_MAX: usize = 64;

/// How long a new connection may take to say what it wants, in milliseconds.
pub const HELLO_DEADLINE_MS: u64 = 5_000;

/// How long a connection that is being closed has to take what is still queued, in milliseconds.
pub const CLOSE_DEADLINE_MS: u64 = 2_000;

/// The length of a session's secret in bytes; ZooKeeper's.
pub const PASSWORD_SIZE: usize = 16;

/// How much the proposals that wait for their turn or their outcome may hold, in bytes.
pub const PROPOSAL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most commands that one flush of the log makes durable.
pub const BATCH_COMMANDS_MAX: usize = 4_096;

/// How many bytes of commands one flush makes durable, before it takes no more of them.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The most batches that are durable and wait to be applied.
pub const BATCHES_TO_APPLY_MAX: usize = 8;

/// The longest request of a Kafka client, in bytes.
pub const KAFKA_REQUEST_SIZE_MAX: usize = 64 * 1024;

/// How long a Kafka client may say nothing, in milliseconds; as long as brokers allow.
pub const KAFKA_IDLE_MS: u64 = 600_000;

/// How long a Kafka client may take to send a request or to read a reply, in milliseconds.
pub const KAFKA_STALL_MS: u64 = 30_000;

/// How long a Kafka client that was told of brokers may go on asking, in milliseconds.
pub const KAFKA_LINGER_MS: u64 = 500;

/// The longest message of one member to another, in bytes: several entries, or one that is as long
/// as a record of the log may be.
pub const PEER_FRAME_SIZE_MAX: usize = 32 * 1024 * 1024;

/// The most messages that wait to be sent to one member.
pub const PEER_MESSAGES_QUEUED_MAX: usize = 8_192;

/// How many bytes of messages may wait to be sent to one member.
pub const PEER_BYTES_QUEUED_MAX: usize = 64 * 1024 * 1024;

/// The most members that are answered though nobody has named them yet.
pub const PEER_GUESTS_MAX: usize = 16;

/// How long two members may take to come to know each other, in milliseconds.
pub const PEER_HANDSHAKE_DEADLINE_MS: u64 = 2_000;

/// How many connections may be before the end of their handshake at a time.
pub const PEER_HANDSHAKES_MAX: usize = 64;

/// How long another member may take to read what is sent to it, in milliseconds.
pub const PEER_WRITE_DEADLINE_MS: u64 = 5_000;

/// How many bytes of proposals one message to the leader holds (a longer one goes alone).
pub const FORWARD_SIZE_MAX: usize = 1024 * 1024;

/// Of how many processes of one member a leader remembers in a term which proposals it has taken.
pub const RUNS_REMEMBERED_MAX: usize = 64;

/// How many broken connections a member remembers until it has told the leader of them.
pub const DISCONNECTS_REMEMBERED_MAX: usize = 65_536;

/// The most orders of one member that wait for the leader's answer.
pub const ORDERS_WAITING_MAX: usize = 64;

/// The most questions of other members that a leader has under way.
pub const READS_ASKED_MAX: usize = 1_024;

/// How many batches a leader lets the disk make durable before it takes more proposals.
pub const PERSISTS_UNDER_WAY_MAX: usize = 2;

/// The most barriers and pings of one member that wait for their answers.
pub const QUESTIONS_MAX: usize = 262_144;

/// How many bytes of inputs may wait for the thread that runs the consensus, of all other members
/// together. Beyond that they are not read from their connections.
pub const PEER_BYTES_RECEIVED_MAX: usize = 64 * 1024 * 1024;

/// How many bytes of committed entries may wait to be applied before no more are taken.
pub const APPLY_BACKLOG_MAX: usize = 64 * 1024 * 1024;

/// The longest answer to a four-letter word, in bytes.
pub const FOUR_LETTER_ANSWER_SIZE_MAX: usize = 16 * 1024 * 1024;

/// The most connections, sessions or watches that the answer to a four-letter word lists.
pub const FOUR_LETTER_ENTRIES_MAX: usize = 100_000;
