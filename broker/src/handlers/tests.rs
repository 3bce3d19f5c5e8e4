//! The table of APIs.

use super::*;

#[test]
fn the_table_is_in_order_and_within_the_schema() {
    for pair in APIS.windows(2) {
        assert!(pair[0].key.code() < pair[1].key.code(), "{} is out of order", pair[1].key);
    }
    for api in APIS {
        assert!(api.key.has_version(api.min) && api.key.has_version(api.max), "{}", api.key);
        assert_eq!(api.min, api.key.min_version(), "{} could be served from lower on", api.key);
        assert!(api.advertised_min <= api.min);
    }
}

#[test]
fn only_versions_of_the_table_are_found() {
    assert!(find(ApiKey::Produce, 13).is_some());
    assert!(find(ApiKey::Produce, 2).is_none());
    assert!(find(ApiKey::Fetch, 19).is_none());
    // Not final in Kafka.
    assert!(find(ApiKey::InitProducerId, 6).is_none());
    assert!(find(ApiKey::ShareFetch, 1).is_none());
}

#[test]
fn every_handler_of_the_folder_is_in_the_table() {
    let shared = [
        "mod",
        "context",
        "charging",
        "authorization",
        "groups",
        "topics",
        "config_resources",
        "tests",
    ];
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/handlers");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.filter_map(|name| Some(name.to_str()?.strip_suffix(".rs")?.to_owned()));
    let handlers = names.filter(|name| !shared.contains(&name.as_str())).count();
    assert_eq!(handlers, APIS.len());
}
