//! DescribeClientQuotas and AlterClientQuotas: set, found by filters, refused.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::alter_client_quotas::AlterClientQuotasRequest;
use ottla_common::kafka::messages::alter_client_quotas::request::{EntityData, EntryData, OpData};
use ottla_common::kafka::messages::describe_client_quotas::request::ComponentData;
use ottla_common::kafka::messages::describe_client_quotas::{
    DescribeClientQuotasRequest, DescribeClientQuotasResponse,
};
use ottla_tests::node::Node;
use ottla_tests::raw::RawClient;

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const ANY: i8 = 2;

type Entity<'a> = &'a [(&'a str, Option<&'a str>)];
type Op<'a> = (&'a str, Option<f64>);
type Filter<'a> = [(&'a str, i8, Option<&'a str>)];
/// A filter, whether it is strict, and what it finds.
type Found<'a> = (&'a Filter<'a>, bool, &'a [&'a str]);

fn entry(entity: Entity<'_>, ops: &[Op<'_>]) -> EntryData {
    let parts = entity.iter().map(|(kind, name)| EntityData {
        entity_type: (*kind).into(),
        entity_name: name.map(Into::into),
        ..EntityData::default()
    });
    let ops = ops.iter().map(|(key, value)| OpData {
        key: (*key).into(),
        value: value.unwrap_or_default(),
        remove: value.is_none(),
        ..OpData::default()
    });
    EntryData { entity: parts.collect(), ops: ops.collect(), ..EntryData::default() }
}

async fn alter(client: &mut RawClient, version: i16, entries: Vec<EntryData>) -> Vec<ErrorCode> {
    let request = AlterClientQuotasRequest { entries, ..AlterClientQuotasRequest::default() };
    let answered = client.call(version, &request).await.unwrap().entries;
    for (asked, told) in request.entries.iter().zip(&answered) {
        assert_eq!(told.entity.len(), asked.entity.len());
        assert_eq!(told.error_code == 0, told.error_message.is_none());
    }
    answered.iter().map(|entry| ErrorCode::from_code(entry.error_code)).collect()
}

