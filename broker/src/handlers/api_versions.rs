//! ApiVersions (key 18), versions 0 to 5.
//!
//! Behaviour:
//! - Lists the APIs of the one table, with their ranges.
//! - Any other version is answered with UNSUPPORTED_VERSION in a body of version 0 that lists the
//!   range of ApiVersions itself, upon which clients try again (KIP-511). The connection stays
//!   open.
//! - The response's header never has tagged fields.
//!
//! Version notes: 3 flexible, the client's software (KIP-511), which must be well-formed; features
//! (KIP-584), of which only those with a minimum above 0 are shown below version 4 (KAFKA-17011); 5
//! the cluster and node that the client means (KIP-1242), REBOOTSTRAP_REQUIRED if it has found
//! another.
//!
//! Features: see [`crate::metadata::features`]; UpdateFeatures sets their levels.
//!
//! Missing: `transaction.version`, which comes with transactions.

use ottla_common::kafka::messages::api_versions::response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use ottla_common::kafka::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_common::kafka::request::RequestHeader;
use ottla_common::kafka::{ApiKey, ErrorCode};

use super::context::{Answer, Context};
use super::{APIS, Api};
use crate::metadata::features::FEATURES;
use crate::network::{ClientSoftware, Close, Reply};

/// The first version that may tell of features whose least version is 0 (KAFKA-17011).
const MINIMUM_ZERO_FROM: i16 = 4;

/// Serves a request.
pub fn handle(context: &Context, request: ApiVersionsRequest) -> ApiVersionsResponse {
    if let Err(error) = check(context, &request) {
        return ApiVersionsResponse { error_code: error.code(), ..ApiVersionsResponse::default() };
    }
    if context.version() >= 3 {
        // The first one counts; a client has no reason to say another.
        let _ = context.connection.client_software.set(ClientSoftware {
            name: request.client_software_name.as_str().to_owned(),
            version: request.client_software_version.as_str().to_owned(),
        });
    }
    ApiVersionsResponse {
        api_keys: APIS.iter().map(range).collect(),
        supported_features: supported_features(context.version()),
        finalized_features_epoch: context.image.features.epoch,
        finalized_features: context.image.features.finalized().map(finalized).collect(),
        ..ApiVersionsResponse::default()
    }
}

fn supported_features(version: i16) -> Vec<SupportedFeatureKey> {
    let told = FEATURES
        .iter()
        .filter(|feature| version >= MINIMUM_ZERO_FROM || feature.levels.0 > 0)
        .map(|feature| SupportedFeatureKey {
            name: feature.name.into(),
            min_version: feature.levels.0,
            max_version: feature.levels.1,
            ..SupportedFeatureKey::default()
        });
    told.collect()
}

fn finalized((name, level): (&str, i16)) -> FinalizedFeatureKey {
    FinalizedFeatureKey {
        name: name.into(),
        max_version_level: level,
        min_version_level: level,
        ..FinalizedFeatureKey::default()
    }
}

/// Answers a request of a version that nobody knows yet.
pub fn refuse_version(header: &RequestHeader) -> Result<Reply, Close> {
    let own = APIS.iter().filter(|api| api.key == ApiKey::ApiVersions);
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: own.map(range).collect(),
        ..ApiVersionsResponse::default()
    };
    let answer = Answer { version: 0, correlation_id: header.correlation_id, charge: None };
    answer.encode(response).map(Reply::Now)
}

fn range(api: &Api) -> ApiVersion {
    ApiVersion {
        api_key: api.key.code(),
        min_version: api.advertised_min,
        max_version: api.max,
        ..ApiVersion::default()
    }
}

fn check(context: &Context, request: &ApiVersionsRequest) -> Result<(), ErrorCode> {
    let software = [&request.client_software_name, &request.client_software_version];
    if context.version() >= 3 && !software.iter().all(|text| is_software_word(text)) {
        return Err(ErrorCode::InvalidRequest);
    }
    match (&request.cluster_id, request.node_id) {
        (None, -1) => Ok(()),
        (None, _) | (_, ..0) => Err(ErrorCode::InvalidRequest),
        (Some(cluster_id), node_id) => {
            let is_cluster = context.image.cluster_id.as_deref() == Some(cluster_id);
            let is_here = is_cluster && node_id == context.parts.broker_id.0;
            if is_here { Ok(()) } else { Err(ErrorCode::RebootstrapRequired) }
        }
    }
}

/// Letters and digits, with `-` and `.` between them.
fn is_software_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    is_end(bytes.first()) && is_end(bytes.last()) && bytes.iter().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_are_words() {
        for good in ["apache-kafka-java", "4.4.0", "x", "a..b"] {
            assert!(is_software_word(good), "{good}");
        }
        for bad in ["", "a b", "-a", "a.", "ä", "a_b"] {
            assert!(!is_software_word(bad), "{bad}");
        }
    }
}
