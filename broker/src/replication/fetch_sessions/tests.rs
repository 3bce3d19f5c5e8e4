//! Stories of fetch sessions. A line is what the client sends, and what it is told: `fetch
//! <session> <epoch> [topic:offset ...] [-topic ...] | topic=<records>@<high watermark> ...`.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use super::*;

use std::fmt::Write;

/// Plays a story; what each line is told stands after `=>`.
fn play(sessions: &FetchSessions, story: &str) -> String {
    let mut told = String::new();
    for (number, line) in story.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
        let command = line.split("=>").next().unwrap().trim();
        let now_ms = number as u64;
        writeln!(told, "{command} => {}", answer(sessions, command, now_ms)).unwrap();
    }
    told
}

fn answer(sessions: &FetchSessions, command: &str, now_ms: u64) -> String {
    let (asked, news) = command.split_once('|').unwrap_or((command, ""));
    let request = match parse(asked) {
        Some(request) => request,
        None => panic!("cannot read {command:?}"),
    };
    let context = match sessions.begin(request, now_ms, 70 + now_ms as i32) {
        Ok(context) => context,
        Err(error) => return format!("{error:?}"),
    };
    let order: Vec<_> = context.wanted.iter().map(name_and_offset).collect();
    let news: Vec<_> = context.wanted.iter().map(|wanted| find_news(news, wanted)).collect();
    match context.finish(&news) {
        Err(error) => format!("{error:?}"),
        Ok(selection) => {
            let told = context.wanted.iter().zip(&selection.is_included);
            let told: Vec<_> = told.filter(|(_, is_in)| **is_in).map(|(w, _)| name(w)).collect();
            let (session_id, order, told) = (selection.session_id, words(order), words(told));
            format!("session {session_id} reads {order} tells {told}")
        }
    }
}

fn words<S: AsRef<str>>(words: Vec<S>) -> String {
    let words: Vec<_> = words.iter().map(AsRef::as_ref).collect();
    if words.is_empty() { "nothing".to_owned() } else { words.join(" ") }
}

fn parse(asked: &str) -> Option<SessionRequest> {
    let mut words = asked.split_whitespace().skip_while(|word| *word != "fetch").skip(1);
    let mut request = SessionRequest {
        session_id: words.next()?.parse().ok()?,
        session_epoch: words.next()?.parse().ok()?,
        uses_topic_ids: asked.contains("by-id"),
        ..SessionRequest::default()
    };
    for word in words.filter(|word| *word != "by-id") {
        match word.strip_prefix('-') {
            Some(topic) => request.forgotten.push((TopicKey::Name(topic.into()), 0)),
            None => {
                let (topic, offset) = word.split_once(':')?;
                request.wanted.push(WantedPartition {
                    key: (TopicKey::Name(topic.into()), 0),
                    current_leader_epoch: -1,
                    fetch_offset: offset.parse().ok()?,
                    last_fetched_epoch: -1,
                    log_start_offset: -1,
                    max_bytes: 1000,
                });
            }
        }
    }
    Some(request)
}

fn name(wanted: &WantedPartition) -> &str {
    match &wanted.key.0 {
        TopicKey::Name(name) => name,
        TopicKey::Id(_) => "?",
    }
}

fn name_and_offset(wanted: &WantedPartition) -> String {
    format!("{}:{}", name(wanted), wanted.fetch_offset)
}

/// `a=3@10`: three records, high watermark 10; `a=error`; nothing said: no records, high watermark
/// 1.
fn find_news(news: &str, wanted: &WantedPartition) -> PartitionNews {
    let quiet = PartitionNews { high_watermark: 1, ..PartitionNews::default() };
    let Some(said) = news
        .split_whitespace()
        .find_map(|word| word.strip_prefix(name(wanted)).and_then(|rest| rest.strip_prefix('=')))
    else {
        return quiet;
    };
    if said == "error" {
        return PartitionNews {
            must_be_told: true,
            high_watermark: -1,
            log_start_offset: -1,
            has_records: false,
        };
    }
    let (records, high_watermark) = said.split_once('@').unwrap();
    PartitionNews {
        has_records: records != "0",
        high_watermark: high_watermark.parse().unwrap(),
        ..quiet
    }
}

