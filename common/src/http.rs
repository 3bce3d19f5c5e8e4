//! What monitoring asks of a server, on an address of its own (`http.listen`, off unless it is
//! set):
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | all figures, as Prometheus reads them |
//! | `/health` | 200 while the process serves, else 503 |
//! | `/ready` | 200 if it serves as part of its cluster, else 503 |
//!
//! It tells nothing that a client could not ask; still, do not show it to the world.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::{MetricEncoder, NoLabelSet};

use crate::metrics::{BOUNDS_MICROS, Durations};
use crate::net::Listener;
use crate::shutdown::Shutdown;

/// How long a request may take, from the connection on.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a server may take to prove that it is ready.
const READY_PATIENCE: Duration = Duration::from_secs(2);

/// What a server tells. An error says why not.
pub trait Pages: Send + Sync + 'static {
    /// All figures, as Prometheus reads them.
    fn metrics(&self) -> Result<String, fmt::Error>;

    /// Whether it serves.
    fn health(&self) -> Result<(), String>;

    /// Whether it serves as part of its cluster.
    fn readiness(&self) -> impl Future<Output = Result<(), String>> + Send;
}

/// Answers until the server stops.
pub async fn serve<P: Pages>(mut listener: Listener, pages: Arc<P>, shutdown: Shutdown) {
    loop {
        let (stream, peer, permit) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.stopped() => return,
        };
        let (pages, stop) = (Arc::clone(&pages), shutdown.clone());
        shutdown.spawn(async move {
            let answering = service_fn(move |request| answer(Arc::clone(&pages), request));
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(DEADLINE).keep_alive(false);
            let serving = server.serve_connection(TokioIo::new(stream), answering);
            tokio::select! {
                served = tokio::time::timeout(DEADLINE, serving) => {
                    if let Ok(Err(error)) = served {
                        tracing::debug!(%peer, %error, "HTTP connection broke");
                    }
                }
                () = stop.stopped() => {}
            }
            drop(permit);
        });
    }
}

async fn answer<P: Pages, B>(
    pages: Arc<P>,
    request: Request<B>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, kind, body) = match request.uri().path() {
        _ if !is_read => (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "GET only\n".to_owned()),
        "/metrics" => match pages.metrics() {
            Ok(text) => (StatusCode::OK, METRICS, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{error}\n")),
        },
        "/health" => verdict(pages.health()),
        "/ready" => {
            let proof = tokio::time::timeout(READY_PATIENCE, pages.readiness()).await;
            verdict(proof.unwrap_or_else(|_| Err("no proof in time".to_owned())))
        }
        _ => (StatusCode::NOT_FOUND, PLAIN, "/metrics, /health, /ready\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    Ok(response)
}

const PLAIN: &str = "text/plain; charset=utf-8";
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

fn verdict(result: Result<(), String>) -> (StatusCode, &'static str, String) {
    match result {
        Ok(()) => (StatusCode::OK, PLAIN, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{reason}\n")),
    }
}

/// Writes a histogram of durations, in seconds.
pub fn encode_durations(
    mut encoder: MetricEncoder<'_>,
    durations: &Durations,
) -> Result<(), fmt::Error> {
    let bounds = BOUNDS_MICROS.iter().map(|micros| *micros as f64 / 1_000_000.0);
    let buckets: Vec<(f64, u64)> =
        bounds.chain([f64::INFINITY]).zip(durations.counts.iter().copied()).collect();
    let sum = durations.sum_micros as f64 / 1_000_000.0;
    encoder.encode_histogram::<NoLabelSet>(sum, durations.count(), &buckets, None)
}
