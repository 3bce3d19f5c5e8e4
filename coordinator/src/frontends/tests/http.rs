//! Monitoring asks a member.

use ottla_common::coordination::protocol::CreateMode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::raw::Member;

async fn ask(member: &Member, request: &str) -> String {
    let address = member.server.http_address.unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get(member: &Member, path: &str) -> String {
    ask(member, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
}

/// The value of a figure.
fn figure(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[tokio::test]
async fn a_member_tells_its_figures_and_how_it_is() {
    let member = Member::start_with(|config| {
        config.http_listen = Some("127.0.0.1:0".to_owned());
    })
    .await;
    let mut client = member.connect().await;
    client.create("/a", CreateMode::Ephemeral).await.unwrap();
    assert!(client.exists("/a").await);
    let text = get(&member, "/metrics").await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("# EOF\n"), "{text}");
    for (name, value) in [
        ("leader", 1.0),
        ("sessions", 1.0),
        ("connections", 1.0),
        ("ephemerals", 1.0),
        ("apply_lag", 0.0),
        ("failed", 0.0),
        ("request_seconds_count{kind=\"create\"}", 1.0),
        ("request_seconds_bucket{le=\"+Inf\",kind=\"exists\"}", 1.0),
    ] {
        assert_eq!(figure(&text, &format!("ottla_coordinator_{name}")), value, "{name}");
    }
    assert!(figure(&text, "ottla_coordinator_flush_seconds_count") >= 2.0);
    for path in ["/health", "/ready"] {
        let answer = get(&member, path).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("ok\n"), "{answer}");
    }
}

#[tokio::test]
async fn what_is_asked_wrongly_is_told_so() {
    let member = Member::start_with(|config| {
        config.http_listen = Some("127.0.0.1:0".to_owned());
    })
    .await;
    assert!(get(&member, "/").await.starts_with("HTTP/1.1 404"));
    let posted = ask(&member, "POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n").await;
    assert!(posted.starts_with("HTTP/1.1 405"), "{posted}");
    assert!(ask(&member, "\0\0\0\0\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    assert!(Member::start().await.server.http_address.is_none(), "off unless it is set");
}
