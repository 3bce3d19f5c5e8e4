//! Four-letter words over a socket.

use std::collections::BTreeMap;

use ottla_common::coordination::protocol::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::raw::{Member, get};

async fn allowing(words: &str) -> Member {
    let words = words.split(',').map(str::to_owned).collect();
    Member::start_with(|config| config.zookeeper.four_letter_words = words).await
}

async fn say(member: &Member, word: &str) -> String {
    let mut stream = TcpStream::connect(member.address).await.unwrap();
    stream.write_all(word.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn only_words_that_are_allowed_are_answered() {
    let member = Member::start().await;
    assert!(say(&member, "srvr").await.starts_with("Zookeeper version: 3.9.5-"));
    for word in super::super::four_letter::WORDS.iter().filter(|word| **word != "srvr") {
        let refusal = format!("{word} is not executed because it is not in the whitelist.\n");
        assert_eq!(say(&member, word).await, refusal);
    }
    assert_eq!(say(&member, "abcd").await, "", "no word at all");
}

#[tokio::test]
async fn a_word_may_come_byte_by_byte_and_with_a_line_end() {
    let member = allowing("ruok").await;
    assert_eq!(say(&member, "ruok\n").await, "imok");
    let mut stream = TcpStream::connect(member.address).await.unwrap();
    for byte in b"ruok" {
        stream.write_all(&[*byte]).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "imok");
}

#[tokio::test]
async fn the_figures_tell_what_clients_did() {
    let member = allowing("*").await;
    let mut client = member.connect().await;
    client.create("/a", CreateMode::Ephemeral).await.unwrap();
    client.ask(get("/a", true)).await.unwrap();
    let id = format!("0x{:x}", client.grant.session_id.0);
    let server = say(&member, "srvr").await;
    for line in ["Mode: standalone", "Outstanding: 0", "Connections: 2", "Zxid: 0x"] {
        assert!(server.contains(line), "{server}");
    }
    let monitored = say(&member, "mntr").await;
    let lines = monitored.lines().map(|line| line.split_once('\t').unwrap());
    let figures: BTreeMap<&str, &str> = lines.collect();
    assert_eq!(figures["zk_server_state"], "standalone");
    assert_eq!((figures["zk_watch_count"], figures["zk_ephemerals_count"]), ("1", "1"));
    assert_eq!(figures["zk_global_sessions"], "1");
    let dump = say(&member, "dump").await;
    assert!(dump.contains(&format!("Global Sessions(1):\n{id}\t10000ms\n")), "{dump}");
    assert!(dump.contains(&format!("Sessions with Ephemerals (1):\n{id}:\n\t/a\n")), "{dump}");
    assert!(say(&member, "cons").await.contains(&format!("sid={id}")));
    assert_eq!(say(&member, "wchs").await, "1 connections watching 1 paths\nTotal watches:1\n");
    assert_eq!(say(&member, "wchc").await, format!("{id}\n\t/a\n\n"));
    assert_eq!(say(&member, "wchp").await, format!("/a\n\t{id}\n\n"));
}

#[tokio::test]
async fn the_other_words_are_answered_too() {
    let member = allowing("*").await;
    assert_eq!(say(&member, "isro").await, "rw");
    assert_eq!(say(&member, "crst").await, "Connection stats reset.\n");
    assert_eq!(say(&member, "srst").await, "Server stats reset.\n");
    assert!(say(&member, "conf").await.contains("serverId=1\n"));
    assert!(say(&member, "dirs").await.starts_with("datadir_size: "));
    assert!(say(&member, "envi").await.starts_with("Environment:\nzookeeper.version=3.9.5-"));
    assert!(say(&member, "hash").await.starts_with("zxid: 0x0 digest: "));
    assert!(say(&member, "stat").await.contains("\nClients:\n /127.0.0.1:"));
    assert_eq!(say(&member, "gtmk").await, "306");
    assert_eq!(say(&member, "stmk\0\0\0\0\0\0\0\x07").await, "7");
    assert_eq!(say(&member, "gtmk").await, "7");
}
