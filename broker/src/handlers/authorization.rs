//! The words of authorization: what may be done to what. Handlers ask
//! [`Context::is_authorized`](super::context::Context::is_authorized) before each side effect and
//! for each resource inside of a request; an authorizer will stand behind that one function.

/// What may be done, with the numbers that Kafka's ACLs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Fetch records, list offsets' consumers, commit offsets.
    Read = 3,
    /// Produce records.
    Write = 4,
    /// Create topics.
    Create = 5,
    /// Delete topics or records.
    Delete = 6,
    /// Change topics, such as their partitions.
    Alter = 7,
    /// Learn that something exists.
    Describe = 8,
    /// What only brokers do.
    ClusterAction = 9,
    /// Read configs.
    DescribeConfigs = 10,
    /// Change configs.
    AlterConfigs = 11,
    /// Get a producer id.
    IdempotentWrite = 12,
}

/// What something may be done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The cluster as a whole.
    Cluster,
    /// A topic.
    Topic(&'a str),
    /// A group.
    Group(&'a str),
    /// A transactional id.
    TransactionalId(&'a str),
}

/// Operations as a set of bits, as responses carry them.
const fn bits(operations: &[Operation]) -> i32 {
    let mut set = 0;
    let mut rest = operations;
    while let [operation, others @ ..] = rest {
        set |= 1 << *operation as i32;
        rest = others;
    }
    set
}

/// All that can be done to a topic.
pub const TOPIC_OPERATIONS: i32 = bits(&[
    Operation::Read,
    Operation::Write,
    Operation::Create,
    Operation::Delete,
    Operation::Alter,
    Operation::Describe,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
]);

/// All that can be done to a group.
pub const GROUP_OPERATIONS: i32 = bits(&[
    Operation::Read,
    Operation::Delete,
    Operation::Describe,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
]);

/// All that can be done to the cluster.
pub const CLUSTER_OPERATIONS: i32 = bits(&[
    Operation::Create,
    Operation::Alter,
    Operation::Describe,
    Operation::ClusterAction,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
    Operation::IdempotentWrite,
]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_are_those_that_kafka_gives_without_an_authorizer() {
        assert_eq!((TOPIC_OPERATIONS, CLUSTER_OPERATIONS), (3576, 8096));
        assert_eq!(GROUP_OPERATIONS, 3400);
    }
}
