//! The command line without a cluster: what it says when it is asked wrongly, and how it ends.

#![allow(clippy::unwrap_used)]

use assert_cmd::Command;
use ottla_common::kafka::records::{BatchBuilder, BatchOptions};

/// Nobody listens there.
const NOBODY: &str = "127.0.0.1:1";

fn ottla(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::cargo_bin("ottla").unwrap().args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_mistake_ends_with_2_and_a_failure_with_1() {
    for mistake in [
        &["topics", "create"][..],
        &["no-such-command"],
        &["consume", "t", "--offset", "soon"],
        &["consume", "t", "--format", "%z", "-b", NOBODY],
        &["quotas", "set", "producer_byte_rate=1", "-b", NOBODY],
        &["quotas", "set", "--user", "u", "producer_byte_rate=much", "-b", NOBODY],
        &["quotas", "list", "--user", "u", "--ip-default", "-b", NOBODY],
        &["bench", "latency", "--rate", "0", "-b", NOBODY],
    ] {
        let (code, _, said) = ottla(mistake);
        assert_eq!(code, 2, "{mistake:?}: {said}");
    }
    let (code, _, said) = ottla(&["topics", "list", "-b", NOBODY]);
    assert_eq!(code, 1);
    assert!(said.contains("--bootstrap-server names others"), "{said}");
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let ports = ["--port", "0", "--coordinator-port", "0"];
    let dev = [&["dev", "--dir", dir, "--config", "log.retension.ms=1"], &ports[..]].concat();
    let (code, _, said) = ottla(&dev);
    assert_ne!(code, 0);
    assert!(said.contains("did you mean \"log.retention.ms\"?"), "{said}");
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = ottla(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(script.contains("kafka-links") && script.contains("bootstrap-server"), "{shell}");
    }
}

#[test]
fn links_take_kafkas_flags() {
    let dir = tempfile::tempdir().unwrap();
    let (code, made, _) = ottla(&["kafka-links", dir.path().to_str().unwrap()]);
    assert_eq!((code, made.lines().count()), (0, 18));
    let again = ottla(&["kafka-links", dir.path().to_str().unwrap()]);
    assert_eq!(again.0, 0, "links are made anew");
    let tool = dir.path().join("kafka-topics.sh");
    let output = Command::new(&tool).args(["--bootstrap-server", NOBODY]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Command must include exactly one action: --list,"), "{said}");
}

#[test]
fn a_log_is_dumped_and_a_torn_tail_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("00000000000000000007.log");
    let mut builder = BatchBuilder::new(BatchOptions { base_offset: 7, ..BatchOptions::default() });
    builder.append(100, Some(b"key"), Some(b"value"), &[]).unwrap();
    let batch = builder.build().unwrap();
    std::fs::write(&file, &batch).unwrap();
    let (code, dumped, _) = ottla(&["log", "dump", "--records", file.to_str().unwrap()]);
    assert_eq!(code, 0);
    assert!(dumped.contains("Log starting offset: 7"), "{dumped}");
    assert!(
        dumped.contains("keySize: 3 valueSize: 5") && dumped.contains("key: key payload: value")
    );
    std::fs::write(&file, [&batch[..], &batch[..20]].concat()).unwrap();
    let (code, dumped, said) = ottla(&["log", "dump", file.to_str().unwrap()]);
    assert_eq!(code, 1, "{said}");
    assert!(dumped.contains("Found 20 invalid bytes at the end of"), "{dumped}");
    let (code, _, said) = ottla(&["log", "dump", "no-such-file.txt"]);
    assert_eq!(code, 2, "{said}");
}
