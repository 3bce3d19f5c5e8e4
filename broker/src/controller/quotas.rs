//! Changes of quotas, written to the tree.

use ottla_common::cluster_tree::{ConfigOverrides, QuotaEntity};
use ottla_common::coordination::client::ClientError;
use ottla_common::coordination::protocol::{CoordinationError, CreateMode, Stat};
use ottla_common::kafka::error_code::ErrorCode;
use tracing::info;

use super::admin::{AdminError, ClusterAdmin};
use super::configs::is_lost_race;
use crate::config::Overrides;
use crate::config::quotas::{QuotaOp, alter};

impl ClusterAdmin {
    /// Changes the quotas of one entity, all or none, and waits until the image shows it. Whatever
    /// else is set for the entity stays.
    ///
    /// # Errors
    /// INVALID_REQUEST if a change cannot be.
    pub async fn alter_quotas(
        &self,
        entity: &QuotaEntity,
        ops: &[QuotaOp],
        validate_only: bool,
    ) -> Result<(), AdminError> {
        loop {
            let found = self.client.get(&entity.path()).await;
            let found = found.map_err(|error| AdminError::from_client(&error))?;
            let current = match &found {
                Some((data, _)) => ConfigOverrides::decode(data).map_err(|error| {
                    let text = format!("The present configs cannot be read: {error}");
                    AdminError::new(ErrorCode::UnknownServerError, text)
                })?,
                None => ConfigOverrides::default(),
            };
            let next = alter(entity, &current.config, ops);
            let next = next.map_err(|text| AdminError::new(ErrorCode::InvalidRequest, text))?;
            if validate_only || next == current.config {
                return Ok(());
            }
            match self.write_quotas(entity, next, found.map(|(_, stat)| stat.version)).await {
                Ok(stat) => {
                    info!(path = entity.path(), "quotas changed");
                    self.shown_at(stat.mzxid).await;
                    return Ok(());
                }
                Err(error) if is_lost_race(&error) => {}
                Err(error) => return Err(AdminError::from_client(&error)),
            }
        }
    }

    async fn write_quotas(
        &self,
        entity: &QuotaEntity,
        next: Overrides,
        version: Option<i32>,
    ) -> Result<Stat, ClientError> {
        let (path, data) = (entity.path(), ConfigOverrides::new(next).encode());
        if version.is_some() {
            return self.client.set(&path, data, version).await;
        }
        if let Some([user, clients]) = entity.parents() {
            let none = ConfigOverrides::new(Overrides::new()).encode();
            match self.client.create(&user, none, CreateMode::Persistent).await {
                Ok(_) | Err(ClientError::Refused(CoordinationError::NodeExists { .. })) => {}
                Err(error) => return Err(error),
            }
            self.client.ensure(&clients).await?;
        }
        Ok(self.client.create(&path, data, CreateMode::Persistent).await?.1)
    }
}