#[track_caller]
fn check(sessions: &FetchSessions, story: &str) {
    let expected: Vec<_> = story.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let told = play(sessions, story);
    assert_eq!(told.trim_end(), expected.join("\n"), "\ntold:\n{told}");
}

#[test]
fn only_what_changed_is_sent_both_ways() {
    check(
        &FetchSessions::new(SessionLimits::default()),
        "fetch 0 0 a:0 b:0 c:0 => session 70 reads a:0 b:0 c:0 tells a b c
         fetch 70 1 => session 70 reads a:0 b:0 c:0 tells nothing
         fetch 70 2 | b=2@3 => session 70 reads a:0 b:0 c:0 tells b
         fetch 70 3 b:2 | b=0@3 => session 70 reads a:0 c:0 b:2 tells nothing
         fetch 70 4 | a=0@2 b=0@3 => session 70 reads a:0 c:0 b:2 tells a
         fetch 70 5 d:7 -a -unknown | b=0@3 => session 70 reads c:0 b:2 d:7 tells d",
    );
}

#[test]
fn an_error_is_told_each_time_and_so_is_its_end() {
    check(
        &FetchSessions::new(SessionLimits::default()),
        "fetch 0 0 a:0 b:0 => session 70 reads a:0 b:0 tells a b
         fetch 70 1 | a=error => session 70 reads a:0 b:0 tells a
         fetch 70 2 | a=error => session 70 reads a:0 b:0 tells a
         fetch 70 3 => session 70 reads a:0 b:0 tells a
         fetch 70 4 => session 70 reads a:0 b:0 tells nothing",
    );
}

#[test]
fn a_wrong_epoch_or_session_is_refused() {
    check(
        &FetchSessions::new(SessionLimits::default()),
        "fetch 0 0 a:0 => session 70 reads a:0 tells a
         fetch 70 2 => InvalidFetchSessionEpoch
         fetch 71 1 => FetchSessionIdNotFound
         fetch 70 1 by-id => FetchSessionTopicIdError
         fetch 70 1 => session 70 reads a:0 tells nothing
         fetch 70 1 => InvalidFetchSessionEpoch",
    );
}

#[test]
fn sessions_end_by_their_client() {
    let sessions = FetchSessions::new(SessionLimits::default());
    check(
        &sessions,
        "fetch 0 0 a:0 => session 70 reads a:0 tells a
         fetch 70 -1 a:5 => session 0 reads a:5 tells a
         fetch 70 1 => FetchSessionIdNotFound
         fetch 0 0 a:0 => session 73 reads a:0 tells a
         fetch 73 1 -a => session 0 reads nothing tells nothing
         fetch 0 -1 a:0 => session 0 reads a:0 tells a",
    );
    assert!(sessions.is_empty());
}

#[test]
fn a_full_table_gives_up_only_what_is_stale() {
    let limits = SessionLimits { sessions_max: 2, eviction_age_ms: 2, ..SessionLimits::default() };
    check(
        &FetchSessions::new(limits),
        "fetch 0 0 a:0 => session 70 reads a:0 tells a
         fetch 0 0 b:0 => session 71 reads b:0 tells b
         fetch 70 1 => session 70 reads a:0 tells nothing
         fetch 70 2 => session 70 reads a:0 tells nothing
         fetch 0 0 c:0 => session 74 reads c:0 tells c
         fetch 71 1 => FetchSessionIdNotFound
         fetch 70 3 => session 70 reads a:0 tells nothing
         fetch 74 1 => session 74 reads c:0 tells nothing
         fetch 0 0 d:0 => session 0 reads d:0 tells d",
    );
}

#[test]
fn a_fetch_that_was_overtaken_says_so() {
    let sessions = FetchSessions::new(SessionLimits::default());
    let begin = |text| sessions.begin(parse(text).unwrap(), 0, 70).unwrap();
    begin("fetch 0 0 a:0").finish(&[PartitionNews::default()]).unwrap();
    let slow = begin("fetch 70 1");
    begin("fetch 70 2").finish(&[PartitionNews::default()]).unwrap();
    let told = slow.finish(&[PartitionNews::default()]);
    assert_eq!(told, Err(ErrorCode::InvalidFetchSessionEpoch));
}
