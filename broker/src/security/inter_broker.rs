//! How a broker proves to another that it is one. Pure.
//!
//! Whoever fetches as a follower decides what is committed, so nobody but a broker of this cluster
//! may. The brokers share a secret, which stands in the coordinator's tree: who can read it there
//! could change the ISR records themselves. Over a client's listener they prove that they know it
//! by SASL's two requests, under a mechanism of their own:
//!
//! ```text
//! dialler   SaslHandshake    mechanism OTTLA-BROKER
//! dialler   SaslAuthenticate hello:     version (1 byte), dialler's id, acceptor's id (i32 each,
//!                                       big-endian), nonce (32 bytes)
//! acceptor                   challenge: nonce (32 bytes), proof (32 bytes)
//! dialler   SaslAuthenticate proof (32 bytes)
//! acceptor                   nothing
//! ```
//!
//! A proof is HMAC-SHA256 under the secret over a word that tells the side, the hello and the
//! acceptor's nonce. Both nonces are fresh, so that nothing overheard proves anything; the ids keep
//! a proof from being passed on to a third broker, and the side's word from being sent back. What
//! is said afterwards is neither hidden nor protected: where somebody may be in the path, brokers
//! need a network, or TLS, of their own.

use hmac::{Hmac, KeyInit, Mac};
use ottla_common::types::BrokerId;
use sha2::Sha256;

/// The name of the mechanism.
pub const MECHANISM: &str = "OTTLA-BROKER";

/// The version of the handshake.
const VERSION: u8 = 1;

/// Bytes of a secret.
pub const SECRET_SIZE: usize = 32;

const NONCE_SIZE: usize = 32;
const PROOF_SIZE: usize = 32;
const HELLO_SIZE: usize = 1 + 4 + 4 + NONCE_SIZE;

const DIALLER: &[u8] = b"ottla broker dialler";
const ACCEPTOR: &[u8] = b"ottla broker acceptor";

/// Random bytes that are used once.
pub type Nonce = [u8; NONCE_SIZE];

/// What all brokers of a cluster know, and nobody else.
#[derive(Clone)]
pub struct Secret([u8; SECRET_SIZE]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Why a handshake failed. It says nothing that helps to guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The bytes are not of the handshake.
    #[error("not a message of the brokers' handshake")]
    Malformed,
    /// It is meant for another broker.
    #[error("this is not the broker that was meant")]
    OtherBroker,
    /// It does not know the secret.
    #[error("the proof is wrong")]
    WrongProof,
}

/// A handshake that waits for the other side's proof.
#[derive(Debug)]
pub struct Waiting {
    /// Who is at the other end, if it can prove it.
    pub peer: BrokerId,
    /// What both sides have said.
    pub transcript: Vec<u8>,
}

impl Secret {
    /// The secret of these bytes.
    pub fn new(bytes: [u8; SECRET_SIZE]) -> Self {
        Self(bytes)
    }

    fn mac(&self, side: &[u8], transcript: &[u8]) -> Hmac<Sha256> {
        // A key shorter than a block stands for itself with zeros behind it (RFC 2104).
        let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
        block.iter_mut().zip(self.0).for_each(|(place, byte)| *place = byte);
        let mut mac: Hmac<Sha256> = Hmac::new(&block);
        mac.update(side);
        mac.update(transcript);
        mac
    }

    fn prove(&self, side: &[u8], transcript: &[u8]) -> Vec<u8> {
        self.mac(side, transcript).finalize().into_bytes().to_vec()
    }

    fn check(&self, side: &[u8], transcript: &[u8], proof: &[u8]) -> Result<(), HandshakeError> {
        let checked = self.mac(side, transcript).verify_slice(proof);
        checked.map_err(|_| HandshakeError::WrongProof)
    }

    /// The acceptor's answer to a hello.
    ///
    /// # Errors
    /// If it is none, or meant for another broker.
    pub fn challenge(
        &self,
        hello: &[u8],
        own: BrokerId,
        nonce: Nonce,
    ) -> Result<(Vec<u8>, Waiting), HandshakeError> {
        let (peer, meant) = parse_hello(hello)?;
        if meant != own {
            return Err(HandshakeError::OtherBroker);
        }
        let transcript = [hello, &nonce].concat();
        let proof = self.prove(ACCEPTOR, &transcript);
        Ok(([&nonce, proof.as_slice()].concat(), Waiting { peer, transcript }))
    }

