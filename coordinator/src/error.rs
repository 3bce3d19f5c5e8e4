//! Why a member cannot start or go on.

use ottla_common::config::ConfigError;

use crate::consensus::StartError;

/// The crate's error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The member's state cannot be taken up.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The system refused something.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
