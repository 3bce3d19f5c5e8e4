//! Stories told over sockets: a member in this process, and clients of raw frames.

mod hostile;
mod kafka;
mod order;
mod raw;
mod sessions;
mod subscriptions;

use super::*;

#[test]
fn the_first_bytes_tell_the_protocol() {
    assert_eq!(protocol_of(b""), Protocol::Unclear);
    assert_eq!(protocol_of(b"OTTLA"), Protocol::Unclear);
    assert_eq!(protocol_of(b"OTTLA\0\0\x01more"), Protocol::Native);
    assert_eq!(protocol_of(b"OTTLA\0\0\x02"), Protocol::Unknown);
    assert_eq!(protocol_of(&[0, 0, 0]), Protocol::Unclear);
    assert_eq!(protocol_of(&[0, 0, 0, 8, 0, 18, 0, 0]), Protocol::Kafka);
    assert_eq!(protocol_of(&[0, 0, 0, 45, 0, 0, 0, 0]), Protocol::Unknown, "ZooKeeper's");
    assert_eq!(protocol_of(b"GET / HTTP"), Protocol::Unknown);
}
