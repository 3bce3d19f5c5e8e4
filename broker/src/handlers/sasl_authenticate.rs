//! SaslAuthenticate (key 36), versions 0 to 2.
//!
//! Behaviour:
//! - Carries the proofs of two brokers that come to know each other, see
//!   [`inter_broker`](crate::security::inter_broker). A wrong one is SASL_AUTHENTICATION_FAILED and
//!   the handshake begins anew.
//! - Without a handshake before it is ILLEGAL_SASL_STATE.
//!
//! Version notes: 1 session lifetime (there is none); 2 flexible.
//!
//! Missing: mechanisms for clients.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::sasl_authenticate::{
    SaslAuthenticateRequest, SaslAuthenticateResponse,
};
use tracing::warn;

use super::context::Context;
use crate::network::Proof;
use crate::security::inter_broker::{HandshakeError, Nonce, Waiting};

/// Serves a request.
pub fn handle(context: &Context, request: SaslAuthenticateRequest) -> SaslAuthenticateResponse {
    match step(context, &request.auth_bytes) {
        Ok(auth_bytes) => SaslAuthenticateResponse {
            auth_bytes: auth_bytes.into(),
            ..SaslAuthenticateResponse::default()
        },
        Err((error, message)) => SaslAuthenticateResponse {
            error_code: error.code(),
            error_message: Some(message.into()),
            ..SaslAuthenticateResponse::default()
        },
    }
}

fn step(context: &Context, auth_bytes: &[u8]) -> Result<Vec<u8>, (ErrorCode, String)> {
    let failed = |error: HandshakeError| {
        warn!(peer = %context.connection.peer, %error, "somebody failed to prove to be a broker");
        (ErrorCode::SaslAuthenticationFailed, error.to_string())
    };
    let (secret, own) = (&context.parts.secret, context.parts.broker_id);
    let mut proof = context.connection.proof.lock();
    match std::mem::take(&mut *proof) {
        Proof::None => {
            let message = "SaslHandshake has to come first".to_owned();
            Err((ErrorCode::IllegalSaslState, message))
        }
        Proof::Announced => {
            let mut nonce = Nonce::default();
            getrandom::fill(&mut nonce)
                .map_err(|error| (ErrorCode::UnknownServerError, error.to_string()))?;
            let (challenge, Waiting { peer, transcript }) =
                secret.challenge(auth_bytes, own, nonce).map_err(failed)?;
            *proof = Proof::Challenged { peer, transcript };
            Ok(challenge)
        }
        Proof::Challenged { peer, transcript } => {
            let waiting = Waiting { peer, transcript };
            let peer = secret.accept(&waiting, auth_bytes).map_err(failed)?;
            // A connection that has proved one broker does not become another.
            let _ = context.connection.peer_broker.set(peer);
            Ok(Vec::new())
        }
    }
}