async fn describe(
    client: &mut RawClient,
    version: i16,
    (filter, strict): (&Filter<'_>, bool),
) -> DescribeClientQuotasResponse {
    let components = filter.iter().map(|(kind, match_type, name)| ComponentData {
        entity_type: (*kind).into(),
        match_type: *match_type,
        r#match: name.map(Into::into),
        ..ComponentData::default()
    });
    let request = DescribeClientQuotasRequest {
        components: components.collect(),
        strict,
        ..DescribeClientQuotasRequest::default()
    };
    client.call(version, &request).await.unwrap()
}

/// Each entity found, as `user=a client-id=*: key=value`.
fn told(response: &DescribeClientQuotasResponse) -> Vec<String> {
    let entries = response.entries.as_ref().unwrap();
    let lines = entries.iter().map(|entry| {
        let parts = entry.entity.iter().map(|part| {
            format!("{}={}", part.entity_type, part.entity_name.as_deref().unwrap_or("*"))
        });
        let values = entry.values.iter().map(|value| format!("{}={}", value.key, value.value));
        let (parts, values): (Vec<_>, Vec<_>) = (parts.collect(), values.collect());
        format!("{}: {}", parts.join(" "), values.join(" "))
    });
    lines.collect()
}

/// Whether filters find what they should among the quotas of the test.
async fn check_filters(client: &mut RawClient, version: i16) {
    let cases: [Found<'_>; 9] = [
        (
            &[("user", EXACT, Some("a b"))],
            true,
            &["user=a b: consumer_byte_rate=2000000000 producer_byte_rate=1000000000"],
        ),
        (
            &[("user", EXACT, Some("a b")), ("client-id", ANY, None)],
            true,
            &[
                "user=a b client-id=*: consumer_byte_rate=2000000000",
                "user=a b client-id=c: producer_byte_rate=1000000000",
            ],
        ),
        (&[("user", DEFAULT, None)], true, &["user=*: request_percentage=99.5"]),
        (
            &[("client-id", DEFAULT, None)],
            false,
            &[
                "client-id=*: producer_byte_rate=1000000000",
                "user=a b client-id=*: consumer_byte_rate=2000000000",
            ],
        ),
        (
            &[("client-id", EXACT, Some("c"))],
            true,
            &["client-id=c: controller_mutation_rate=1000000"],
        ),
        (&[("user", EXACT, Some("c"))], false, &[]),
        (
            &[("ip", ANY, None)],
            true,
            &["ip=192.0.2.1: connection_creation_rate=7", "ip=*: connection_creation_rate=1000000"],
        ),
        (&[("ip", EXACT, Some("192.0.2.1"))], false, &["ip=192.0.2.1: connection_creation_rate=7"]),
        (&[], true, &[]),
    ];
    for (filter, strict, expected) in cases {
        let found = told(&describe(client, version, (filter, strict)).await);
        assert_eq!(found, expected, "{filter:?} v{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_set_found_and_removed_in_every_version() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    for version in 0..=1 {
        let all = (&[][..], false);
        assert_eq!(told(&describe(&mut client, version, all).await), [""; 0], "v{version}");
        let rate = [("producer_byte_rate", Some(1e9)), ("consumer_byte_rate", Some(2e9))];
        let entries = vec![
            entry(&[("user", Some("a b"))], &rate),
            entry(&[("client-id", Some("c")), ("user", Some("a b"))], &rate[..1]),
            entry(&[("user", Some("a b")), ("client-id", None)], &rate[1..]),
            entry(&[("user", None)], &[("request_percentage", Some(99.5))]),
            entry(&[("client-id", Some("c"))], &[("controller_mutation_rate", Some(1e6))]),
            entry(&[("client-id", None)], &rate[..1]),
            entry(&[("ip", Some("192.0.2.1"))], &[("connection_creation_rate", Some(7.0))]),
            entry(&[("ip", None)], &[("connection_creation_rate", Some(1e6))]),
        ];
        let count = entries.len();
        assert_eq!(alter(&mut client, version, entries).await, vec![ErrorCode::None; count]);
        assert_eq!(told(&describe(&mut client, version, all).await).len(), count);
        check_filters(&mut client, version).await;

        let none = [("producer_byte_rate", None), ("consumer_byte_rate", None)];
        let entries = vec![
            entry(&[("user", Some("a b"))], &none),
            entry(&[("user", Some("a b")), ("client-id", Some("c"))], &none),
            entry(&[("user", Some("a b")), ("client-id", None)], &none),
            entry(&[("user", None)], &[("request_percentage", None)]),
            entry(&[("client-id", Some("c"))], &[("controller_mutation_rate", None)]),
            entry(&[("client-id", None)], &none),
            entry(&[("ip", Some("192.0.2.1"))], &[("connection_creation_rate", None)]),
            entry(&[("ip", None)], &[("connection_creation_rate", None)]),
        ];
        assert_eq!(alter(&mut client, version, entries).await, vec![ErrorCode::None; count]);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_set_is_refused_and_nothing_of_it_is_set() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    let rate = [("producer_byte_rate", Some(1e9))];
    let user: Entity<'_> = &[("user", Some("u"))];
    let good = ("consumer_byte_rate", Some(5e9));
    let refused = [
        ("nobody", entry(&[], &rate)),
        ("a group", entry(&[("group", Some("g"))], &rate)),
        ("no name", entry(&[("user", Some(""))], &rate)),
        ("two users", entry(&[("user", Some("u")), ("user", Some("v"))], &rate)),
        ("a user's address", entry(&[("user", Some("u")), ("ip", Some("192.0.2.1"))], &rate)),
        (
            "no address",
            entry(&[("ip", Some("300.0.0.1"))], &[("connection_creation_rate", Some(1.0))]),
        ),
        ("bytes of an address", entry(&[("ip", None)], &rate)),
        ("connections of a user", entry(user, &[good, ("connection_creation_rate", Some(1.0))])),
        ("no such key", entry(user, &[good, ("bytes", Some(1.0))])),
        ("zero", entry(user, &[good, ("producer_byte_rate", Some(0.0))])),
        ("negative", entry(user, &[good, ("request_percentage", Some(-1.0))])),
        ("a fraction", entry(user, &[good, ("producer_byte_rate", Some(1.5))])),
        ("too large", entry(user, &[good, ("producer_byte_rate", Some(1e20))])),
        ("not a number", entry(user, &[good, ("request_percentage", Some(f64::NAN))])),
        ("a key twice", entry(user, &[good, good])),
    ];
    for (what, entry) in refused {
        let codes = alter(&mut client, 1, vec![entry]).await;
        assert_eq!(codes, [ErrorCode::InvalidRequest], "{what}");
    }
    let twice = vec![entry(user, &rate), entry(user, &[good]), entry(&[("user", None)], &rate)];
    let codes = alter(&mut client, 1, twice).await;
    assert_eq!(codes, [ErrorCode::InvalidRequest, ErrorCode::InvalidRequest, ErrorCode::None]);
    let request = AlterClientQuotasRequest {
        entries: vec![entry(user, &rate)],
        validate_only: true,
        ..AlterClientQuotasRequest::default()
    };
    assert_eq!(client.call(1, &request).await.unwrap().entries[0].error_code, 0);
    let all = describe(&mut client, 1, (&[], false)).await;
    assert_eq!(told(&all), ["user=*: producer_byte_rate=1000000000"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_means_nothing_is_refused() {
    let node = Node::start(&[]).await.unwrap();
    let mut client = node.client().await.unwrap();
    let invalid = ErrorCode::InvalidRequest;
    let refused: [(&Filter<'_>, ErrorCode); 8] = [
        (&[("", ANY, None)], invalid),
        (&[("user", ANY, None), ("user", DEFAULT, None)], invalid),
        (&[("user", ANY, None), ("ip", ANY, None)], invalid),
        (&[("user", EXACT, None)], invalid),
        (&[("user", DEFAULT, Some("u"))], invalid),
        (&[("user", ANY, Some("u"))], invalid),
        (&[("user", 3, None)], invalid),
        (&[("group", ANY, None)], ErrorCode::UnsupportedVersion),
    ];
    for (filter, error) in refused {
        for version in 0..=1 {
            let response = describe(&mut client, version, (filter, false)).await;
            assert_eq!(ErrorCode::from_code(response.error_code), error, "{filter:?}");
            assert!(response.entries.is_none() && response.error_message.is_some());
        }
    }
    node.stop().await;
}
