//! Administration of a cluster, as Kafka's admin client has it: one method for each request, each
//! tried again while that may help. What is wrong with one item of many is that item's result.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod configs;
mod groups;
mod partitions;
mod quotas;
mod replicas;
mod topics;

use super::client::ClientError;
use super::cluster::Cluster;
use super::error_code::ErrorCode;
use super::messages::describe_cluster::{DescribeClusterRequest, DescribeClusterResponse};
use super::wire::KafkaString;

pub use configs::{
    ConfigChange, ConfigEntry, ConfigOperation, ConfigResource, ConfigResourceType, ConfigSource,
};
pub use groups::{CommittedOffset, GroupDescription, GroupMember, ListedGroup};
pub use quotas::{ClientQuotas, QuotaEntity, QuotaMatch, QuotaPart};
pub use replicas::{ElectionType, OngoingReassignment};
pub use topics::{CreatedTopic, NewPartitions, NewTopic};

/// The results of many items, by what names each, in the order of the broker's answer.
pub type Results<K, T> = Vec<(K, Result<T, ClientError>)>;

/// An administrator of a cluster.
#[derive(Clone, Debug)]
pub struct Admin {
    cluster: Cluster,
}

impl Admin {
    /// The administrator of this cluster.
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// How long a broker may take for a change, in milliseconds: less than we wait for its answer.
    fn timeout_ms(&self) -> i32 {
        let patience = self.cluster.options().client.request_timeout_ms;
        i32::try_from(patience - patience / 10).unwrap_or(i32::MAX)
    }

    /// The brokers, the controller and the cluster's id, as the brokers know them now.
    ///
    /// # Errors
    /// If no broker answers, or it refuses.
    pub async fn describe_cluster(
        &self,
        include_fenced_brokers: bool,
    ) -> Result<DescribeClusterResponse, ClientError> {
        let request = DescribeClusterRequest { include_fenced_brokers, ..Default::default() };
        let response = self
            .cluster
            .retry(|| async {
                let connection = self.cluster.any_connection().await?;
                let mut request = request.clone();
                // Fenced brokers are told from version 2 on.
                if connection.version_of::<DescribeClusterRequest>(i16::MAX)? < 2 {
                    request.include_fenced_brokers = false;
                }
                connection.send(&request).await
            })
            .await?;
        check("DescribeCluster", response.error_code, response.error_message.as_ref())?;
        Ok(response)
    }
}

/// The error of an item.
fn check(subject: &str, code: i16, message: Option<&KafkaString>) -> Result<(), ClientError> {
    let message = message.map(|message| message.as_str());
    ClientError::check(|| subject.to_owned(), ErrorCode::from_code(code), message)
}
