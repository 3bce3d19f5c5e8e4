//! SaslHandshake (key 17), versions 0 to 1.
//!
//! Behaviour:
//! - Brokers announce the mechanism by which they prove to each other that they are brokers.
//! - Every other mechanism is ILLEGAL_SASL_STATE: the listeners do not authenticate clients, and
//!   that is what Kafka says where they do not.
//!
//! Version notes: 1 the proofs come as SaslAuthenticate requests.
//!
//! Missing: mechanisms for clients.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};

use super::context::Context;
use crate::network::Proof;
use crate::security::inter_broker::MECHANISM;

/// Serves a request.
pub fn handle(context: &Context, request: SaslHandshakeRequest) -> SaslHandshakeResponse {
    let is_known = request.mechanism.as_str() == MECHANISM && context.version() >= 1;
    let is_first = context.connection.peer_broker.get().is_none();
    let error = if is_known && is_first {
        *context.connection.proof.lock() = Proof::Announced;
        ErrorCode::None
    } else {
        ErrorCode::IllegalSaslState
    };
    SaslHandshakeResponse { error_code: error.code(), ..SaslHandshakeResponse::default() }
}
