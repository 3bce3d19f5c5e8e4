//! UpdateFeatures (key 57), versions 0 to 2.
//!
//! Behaviour:
//! - Sets the levels of features, all or none; the first that cannot be set is named in the
//!   response's own error. A level goes down only if the upgrade type says so.
//!
//! Version notes: 0 `allow_downgrade`, which stands for an unsafe downgrade; 1 upgrade types and
//! `validate_only` (KIP-778); 2 no results of single features.
//!
//! Missing: the request's timeout is not observed. Features that there are none of:
//! `metadata.version`, `kraft.version`, `transaction.version`, and those of share and streams
//! groups.

use std::collections::BTreeSet;

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::update_features::response::UpdatableFeatureResult;
use ottla_common::kafka::messages::update_features::{
    UpdateFeaturesRequest, UpdateFeaturesResponse,
};

use super::authorization::{Operation, Resource};
use super::context::Context;
use crate::metadata::features::{FeatureUpdate, UpgradeType};

/// What comes before the reason, as Kafka says it.
const FAILED: &str = "The update failed for all features since the following feature had an error:";

/// Serves a request.
pub async fn handle(context: Context, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    let refused = |code: ErrorCode, message: Option<String>| UpdateFeaturesResponse {
        error_code: code.code(),
        error_message: message.map(Into::into),
        ..UpdateFeaturesResponse::default()
    };
    if !context.is_authorized(Operation::Alter, Resource::Cluster) {
        return refused(ErrorCode::ClusterAuthorizationFailed, None);
    }
    let version = context.version();
    let updates = request.feature_updates.iter().map(|update| FeatureUpdate {
        name: update.feature.to_string(),
        level: update.max_version_level,
        upgrade_type: match version {
            0 if update.allow_downgrade => Some(UpgradeType::UnsafeDowngrade),
            0 => Some(UpgradeType::Upgrade),
            _ => UpgradeType::from_code(update.upgrade_type),
        },
    });
    let updates: Vec<FeatureUpdate> = updates.collect();
    let names: BTreeSet<&str> = updates.iter().map(|update| update.name.as_str()).collect();
    if names.len() < updates.len() {
        let text = "A feature is named more than once.".to_owned();
        return refused(ErrorCode::InvalidRequest, Some(text));
    }
    match context.parts.admin.update_features(&updates, request.validate_only).await {
        Ok(()) => {
            let results = updates.iter().map(|update| UpdatableFeatureResult {
                feature: update.name.as_str().into(),
                ..UpdatableFeatureResult::default()
            });
            let results = if version <= 1 { results.collect() } else { Vec::new() };
            UpdateFeaturesResponse { results, ..UpdateFeaturesResponse::default() }
        }
        Err(error) if error.code == ErrorCode::InvalidUpdateVersion => {
            refused(error.code, Some(format!("{FAILED} {}", error.message)))
        }
        Err(error) => refused(error.code, Some(error.message)),
    }
}
