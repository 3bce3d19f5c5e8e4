//! The checkers find what is wrong with histories made by hand, one for each anomaly, and nothing
//! with those that can have been.

use super::{Entry, from_json_lines, problems};

/// A history in short: `process key operation start..end outcome`.
fn history(lines: &str) -> Vec<Entry> {
    let mut json = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split(' ').collect();
        let [key, operation, rest @ ..] = words.as_slice() else { panic!("{line}") };
        let fields: Vec<String> = rest.iter().map(|word| field(word)).collect();
        json += &format!("{{\"key\":\"{key}\",\"op\":\"{operation}\",{}}}\n", fields.join(","));
    }
    from_json_lines(&json).unwrap()
}

fn field(word: &str) -> String {
    if let Some((start, end)) = word.split_once("..") {
        return format!("\"start_ns\":{start},\"end_ns\":{end}");
    }
    let (name, value) = word.split_once('=').unwrap();
    let (name, is_text) = match name {
        "v" => ("version", false),
        "x" => ("expected_version", false),
        "value" | "outcome" => (name, true),
        _ => (name, false),
    };
    if is_text { format!("\"{name}\":\"{value}\"") } else { format!("\"{name}\":{value}") }
}

#[track_caller]
fn flagged(lines: &str, expected: &str) {
    let found = problems(&history(lines));
    assert!(found.iter().any(|problem| problem.contains(expected)), "{found:?}");
}

#[track_caller]
fn fine(lines: &str) {
    assert_eq!(problems(&history(lines)), [] as [String; 0]);
}

#[test]
fn what_can_have_been_is_not_flagged() {
    fine("");
    fine(
        "/r set value=a x=-1 v=1 0..10
         /r get value=a v=1 20..30
         /r set value=b x=1 v=2 40..50
         /r set value=c x=1 outcome=refused 60..70
         /r get value=b v=2 80..90",
    );
    // Overlapping reads may see either.
    fine(
        "/r set value=a x=-1 v=1 0..100
         /r get value= v=0 10..20
         /r get value=a v=1 10..20
         /r get value=a v=1 30..40",
    );
    // What nobody answered may have been done at any later time, or never.
    fine(
        "/r set value=a x=-1 outcome=unknown 0..10
         /r get value= v=0 20..30
         /r get value=a v=1 40..50",
    );
    fine(
        "/r set value=a x=-1 outcome=unknown 0..10
         /r set value=b x=-1 outcome=unknown 0..10
         /r set value=c x=0 v=1 20..30
         /r set value=d x=-1 v=3 40..50",
    );
    fine(
        "/s create_sequential number=0 0..10
         /s create_sequential number=2 20..40
         /s create_sequential number=1 20..30
         /s create_sequential outcome=unknown 20..30
         /s numbers numbers=[0,1,2,3]",
    );
    fine(
        "/e/1 create_ephemeral session=1
         /e/2 create_ephemeral session=2
         /e/3 create_ephemeral session=3 outcome=unknown
         1 session session=1 lives=true
         2 session session=2 lives=false
         3 session session=3 lives=true
         m1 ephemerals paths=[\"/e/1\"]",
    );
}

#[test]
fn many_unanswered_writes_are_no_obstacle() {
    let mut lines = String::new();
    for number in 0..200 {
        lines += &format!("/r set value=u{number} x=-1 outcome=unknown {number}..{number}\n");
    }
    for number in 0..200 {
        let (version, at) = (3 * number + 2, 1_000 + 10 * number);
        lines += &format!("/r set value=k{number} x=-1 v={version} {at}..{}\n", at + 5);
    }
    // There are 200 gaps of two versions or one and only 200 writes to fill them.
    flagged(&lines, "not linearizable");
    let few: Vec<&str> = lines.lines().take(290).collect();
    fine(&few.join("\n"));
}

#[test]
fn bad_registers_are_flagged() {
    for (bad, expected) in [
        // A stale read.
        ("/r set value=a x=-1 v=1 0..10\n/r get value= v=0 20..30", "not linearizable"),
        // A read of what was never written.
        ("/r get value=a v=1 20..30", "not linearizable"),
        // A lost update: two writes made the same version.
        ("/r set value=a x=0 v=1 0..10\n/r set value=b x=0 v=1 0..10", "made twice"),
        // Acknowledged, then gone.
        (
            "/r set value=a x=-1 v=1 0..10
             /r set value=b x=-1 v=2 20..30
             /r get value=a v=1 40..50",
            "not linearizable",
        ),
        // A read from the future: before the write was asked for.
        ("/r get value=a v=1 0..10\n/r set value=a x=-1 v=1 20..30", "not linearizable"),
        // Reads go back.
        (
            "/r set value=a x=-1 v=1 0..100\n/r get value=a v=1 10..20\n/r get value= v=0 30..40",
            "not linearizable",
        ),
        // A write by version was done at another version.
        ("/r set value=a x=-1 v=1 0..10\n/r set value=b x=0 v=2 20..30", "not linearizable"),
        // A write by version was refused though the version was right all the time.
        ("/r set value=a x=-1 v=1 0..10\n/r set value=b x=1 outcome=refused 20..30", "not linear"),
        // Two values of one version: members that disagree.
        (
            "/r set value=a x=-1 v=1 0..10\n/r get value=a v=1 20..30\n/r get value=b v=1 20..30",
            "version 1 is",
        ),
        // Done twice.
        (
            "/r set value=a x=-1 v=1 0..10\n/r get value=a v=1 20..30\n/r get value=a v=2 40..50",
            "not linearizable",
        ),
        // Refused, and yet done.
        ("/r set value=a x=5 outcome=refused 0..10\n/r get value=a v=1 20..30", "not linearizable"),
        // Done before it was asked for.
        (
            "/r get value=a v=1 0..10\n/r set value=a x=-1 outcome=unknown 20..30",
            "not linearizable",
        ),
        // A version is skipped.
        ("/r set value=a x=-1 v=2 0..10", "not linearizable"),
    ] {
        flagged(bad, expected);
    }
}

#[test]
fn bad_sequences_are_flagged() {
    for (bad, expected) in [
        ("/s create_sequential number=1 0..9\n/s create_sequential number=1 0..9", "twice"),
        ("/s create_sequential number=1 0..9\n/s numbers numbers=[0,2]", "missing"),
        ("/s create_sequential number=5 0..9\n/s create_sequential number=4 20..30", "after 5"),
    ] {
        flagged(bad, expected);
    }
}

#[test]
fn bad_ephemerals_are_flagged() {
    for (bad, expected) in [
        (
            "/e create_ephemeral session=1
             1 session session=1 lives=false
             m ephemerals paths=[\"/e\"]",
            "left behind",
        ),
        (
            "/e create_ephemeral session=1 outcome=unknown\n1 session session=1 lives=false
             m ephemerals paths=[\"/e\"]",
            "left behind",
        ),
        (
            "/e create_ephemeral session=1\n1 session session=1 lives=true\nm ephemerals paths=[]",
            "is gone",
        ),
        ("m ephemerals paths=[\"/e\"]", "nobody made"),
    ] {
        flagged(bad, expected);
    }
}

#[test]
fn a_line_that_is_no_entry_is_an_error() {
    assert!(from_json_lines("{}").is_err());
    assert!(from_json_lines("{\"key\":\"/r\",\"op\":\"set\"}").is_err());
}
