//! The figures that clients pushed (KIP-714), under the names `ottla_broker_client_` and theirs,
//! each with the client's id and instance id. `telemetry_clients_info` has the rest that is known
//! of a client.

use std::fmt;

use ottla_common::types::Uuid;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::telemetry::clients::{ClientMetadata, TelemetryFigures};
use crate::telemetry::otlp::Kind;

const ID: &str = "client_id";
const INSTANCE_ID: &str = "client_instance_id";

/// Writes them all.
pub fn encode(figures: &TelemetryFigures, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let (name, help) = ("telemetry_clients", "Clients that push their metrics");
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Info)?;
    for client in &figures.clients {
        let (id, rest) = told_of(client);
        family.encode_family(&id)?.encode_info(&rest)?;
    }
    let (name, help) = ("telemetry_series_left_out", "Series of clients beyond the bound");
    let mut counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    counter.encode_counter::<NoLabelSet, _, u64>(&figures.left_out, None)?;
    for (name, (kind, values)) in &figures.series {
        let name = format!("client_{name}");
        let metric_type = match kind {
            Kind::Gauge => MetricType::Gauge,
            Kind::Counter => MetricType::Counter,
        };
        let mut family = encoder.encode_descriptor(&name, "Told by clients", None, metric_type)?;
        for (place, own, value) in values {
            let Some((id, client)) = figures.clients.get(*place) else { continue };
            let instance = id.to_string();
            let mut labels = vec![(ID, client.client_id.as_str()), (INSTANCE_ID, &instance)];
            let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            labels.extend(own.filter(|(name, _)| ![ID, INSTANCE_ID].contains(name)));
            let mut series = family.encode_family(&labels)?;
            match kind {
                Kind::Gauge => series.encode_gauge(value)?,
                Kind::Counter => series.encode_counter::<NoLabelSet, _, f64>(value, None)?,
            }
        }
    }
    Ok(())
}

type Label = (&'static str, String);

/// What tells a client from all others, and the rest that is known.
fn told_of((id, client): &(Uuid, ClientMetadata)) -> ([Label; 2], [Label; 3]) {
    let rest = [
        ("software_name", client.software_name.clone()),
        ("software_version", client.software_version.clone()),
        ("address", client.address.to_string()),
    ];
    ([(ID, client.client_id.clone()), (INSTANCE_ID, id.to_string())], rest)
}
