//! Changes of the features' levels, written to the tree.

use ottla_common::cluster_tree::FinalizedFeatures;
use ottla_common::coordination::protocol::CreateMode;
use ottla_common::kafka::error_code::ErrorCode;
use tracing::info;

use super::admin::{AdminError, ClusterAdmin};
use super::configs::is_lost_race;
use crate::metadata::features::{FeatureUpdate, FinalizedLevels, check_update};

impl ClusterAdmin {
    /// Sets the levels of features, all or none.
    ///
    /// # Errors
    /// `INVALID_UPDATE_VERSION` for the first that cannot be set; others if the tree cannot be
    /// written to.
    pub async fn update_features(
        &self,
        updates: &[FeatureUpdate],
        validate_only: bool,
    ) -> Result<(), AdminError> {
        let path = FinalizedFeatures::PATH;
        loop {
            let found = self.client.get(path).await;
            let found = found.map_err(|error| AdminError::from_client(&error))?;
            let set = match &found {
                Some((data, _)) => FinalizedFeatures::decode(data).map_err(unreadable)?.features,
                None => Default::default(),
            };
            let mut levels = FinalizedLevels { set: set.clone(), epoch: 0 };
            let controller = self.image.load().controller.unwrap_or(self.config.broker_id);
            for update in updates {
                let checked = check_update(&levels, update, controller.0);
                checked.map_err(|why| AdminError::new(ErrorCode::InvalidUpdateVersion, why))?;
                if levels.level(&update.name) != update.level {
                    levels.set.insert(update.name.clone(), update.level);
                }
            }
            if validate_only || levels.set == set {
                return Ok(());
            }
            let data = FinalizedFeatures::new(levels.set.clone()).encode();
            let written = match found {
                Some((_, stat)) => self.client.set(path, data, Some(stat.version)).await,
                None => self.client.create(path, data, CreateMode::Persistent).await.map(|c| c.1),
            };
            match written {
                Ok(stat) => {
                    info!(levels = ?levels.set, "the levels of features changed");
                    self.shown_at(stat.mzxid).await;
                    return Ok(());
                }
                Err(error) if is_lost_race(&error) => {}
                Err(error) => return Err(AdminError::from_client(&error)),
            }
        }
    }
}

fn unreadable(error: ottla_common::cluster_tree::InvalidValue) -> AdminError {
    let text = format!("The present levels of features cannot be read: {error}");
    AdminError::new(ErrorCode::UnknownServerError, text)
}
