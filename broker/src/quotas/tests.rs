//! Stories of clients that use more than they may.

use std::fmt::Write as _;

use ottla_common::cluster_tree::QuotaEntity;

use super::*;
use crate::config::Overrides;

const CONFIG: QuotasConfig = QuotasConfig {
    window_count: 11,
    window_size_s: 1,
    controller_window_count: 11,
    controller_window_size_s: 1,
};

fn held_to(quotas: &Quotas, text: &str) {
    let configs: Vec<(QuotaEntity, Overrides)> = text
        .split(',')
        .filter(|text| !text.trim().is_empty())
        .map(|text| {
            let words: Vec<&str> = text.split_whitespace().collect();
            let name = Some(words[1].to_owned());
            let entity = match words[0] {
                "user" => QuotaEntity::User(name),
                "client" => QuotaEntity::Client(name),
                _ => QuotaEntity::Ip(name),
            };
            (entity, Overrides::from([(words[2].to_owned(), words[3].to_owned())]))
        })
        .collect();
    let configs = configs.iter().map(|(entity, overrides)| (entity.clone(), overrides));
    quotas.set(ClientLimits::new(configs));
}

/// Plays a script. Each line begins with a time in milliseconds; what a client does is answered
/// with how long it has to wait.
fn play(script: &str) -> String {
    let quotas = Quotas::new(&CONFIG);
    let mut told = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (at, rest) = line.split_once(' ').unwrap();
        let at: u64 = at.parse().unwrap();
        if let Some(limits) = rest.strip_prefix("limits") {
            held_to(&quotas, limits);
            continue;
        }
        let words: Vec<&str> = rest.split_whitespace().collect();
        let client = || words[1].split_once('/').unwrap();
        let value = || words[2].parse::<f64>().unwrap();
        let answer = match words[0] {
            "produce" => quotas.record(Usage::Produce, client(), value(), at).to_string(),
            "fetch" => quotas.record(Usage::Fetch, client(), value(), at).to_string(),
            "run" => quotas.record(Usage::Request, client(), value(), at).to_string(),
            "back" => {
                quotas.take_back(Usage::Fetch, client(), value(), at);
                "back".to_owned()
            }
            "mutate" => format!("{:?}", quotas.mutate(client(), value(), at)),
            "anyway" => quotas.mutate_anyway(client(), value(), at).to_string(),
            "connect" => format!("{:?}", quotas.connect(words[1].parse().unwrap(), at)),
            other => panic!("what is {other}?"),
        };
        let _ = writeln!(told, "{line}: {answer}");
    }
    told
}

fn check(story: &str) {
    let lines = story.lines().map(str::trim).filter(|line| !line.is_empty());
    let story: String = lines.map(|line| format!("{line}\n")).collect();
    let told = |line: &str| line.rsplit_once(": ").map_or(line, |(line, _)| line).to_owned();
    let script: Vec<String> = story.lines().map(told).collect();
    let limits = |line: &&str| !line.contains(" limits");
    let expected: Vec<&str> = story.lines().filter(limits).collect();
    assert_eq!(play(&script.join("\n")).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn bytes_are_paid_with_time() {
    check(
        "0 limits client c producer_byte_rate 100
        0 produce u/c 1000: 0
        0 produce u/d 1000000: 0
        0 fetch u/c 1000000: 0
        10 produce u/c 500: 4990
        5010 produce v/c 0: 4990
        11000 produce u/c 100: 0
        11000 limits
        11000 produce u/c 1000000: 0",
    );
}

#[test]
fn a_new_limit_counts_what_was_used_before() {
    check(
        "0 limits user u consumer_byte_rate 100
        0 fetch u/a 600: 0
        0 fetch u/b 400: 0
        1 limits user u consumer_byte_rate 50
        1 fetch u/c 0: 9999
        2 back u/c 500: back
        2 fetch u/c 0: 0",
    );
}

#[test]
fn a_slow_request_stops_nobody_for_more_than_a_window() {
    check(
        "0 limits user u request_percentage 10
        0 run u/a 90: 0
        0 run u/a 50: 1000
        0 run u/a 5000: 1000",
    );
}

#[test]
fn partitions_are_refused_while_some_are_owed() {
    check(
        "0 limits user u controller_mutation_rate 1
        0 mutate u/c 13: Ok(())
        0 mutate u/c 1: Err(2000)
        1500 mutate u/c 1: Err(500)
        2000 mutate u/c 1: Ok(())
        2000 mutate u/c 1: Err(1000)
        2000 anyway u/c 3: 4000
        2000 mutate v/c 1000: Ok(())",
    );
}

#[test]
fn connections_beyond_the_rate_do_not_count() {
    let mut story = String::from("0 limits ip 10.0.0.1 connection_creation_rate 2\n");
    for _ in 0..20 {
        story.push_str("0 connect 10.0.0.1: Ok(())\n");
    }
    story.push_str(
        "0 connect 10.0.0.1: Err(500)
        0 connect 10.0.0.1: Err(500)
        0 connect 10.0.0.2: Ok(())
        10400 connect 10.0.0.1: Err(100)
        10500 connect 10.0.0.1: Ok(())",
    );
    check(&story);
}
