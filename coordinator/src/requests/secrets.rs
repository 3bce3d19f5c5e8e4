//! Where numbers come from that nobody may guess: sessions' passwords, nonces.

use std::fmt;
use std::sync::Arc;

use ottla_common::coordination::protocol::CoordinationError;

/// Fills bytes.
type Fill = dyn Fn(&mut [u8]) -> Result<(), getrandom::Error> + Send + Sync;

/// A source of randomness. Clones share it.
#[derive(Clone)]
pub struct Secrets(Arc<Fill>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

impl Default for Secrets {
    /// The system's.
    fn default() -> Self {
        Self(Arc::new(getrandom::fill))
    }
}

impl Secrets {
    /// What `fill` gives, which a simulator can foresee.
    pub fn foreseen(fill: impl Fn(&mut [u8]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(move |bytes| {
            fill(bytes);
            Ok(())
        }))
    }

    /// Bytes that nobody can guess.
    ///
    /// # Errors
    /// [`CoordinationError::Unavailable`] if the system has none.
    pub fn draw<const SIZE: usize>(&self) -> Result<[u8; SIZE], CoordinationError> {
        let mut bytes = [0; SIZE];
        (self.0)(&mut bytes).map_err(|error| {
            tracing::error!(%error, "the system gives no randomness");
            CoordinationError::Unavailable
        })?;
        Ok(bytes)
    }
}
