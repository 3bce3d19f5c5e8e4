//! DescribeCluster (key 60), versions 0 to 2.
//!
//! Behaviour:
//! - The cluster's id, its controller, and the live brokers under the addresses of the client's
//!   listener.
//!
//! Version notes: 1 endpoint type (KIP-919): brokers know only of brokers; 2 fenced brokers: there
//! are none, a broker is registered or it is not there.
//!
//! Missing: nothing.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::describe_cluster::response::DescribeClusterBroker;
use ottla_common::kafka::messages::describe_cluster::{
    DescribeClusterRequest, DescribeClusterResponse,
};

use super::authorization::CLUSTER_OPERATIONS;
use super::context::Context;

/// The endpoint types of KIP-919.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Serves a request.
pub fn handle(context: &Context, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let refused = |error: ErrorCode, message: String| DescribeClusterResponse {
        error_code: error.code(),
        error_message: Some(message.into()),
        ..DescribeClusterResponse::default()
    };
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            let text = "The request was sent to an endpoint of type BROKER, but we wanted an \
                        endpoint of type CONTROLLER";
            return refused(ErrorCode::MismatchedEndpointType, text.to_owned());
        }
        other => {
            let text = format!("Unsupported endpoint type {other}");
            return refused(ErrorCode::UnsupportedEndpointType, text);
        }
    }
    let image = &context.image;
    let brokers = image.brokers.values().filter_map(|broker| {
        let endpoint = context.endpoint(broker)?;
        Some(DescribeClusterBroker {
            broker_id: broker.id.0,
            host: endpoint.host.as_str().into(),
            port: i32::from(endpoint.port),
            rack: broker.rack.as_deref().map(Into::into),
            ..DescribeClusterBroker::default()
        })
    });
    let wants_operations = request.include_cluster_authorized_operations;
    DescribeClusterResponse {
        cluster_id: image.cluster_id.as_deref().unwrap_or_default().into(),
        controller_id: image.controller.map_or(-1, |id| id.0),
        brokers: brokers.collect(),
        cluster_authorized_operations: if wants_operations { CLUSTER_OPERATIONS } else { i32::MIN },
        ..DescribeClusterResponse::default()
    }
}
