//! What monitoring asks, on an address of its own (`http.listen`, off unless it is set):
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | all figures, as Prometheus reads them |
//! | `/health` | 200 while the process serves and its log takes what it is given, else 503 |
//! | `/ready` | 200 if a leader answers and all that was committed is applied here, else 503 |
//!
//! It tells nothing that a client could not ask; still, do not show it to the world.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use ottla_common::net::Listener;
use ottla_common::shutdown::Shutdown;

use self::exposition::Exposition;
use crate::limits::HTTP_DEADLINE_MS;
use crate::requests::Service;

mod exposition;

/// How long a member may take to prove that it is up to date.
const READY_PATIENCE: Duration = Duration::from_secs(2);

/// Answers until the member stops.
pub async fn serve(mut listener: Listener, service: Arc<Service>, shutdown: Shutdown) {
    let deadline = Duration::from_millis(HTTP_DEADLINE_MS);
    loop {
        let (stream, peer, permit) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.stopped() => return,
        };
        let (service, stop) = (Arc::clone(&service), shutdown.clone());
        shutdown.spawn(async move {
            let answering = service_fn(move |request| answer(Arc::clone(&service), request));
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(deadline).keep_alive(false);
            let serving = server.serve_connection(TokioIo::new(stream), answering);
            tokio::select! {
                served = tokio::time::timeout(deadline, serving) => {
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

async fn answer<B>(
    service: Arc<Service>,
    request: Request<B>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, kind, body) = match request.uri().path() {
        _ if !is_read => (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "GET only\n".to_owned()),
        "/metrics" => match Exposition::new(&service).text() {
            Ok(text) => (StatusCode::OK, METRICS, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{error}\n")),
        },
        "/health" => verdict(service.health()),
        "/ready" => {
            let proof = tokio::time::timeout(READY_PATIENCE, service.readiness()).await;
            let late = || Err("no leader answers in time".to_owned());
            verdict(proof.unwrap_or_else(|_| late()))
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
