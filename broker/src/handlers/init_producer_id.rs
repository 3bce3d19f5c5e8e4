//! InitProducerId (key 22), versions 0 to 5.
//!
//! Behaviour:
//! - Gives an idempotent producer an id that no producer has had, with producer epoch 0. What the
//!   producer had before does not matter: its old id is simply never used again.
//! - An id without an epoch, or the reverse, is INVALID_REQUEST.
//!
//! Version notes: 2 flexible; 3 the present id and epoch (KIP-360); 4 PRODUCER_FENCED; 5
//! transactions (KIP-890). 6 (KIP-939) is not final in Kafka and not served.
//!
//! Missing: transactions. A transactional id is TRANSACTIONAL_ID_AUTHORIZATION_FAILED, which
//! clients take as final.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::init_producer_id::{
    InitProducerIdRequest, InitProducerIdResponse,
};
use ottla_common::types::ProducerId;

use super::authorization::{Operation, Resource};
use super::context::Context;

/// Serves a request.
pub async fn handle(context: Context, request: InitProducerIdRequest) -> InitProducerIdResponse {
    match next_id(&context, &request).await {
        Ok(id) => InitProducerIdResponse { producer_id: id.0, ..InitProducerIdResponse::default() },
        Err(error) => InitProducerIdResponse {
            error_code: error.code(),
            producer_epoch: -1,
            ..InitProducerIdResponse::default()
        },
    }
}

async fn next_id(
    context: &Context,
    request: &InitProducerIdRequest,
) -> Result<ProducerId, ErrorCode> {
    if let Some(id) = &request.transactional_id {
        let error = ErrorCode::TransactionalIdAuthorizationFailed;
        return Err(if id.is_empty() { ErrorCode::InvalidRequest } else { error });
    }
    if !context.is_authorized(Operation::IdempotentWrite, Resource::Cluster) {
        return Err(ErrorCode::ClusterAuthorizationFailed);
    }
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return Err(ErrorCode::InvalidRequest);
    }
    context.parts.producer_ids.next().await
}