    /// The dialler's answer to a challenge.
    ///
    /// # Errors
    /// If it is none, or the acceptor does not know the secret.
    pub fn answer(&self, hello: &[u8], challenge: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let parts = challenge.split_at_checked(NONCE_SIZE);
        let (nonce, proof) = parts.ok_or(HandshakeError::Malformed)?;
        let transcript = [hello, nonce].concat();
        self.check(ACCEPTOR, &transcript, proof)?;
        Ok(self.prove(DIALLER, &transcript))
    }

    /// Whether the dialler's answer proves that it knows the secret.
    ///
    /// # Errors
    /// If it does not.
    pub fn accept(&self, waiting: &Waiting, answer: &[u8]) -> Result<BrokerId, HandshakeError> {
        if answer.len() != PROOF_SIZE {
            return Err(HandshakeError::Malformed);
        }
        self.check(DIALLER, &waiting.transcript, answer)?;
        Ok(waiting.peer)
    }
}

/// The dialler's first message.
pub fn hello(own: BrokerId, peer: BrokerId, nonce: Nonce) -> Vec<u8> {
    let mut hello = Vec::with_capacity(HELLO_SIZE);
    hello.push(VERSION);
    hello.extend(own.0.to_be_bytes());
    hello.extend(peer.0.to_be_bytes());
    hello.extend(nonce);
    hello
}

/// Who says hello to whom.
fn parse_hello(hello: &[u8]) -> Result<(BrokerId, BrokerId), HandshakeError> {
    let id = |bytes: &[u8; 4]| BrokerId(i32::from_be_bytes(*bytes));
    let parse = || {
        let (version, rest) = hello.split_first()?;
        let (own, rest) = rest.split_first_chunk()?;
        let (peer, nonce) = rest.split_first_chunk()?;
        let is_whole = *version == VERSION && nonce.len() == NONCE_SIZE;
        is_whole.then(|| (id(own), id(peer)))
    };
    parse().ok_or(HandshakeError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: BrokerId = BrokerId(1);
    const TWO: BrokerId = BrokerId(2);

    #[test]
    fn two_that_know_the_secret_come_to_know_each_other() {
        let secret = Secret::new([7; 32]);
        let hello = hello(ONE, TWO, [1; 32]);
        let (challenge, waiting) = secret.challenge(&hello, TWO, [2; 32]).unwrap();
        let answer = secret.answer(&hello, &challenge).unwrap();
        assert_eq!(secret.accept(&waiting, &answer), Ok(ONE));
    }

    #[test]
    fn who_does_not_know_it_proves_nothing_on_either_side() {
        let (secret, guess) = (Secret::new([7; 32]), Secret::new([8; 32]));
        let hello = hello(ONE, TWO, [1; 32]);
        let (challenge, waiting) = secret.challenge(&hello, TWO, [2; 32]).unwrap();
        assert_eq!(guess.answer(&hello, &challenge), Err(HandshakeError::WrongProof));
        let transcript = [hello.as_slice(), &[2; 32]].concat();
        let forged = guess.prove(DIALLER, &transcript);
        assert_eq!(secret.accept(&waiting, &forged), Err(HandshakeError::WrongProof));
        // What the acceptor said itself does not prove anything either.
        let echoed = challenge.get(32..).unwrap();
        assert_eq!(secret.accept(&waiting, echoed), Err(HandshakeError::WrongProof));
    }

    #[test]
    fn an_old_answer_does_not_fit_a_new_challenge() {
        let secret = Secret::new([7; 32]);
        let hello = hello(ONE, TWO, [1; 32]);
        let (challenge, _) = secret.challenge(&hello, TWO, [2; 32]).unwrap();
        let answer = secret.answer(&hello, &challenge).unwrap();
        let (_, again) = secret.challenge(&hello, TWO, [3; 32]).unwrap();
        assert_eq!(secret.accept(&again, &answer), Err(HandshakeError::WrongProof));
    }

    #[test]
    fn what_is_not_a_hello_or_not_for_this_broker_is_refused() {
        let secret = Secret::new([7; 32]);
        let good = hello(ONE, TWO, [1; 32]);
        let refused = |hello: &[u8], own| secret.challenge(hello, own, [2; 32]).unwrap_err();
        assert_eq!(refused(&good, BrokerId(3)), HandshakeError::OtherBroker);
        for length in 0..good.len() {
            assert_eq!(refused(&good[..length], TWO), HandshakeError::Malformed);
        }
        let mut other_version = good.clone();
        other_version[0] = 9;
        assert_eq!(refused(&other_version, TWO), HandshakeError::Malformed);
        assert_eq!(secret.answer(&good, &[0; 5]), Err(HandshakeError::Malformed));
    }
}
