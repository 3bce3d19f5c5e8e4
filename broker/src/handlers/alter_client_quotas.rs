//! AlterClientQuotas (key 49), versions 0 to 1 (KIP-546).
//!
//! Behaviour:
//! - Sets and removes quotas of users, client ids, client ids of users, and addresses. All changes
//!   of an entity are made, or none. They are in force here when the answer comes, and on the other
//!   brokers as soon as they hear of it.
//! - INVALID_REQUEST: an entity that cannot be or is there twice, a key that there is not for the
//!   entity or that is there twice, a value that is not positive or not whole where it has to be.
//!
//! Version notes: 1 flexible.
//!
//! Missing: addresses by the names of hosts are INVALID_REQUEST, and so is the name `<default>`.

use ottla_common::cluster_tree::QuotaEntity;
use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::alter_client_quotas::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, request, response,
};

use super::authorization::{Operation, Resource};
use super::context::Context;
use crate::config::quotas::{QuotaOp, entity};
use crate::controller::admin::AdminError;

/// Serves a request.
pub async fn handle(
    context: Context,
    request: AlterClientQuotasRequest,
) -> AlterClientQuotasResponse {
    let entities: Vec<_> = request.entries.iter().map(entity_of).collect();
    let mut entries: Vec<response::EntryData> = Vec::with_capacity(request.entries.len());
    for (index, (asked, entity)) in request.entries.iter().zip(&entities).enumerate() {
        let is_same = |(at, other): (usize, &Result<QuotaEntity, String>)| {
            at != index && other.is_ok() && other == entity
        };
        let altered = match entity {
            _ if !context.is_authorized(Operation::AlterConfigs, Resource::Cluster) => {
                let code = ErrorCode::ClusterAuthorizationFailed;
                Err(AdminError::new(code, "Cluster authorization failed."))
            }
            Err(text) => Err(AdminError::new(ErrorCode::InvalidRequest, text)),
            Ok(_) if entities.iter().enumerate().any(is_same) => {
                Err(AdminError::new(ErrorCode::InvalidRequest, "Ignoring duplicate entity"))
            }
            Ok(entity) => {
                let ops: Vec<QuotaOp> = asked.ops.iter().map(op_of).collect();
                context.parts.admin.alter_quotas(entity, &ops, request.validate_only).await
            }
        };
        entries.push(entry(asked, altered));
    }
    AlterClientQuotasResponse { entries, ..AlterClientQuotasResponse::default() }
}

fn entity_of(asked: &request::EntryData) -> Result<QuotaEntity, String> {
    let parts = asked.entity.iter();
    let parts: Vec<_> =
        parts.map(|part| (part.entity_type.as_str(), part.entity_name.as_deref())).collect();
    entity(&parts)
}

fn op_of(op: &request::OpData) -> QuotaOp {
    (op.key.to_string(), (!op.remove).then_some(op.value))
}

fn entry(asked: &request::EntryData, altered: Result<(), AdminError>) -> response::EntryData {
    let (code, message) = match altered {
        Ok(()) => (ErrorCode::None, None),
        Err(AdminError { code, message }) => (code, Some(message.into())),
    };
    let entity = asked.entity.iter().map(|part| response::EntityData {
        entity_type: part.entity_type.clone(),
        entity_name: part.entity_name.clone(),
        ..response::EntityData::default()
    });
    response::EntryData {
        error_code: code.code(),
        error_message: message,
        entity: entity.collect(),
        ..response::EntryData::default()
    }
}
