//! What monitoring asks of a member, see [`ottla_common::http`]. It is healthy while its log takes
//! what it is given, and ready if a leader answers and all that was committed is applied here.

use std::fmt;
use std::sync::Arc;

use ottla_common::http::Pages;
use ottla_common::net::Listener;
use ottla_common::shutdown::Shutdown;

use self::exposition::Exposition;
use crate::requests::Service;

mod exposition;

struct MemberPages(Arc<Service>);

impl Pages for MemberPages {
    fn metrics(&self) -> Result<String, fmt::Error> {
        Exposition::new(&self.0).text()
    }

    fn health(&self) -> Result<(), String> {
        self.0.health()
    }

    async fn readiness(&self) -> Result<(), String> {
        self.0.readiness().await
    }
}

/// Answers until the member stops.
pub async fn serve(listener: Listener, service: Arc<Service>, shutdown: Shutdown) {
    ottla_common::http::serve(listener, Arc::new(MemberPages(service)), shutdown).await;
}
