//! Waiting for the coordinator while a broker starts. Whoever starts brokers before the ensemble,
//! or while it has no majority, finds them working once it is there: they say what they wait for,
//! and go on until they are told to stop.

use std::time::Duration;

use ottla_common::coordination::client::ClientError;
use ottla_common::shutdown::Shutdown;
use tracing::warn;

use crate::error::Error;

/// Between two tries that failed at once.
const PAUSE: Duration = Duration::from_millis(200);

/// Asks the coordinator as often as it takes.
///
/// # Errors
/// If the coordinator refuses, or the broker is told to stop.
pub async fn until_answered<T>(
    shutdown: &Shutdown,
    mut ask: impl AsyncFnMut() -> Result<T, ClientError>,
) -> Result<T, Error> {
    loop {
        let answer = tokio::select! {
            () = shutdown.stopped() => return Err(stopped()),
            answer = ask() => answer,
        };
        match answer {
            Ok(answer) => return Ok(answer),
            Err(error @ (ClientError::Unreachable { .. } | ClientError::Unknown)) => {
                warn!(%error, "waiting for the coordinator");
            }
            Err(error) => return Err(Error::Coordinator(error.to_string())),
        }
        tokio::select! {
            () = shutdown.stopped() => return Err(stopped()),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Waits as often as it takes for what `wait` brings after a while, or does not bring.
///
/// # Errors
/// If the broker is told to stop.
pub async fn until_shown<T>(
    shutdown: &Shutdown,
    what: &str,
    mut wait: impl AsyncFnMut() -> Option<T>,
) -> Result<T, Error> {
    loop {
        let shown = tokio::select! {
            () = shutdown.stopped() => return Err(stopped()),
            shown = wait() => shown,
        };
        match shown {
            Some(shown) => return Ok(shown),
            None => warn!("waiting for the coordinator to show {what}"),
        }
    }
}

fn stopped() -> Error {
    Error::Coordinator("told to stop while waiting for it".to_owned())
}
