//! Every bound of the coordinator that is not an option.

/// The longest path of a node, in bytes.
pub const PATH_LENGTH_MAX: usize = 8 * 1024;

/// The deepest that a node may lie below the root. Nodes are dropped recursively, so that this bounds
/// the stack.
pub const PATH_DEPTH_MAX: usize = 128;

/// The most operations of one multi.
pub const MULTI_OPS_MAX: usize = 65_536;

/// The most nodes that one recursive delete removes.
pub const DELETE_RECURSIVE_NODES_MAX: usize = 1_000_000;

/// The most entries of an access list.
pub const ACL_ENTRIES_MAX: usize = 256;

/// The most idle nodes that one command removes.
pub const IDLE_REMOVALS_MAX: usize = 1_000;

/// The longest time to live of a node in milliseconds: what fits beside ZooKeeper's mark of such nodes.
pub const TTL_MAX_MS: u64 = 0x00ff_ffff_ffff;

/// The most proposals that wait for their turn on a member.
pub const PROPOSALS_MAX: usize = 65_536;
