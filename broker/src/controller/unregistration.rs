//! Forgetting a broker that does not come back.

use ottla_common::cluster_tree::{BrokerDirectories, BrokerRegistration};
use ottla_common::coordination::protocol::CoordinationError;
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::types::BrokerId;
use tracing::info;

use super::admin::{AdminError, ClusterAdmin};

impl ClusterAdmin {
    /// Forgets what is on record of a broker that is gone: its log directories. Its registration
    /// went with its session.
    ///
    /// # Errors
    /// `BROKER_ID_NOT_REGISTERED` if nothing is on record of it; `INVALID_REQUEST` if it lives, or
    /// if a partition counts on its records: it may have what nobody else has.
    pub async fn unregister_broker(&self, id: BrokerId) -> Result<(), AdminError> {
        let refused = |text: String| Err(AdminError::new(ErrorCode::InvalidRequest, text));
        let lives = self.is_registered(id).await?;
        let image = self.image.load();
        if lives || image.brokers.contains_key(&id) {
            return refused(format!("Broker {id} is alive. Stop it before it is unregistered."));
        }
        let counts_on = |isr: &[BrokerId], elr: &[BrokerId]| isr.contains(&id) || elr.contains(&id);
        let partitions = image.topics.values().flat_map(|topic| &topic.partitions);
        let count = partitions.filter(|known| counts_on(&known.isr, &known.elr)).count();
        if count > 0 {
            return refused(format!(
                "{count} partitions count on what broker {id} has. Move them to other brokers, or \
                 elect other leaders, before it is unregistered."
            ));
        }
        match self.client.delete(&BrokerDirectories::path(id), None).await {
            Ok(()) => {
                info!(broker_id = %id, "unregistered a broker");
                Ok(())
            }
            Err(error) => match error.refusal() {
                Some(CoordinationError::NoNode { .. }) => {
                    let text = format!("Broker ID {id} is not currently registered");
                    Err(AdminError::new(ErrorCode::BrokerIdNotRegistered, text))
                }
                _ => Err(AdminError::from_client(&error)),
            },
        }
    }

    /// Whether a broker is registered now; the image may not know it yet.
    async fn is_registered(&self, id: BrokerId) -> Result<bool, AdminError> {
        let found = async {
            self.client.sync().await?;
            self.client.exists(&BrokerRegistration::path(id)).await
        };
        found.await.map(|stat| stat.is_some()).map_err(|error| AdminError::from_client(&error))
    }
}
