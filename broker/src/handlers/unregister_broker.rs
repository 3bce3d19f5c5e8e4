//! UnregisterBroker (key 64), version 0.
//!
//! Behaviour:
//! - Forgets a broker that is gone and does not come back. Its registration went with its session;
//!   what stays is the record of its log directories, by which it would notice one that is lost.
//! - One that nothing is on record of: BROKER_ID_NOT_REGISTERED.
//! - One that lives, or that is on record as having what a partition has committed:
//!   INVALID_REQUEST. Kafka takes both away, upon which the one does nothing any more and the
//!   other's records may be lost.
//!
//! Missing: nothing.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::unregister_broker::{
    UnregisterBrokerRequest, UnregisterBrokerResponse,
};
use ottla_common::types::BrokerId;

use super::authorization::{Operation, Resource};
use super::context::Context;

/// Serves a request.
pub async fn handle(
    context: Context,
    request: UnregisterBrokerRequest,
) -> UnregisterBrokerResponse {
    if !context.is_authorized(Operation::Alter, Resource::Cluster) {
        return UnregisterBrokerResponse {
            error_code: ErrorCode::ClusterAuthorizationFailed.code(),
            ..UnregisterBrokerResponse::default()
        };
    }
    match context.parts.admin.unregister_broker(BrokerId(request.broker_id)).await {
        Ok(()) => UnregisterBrokerResponse::default(),
        Err(error) => UnregisterBrokerResponse {
            error_code: error.code.code(),
            error_message: Some(error.message.into()),
            ..UnregisterBrokerResponse::default()
        },
    }
}
