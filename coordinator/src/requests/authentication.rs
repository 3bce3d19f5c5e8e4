//! How a connection proves who is behind it.

use std::sync::Arc;

use ottla_common::coordination::protocol::CoordinationError;

use super::sasl::Exchange;
use super::session_queue::Conversation;
use crate::limits::IDENTITIES_MAX;
use crate::tree::{Identity, acl};
use crate::watches::{Answer, Closed};

/// How many random bytes make a nonce.
const NONCE_SIZE: usize = 18;

impl Conversation {
    /// Takes a proof.
    pub(super) fn authenticate(&mut self, xid: u64, scheme: &str, credential: &[u8]) {
        let identity = match scheme {
            "digest" => acl::digest_identity(credential),
            // The address is known without proof.
            "ip" => return self.reply(xid, Ok(Answer::Done)),
            _ => None,
        };
        if identity.is_some_and(|identity| self.add_identity(identity)) {
            self.reply(xid, Ok(Answer::Done));
        } else {
            self.refuse(xid);
        }
    }

    /// Takes the client's token: an empty one asks for the challenge, the next one answers it.
    pub(super) fn authenticate_by_sasl(&mut self, xid: u64, token: &[u8]) {
        let is_proved = self.identities.iter().any(|identity| identity.scheme == "sasl");
        match self.sasl.take() {
            // Who has proved who he is becomes nobody else; some clients send an empty token last.
            _ if is_proved && token.is_empty() => self.reply(xid, Ok(Answer::Token(Vec::new()))),
            None if !is_proved && token.is_empty() => {
                let Ok(nonce) = self.service.options.secrets.draw::<NONCE_SIZE>() else {
                    return self.refuse(xid);
                };
                let nonce = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, nonce);
                let exchange = Exchange::new(nonce);
                self.reply(xid, Ok(Answer::Token(exchange.challenge())));
                self.sasl = Some(exchange);
            }
            None => self.refuse(xid),
            Some(exchange) => {
                let proved = exchange.verify(token, &self.service.options.sasl.users);
                let proved = proved.inspect_err(|error| {
                    let session_id = self.session_id();
                    tracing::info!(session_id = %session_id, %error, "SASL failed");
                });
                let Ok(proved) = proved else { return self.refuse(xid) };
                let identity = Identity { scheme: "sasl".to_owned(), id: proved.user };
                if !self.add_identity(identity) {
                    return self.refuse(xid);
                }
                self.must_authenticate = false;
                self.reply(xid, Ok(Answer::Token(proved.token)));
            }
        }
    }

    /// Notes what was proved. False if that is too much.
    fn add_identity(&mut self, identity: Identity) -> bool {
        if self.identities.contains(&identity) {
            return true;
        }
        if self.identities.len() >= IDENTITIES_MAX {
            return false;
        }
        let mut identities = self.identities.to_vec();
        if self.service.is_super(&identity) {
            identities.push(Identity { scheme: acl::SUPER.to_owned(), id: String::new() });
        }
        identities.push(identity);
        self.identities = identities.into();
        let identities = Arc::clone(&self.identities);
        self.service.live.set_identities(self.connection_id, identities);
        true
    }

    /// What was to be proved was not, so the connection ends.
    fn refuse(&self, xid: u64) {
        self.reply(xid, Err(CoordinationError::AuthFailed));
        self.outbox.close(Closed::Because(CoordinationError::AuthFailed));
    }
}
