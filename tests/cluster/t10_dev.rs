//! `ottla dev` and the command line, as processes.

use ottla_tests::process::{DevProcess, printed, run};
use std::process::Command;

/// What somebody does who tries Ottla for the first time, and pulls the plug.
#[test]
fn records_outlive_a_kill_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut dev = DevProcess::start(dir.path(), &[]).unwrap();
    let ottla = |dev: &DevProcess, arguments: &[&str], input: &str| {
        printed(&dev.ottla(arguments, input).unwrap()).unwrap()
    };
    ottla(&dev, &["topics", "create", "fruit", "--partitions", "3"], "");
    ottla(&dev, &["produce", "fruit", "-K", ":"], "a:apple\nb:banana\nc:cherry\n");
    dev.kill().unwrap();
    dev.restart().unwrap();
    ottla(&dev, &["produce", "fruit", "--header", "from=tree"], "date\n");
    let all = ottla(&dev, &["consume", "fruit", "-f", "-e", "--format", "%k=%s;%h\\n"], "");
    let mut lines: Vec<&str> = all.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["=date;from=tree", "a=apple;", "b=banana;", "c=cherry;"]);

    let leaders = ottla(&dev, &["coordinator", "leaders", "--json"], "");
    assert_eq!(leaders.lines().count(), 3, "{leaders}");
    assert!(leaders.lines().all(|line| line.contains("\"leader\":1")), "{leaders}");
    assert_eq!(dev.stop().unwrap().code(), Some(0));
    dev.restart().unwrap();
    let count = ottla(&dev, &["consume", "fruit", "-f", "-e"], "").lines().count();
    assert_eq!(count, 4, "after a clean stop");
}

/// A partition whose records are all gone is at its end, wherever reading begins.
#[test]
fn reading_stops_at_the_end_of_an_emptied_partition() {
    let dir = tempfile::tempdir().unwrap();
    let dev = DevProcess::start(dir.path(), &[]).unwrap();
    let ottla =
        |arguments: &[&str], input: &str| printed(&dev.ottla(arguments, input).unwrap()).unwrap();
    ottla(&["topics", "create", "gone", "-p", "1"], "");
    ottla(&["produce", "gone"], "1\n2\n3\n");
    let link = dir.path().join("kafka-delete-records.sh");
    ottla(&["kafka-links", dir.path().to_str().unwrap()], "");
    let offsets = dir.path().join("offsets.json");
    let all = r#"{"partitions":[{"topic":"gone","partition":0,"offset":-1}],"version":1}"#;
    std::fs::write(&offsets, all).unwrap();
    let mut delete = Command::new(link);
    delete.args(["--bootstrap-server", &dev.brokers[0], "--offset-json-file"]).arg(&offsets);
    let deleted = printed(&run(delete, "").unwrap()).unwrap();
    assert!(deleted.ends_with("partition: gone-0\tlow_watermark: 3\n"), "{deleted}");
    for start in ["earliest", "latest", "0", "-2", "@0", "@9999999999999"] {
        assert_eq!(ottla(&["consume", "gone", "-o", start, "-e"], ""), "", "{start}");
    }
    ottla(&["produce", "gone"], "4\n");
    assert_eq!(ottla(&["consume", "gone", "-o", "0", "-e"], ""), "4\n");
}

/// What `ottla consume --json` prints, `ottla produce --json` takes.
#[test]
fn records_go_through_json_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let dev = DevProcess::start(dir.path(), &[]).unwrap();
    let input = concat!(
        r#"{"key":"k","value_base64":"/wA=","headers":[{"key":"h","value":"x"}],"timestamp_ms":7}"#,
        "\n",
        r#"{"value":null}"#,
        "\n",
        r#"{"value":"text"}"#,
        "\n",
    );
    printed(&dev.ottla(&["topics", "create", "one", "two", "-p", "1"], "").unwrap()).unwrap();
    let consumed = |topic: &str| {
        printed(&dev.ottla(&["consume", topic, "-f", "-e", "--json"], "").unwrap()).unwrap()
    };
    printed(&dev.ottla(&["produce", "one", "--json"], input).unwrap()).unwrap();
    let one = consumed("one");
    assert_eq!(one.lines().count(), 3, "{one}");
    printed(&dev.ottla(&["produce", "two", "--json"], &one).unwrap()).unwrap();
    assert_eq!(consumed("two").replace("\"two\"", "\"one\""), one);
}

/// What a book prints works, letter by letter.
#[test]
fn kafkas_tools_answer_in_kafkas_words() {
    let dir = tempfile::tempdir().unwrap();
    let dev = DevProcess::start(&dir.path().join("data"), &[]).unwrap();
    let bin = dir.path().join("bin");
    printed(&dev.ottla(&["kafka-links", bin.to_str().unwrap()], "").unwrap()).unwrap();
    let tool = |name: &str, arguments: &[&str], input: &str| {
        let mut command = Command::new(bin.join(name));
        command.args(arguments).args(["--bootstrap-server", &dev.brokers[0]]);
        run(command, input).unwrap()
    };
    let create = ["--create", "--topic", "hello", "--partitions", "2", "--replication-factor", "1"];
    let created = tool("kafka-topics.sh", &create, "");
    assert_eq!(printed(&created).unwrap(), "Created topic hello.\n");
    let again = tool("kafka-topics.sh", &create, "");
    assert_eq!(again.status.code(), Some(1));
    let said = String::from_utf8_lossy(&again.stdout);
    let expect = "Error while executing topic command : Topic 'hello' already exists.\n";
    assert_eq!(said, expect);
    let described = tool("kafka-topics.sh", &["--describe", "--topic", "hello"], "");
    let described = printed(&described).unwrap();
    let lines: Vec<&str> = described.lines().collect();
    assert!(
        lines[0].ends_with("\tPartitionCount: 2\tReplicationFactor: 1\tConfigs: "),
        "{described}"
    );
    assert!(lines[2].starts_with("\tTopic: hello\tPartition: 1\tLeader: 1\tReplicas: 1\tIsr: 1"));

    let keyed = ["--topic", "hello", "--reader-property", "parse.key=true"];
    printed(&tool("kafka-console-producer.sh", &keyed, "k\tv\n")).unwrap();
    let reading = ["--topic", "hello", "--from-beginning", "--max-messages", "1"];
    let reading = [&reading[..], &["--formatter-property", "print.key=true"]].concat();
    let read = tool("kafka-console-consumer.sh", &reading, "");
    assert_eq!(printed(&read).unwrap(), "k\tv\n");
    assert_eq!(String::from_utf8_lossy(&read.stderr), "Processed a total of 1 messages\n");
}
