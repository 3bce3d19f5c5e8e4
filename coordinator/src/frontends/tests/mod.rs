//! Stories told over sockets: a member in this process, and clients of raw frames.

mod admin;
mod ensemble;
mod four_letter;
mod hostile;
mod http;
mod kafka;
mod order;
mod raw;
mod sessions;
mod strangers;
mod subscriptions;
mod zookeeper;

use super::*;

#[test]
fn the_first_bytes_tell_the_protocol() {
    assert_eq!(protocol_of(b""), Protocol::Unclear);
    assert_eq!(protocol_of(b"OTTLA"), Protocol::Unclear);
    assert_eq!(protocol_of(b"OTTLA\0\0\x01more"), Protocol::Native);
    assert_eq!(protocol_of(b"OTTLA\0\0\x02"), Protocol::Unknown);
    assert_eq!(protocol_of(b"ruo"), Protocol::Unclear);
    assert_eq!(protocol_of(b"ruok\n"), Protocol::FourLetterWord);
    assert_eq!(protocol_of(&[0, 0, 0, 45, 0, 0, 0]), Protocol::Unclear);
    assert_eq!(protocol_of(&[0, 0, 0, 45, 0, 0, 0, 0]), Protocol::ZooKeeper);
    assert_eq!(protocol_of(&[0, 0, 0, 8, 0, 18, 0, 0]), Protocol::Kafka);
    for stranger in
        [&b"GET / HTTP"[..], b"rest", &[0x16, 3, 1], &[0xff; 8], &[0, 0, 0, 9, 1, 0, 0, 0]]
    {
        assert_eq!(protocol_of(stranger), Protocol::Unknown, "{stranger:?}");
    }
}
