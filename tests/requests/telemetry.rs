//! Clients that are asked for their metrics, push them, and are seen by monitoring (KIP-714).

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::describe_configs::request::DescribeConfigsResource;
use ottla_common::kafka::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResponse,
};
use ottla_common::kafka::messages::get_telemetry_subscriptions::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse,
};
use ottla_common::kafka::messages::incremental_alter_configs::IncrementalAlterConfigsRequest;
use ottla_common::kafka::messages::incremental_alter_configs::request::{
    AlterConfigsResource, AlterableConfig,
};
use ottla_common::kafka::messages::list_config_resources::ListConfigResourcesRequest;
use ottla_common::kafka::messages::push_telemetry::PushTelemetryRequest;
use ottla_common::types::Uuid;
use ottla_tests::node::Node;
use ottla_tests::raw::RawClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The resource type.
const CLIENT_METRICS: i8 = 16;

/// A gauge `org.apache.kafka.producer.x` of 2.5 with the label `topic`, `t`, as OpenTelemetry
/// writes it.
fn metrics() -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        let size = u8::try_from(bytes.len()).unwrap();
        [&[number << 3 | 2, size], bytes].concat()
    };
    let value = [&[4 << 3 | 1][..], &2.5_f64.to_le_bytes()].concat();
    let label = field(7, &[field(1, b"topic"), field(2, &field(1, b"t"))].concat());
    let gauge = field(5, &field(1, &[value, label].concat()));
    let metric = field(2, &[field(1, b"org.apache.kafka.producer.x"), gauge].concat());
    field(1, &field(2, &metric))
}

/// Sets these configs of the subscription `s`, or removes them.
async fn alter(client: &mut RawClient, configs: &[(&str, Option<&str>)]) -> i16 {
    let configs = configs.iter().map(|(name, value)| AlterableConfig {
        name: (*name).into(),
        config_operation: i8::from(value.is_none()),
        value: value.map(Into::into),
        ..AlterableConfig::default()
    });
    let resource = AlterConfigsResource {
        resource_type: CLIENT_METRICS,
        resource_name: "s".into(),
        configs: configs.collect(),
        ..AlterConfigsResource::default()
    };
    let request =
        IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
    client.call(1, &request).await.unwrap().responses[0].error_code
}

async fn subscription(client: &mut RawClient, id: Uuid) -> GetTelemetrySubscriptionsResponse {
    let request = GetTelemetrySubscriptionsRequest { client_instance_id: id, ..Default::default() };
    client.call(0, &request).await.unwrap()
}

/// How many subscriptions there are by either version.
async fn listed(client: &mut RawClient) -> [usize; 2] {
    let mut counts = [0; 2];
    for (version, count) in [0, 1].into_iter().zip(&mut counts) {
        let mut request = ListConfigResourcesRequest::default();
        if version == 1 {
            request.resource_types = vec![CLIENT_METRICS];
        }
        *count = client.call(version, &request).await.unwrap().config_resources.len();
    }
    counts
}

async fn described(client: &mut RawClient) -> DescribeConfigsResponse {
    let resource = DescribeConfigsResource {
        resource_type: CLIENT_METRICS,
        resource_name: "s".into(),
        configuration_keys: None,
        ..Default::default()
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    client.call(4, &request).await.unwrap()
}

async fn figures(node: &Node) -> String {
    let mut stream = TcpStream::connect(node.http_address().unwrap()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_pushes_what_it_is_asked_for() {
    let node = Node::start(&[("http.listen", "127.0.0.1:0")]).await.unwrap();
    let mut client = node.client().await.unwrap();

    // Nobody has asked for anything yet.
    let nothing = subscription(&mut client, Uuid::ZERO).await;
    assert_eq!(nothing.error_code, 0);
    assert!(nothing.requested_metrics.is_empty() && !nothing.client_instance_id.is_zero());
    let id = nothing.client_instance_id;
    let again = subscription(&mut client, id).await;
    assert_eq!(again.error_code, ErrorCode::ThrottlingQuotaExceeded.code());

    // An administrator does.
    let bad = [("interval.ms", Some("5"))];
    assert_eq!(alter(&mut client, &bad).await, ErrorCode::InvalidRequest.code());
    let bad = [("match", Some("nobody=.*"))];
    assert_eq!(alter(&mut client, &bad).await, ErrorCode::InvalidConfig.code());
    assert_eq!(listed(&mut client).await, [0, 0]);
    let set = [
        ("metrics", Some("org.apache.kafka.producer.")),
        ("interval.ms", Some("100")),
        ("match", Some("client_source_address=127\\.0\\.0\\.1")),
    ];
    assert_eq!(alter(&mut client, &set).await, 0);
    assert_eq!(listed(&mut client).await, [1, 1]);
    let configs = described(&mut client).await.results.remove(0).configs;
    let shown = configs.iter().map(|config| (&*config.name, config.config_source));
    assert_eq!(shown.collect::<Vec<_>>(), [("interval.ms", 7), ("match", 7), ("metrics", 7)]);

    // The client is told at once, since what it was told before is old.
    let told = subscription(&mut client, id).await;
    assert_eq!((told.error_code, told.client_instance_id), (0, id));
    assert_eq!(told.requested_metrics[0], *"org.apache.kafka.producer.");
    assert_eq!((told.push_interval_ms, told.telemetry_max_bytes), (100, 1 << 20));
    assert!(!told.delta_temporality && told.accepted_compression_types.contains(&4));
    let push = PushTelemetryRequest {
        client_instance_id: id,
        subscription_id: told.subscription_id,
        metrics: metrics().into(),
        ..PushTelemetryRequest::default()
    };
    let stale = PushTelemetryRequest { subscription_id: nothing.subscription_id, ..push.clone() };
    let error = client.call(0, &stale).await.unwrap().error_code;
    assert_eq!(error, ErrorCode::UnknownSubscriptionId.code());
    assert_eq!(subscription(&mut client, id).await.error_code, 0, "it may ask for the new one");
    let last = PushTelemetryRequest { terminating: true, ..push };
    assert_eq!(client.call(0, &last).await.unwrap().error_code, 0);
    let error = client.call(0, &last).await.unwrap().error_code;
    assert_eq!(error, ErrorCode::InvalidRequest.code(), "nothing comes after the last");

    let figures = figures(&node).await;
    let line = figures.lines().find(|line| line.starts_with("ottla_broker_client_producer_x{"));
    let line = line.unwrap_or_else(|| panic!("the series is not in {figures}"));
    assert!(line.contains(&format!("client_instance_id=\"{id}\"")) && line.ends_with(" 2.5"));
    assert!(line.contains("topic=\"t\""), "{line}");
    assert!(figures.contains("ottla_broker_telemetry_clients_info{"), "{figures}");

    let none = [("metrics", None), ("interval.ms", None), ("match", None)];
    assert_eq!(alter(&mut client, &none).await, 0);
    assert_eq!(listed(&mut client).await, [0, 0]);
    node.stop().await;
}
