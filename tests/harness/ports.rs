//! Ports for servers that end and start again at the same place.
//!
//! Linux gives connections their own ports from 32768 on. A server's port must not be one of those:
//! a connection could take it while the server is away, even the one that a client tries to make to
//! it.

use std::net::TcpListener;
use std::ops::Range;

use parking_lot::Mutex;

/// What is chosen from.
const PORTS: Range<u16> = 22_000..32_700;

/// Where the next search begins, so that none is given twice in this process.
static NEXT: Mutex<Option<u16>> = Mutex::new(None);

/// The first of so many consecutive ports of the loopback address at which nobody listens.
///
/// # Panics
/// If there are none.
pub fn free_ports(count: u16) -> u16 {
    let mut next = NEXT.lock();
    let mut first = next.unwrap_or_else(|| fastrand::u16(PORTS));
    for _ in PORTS {
        if first + count > PORTS.end {
            first = PORTS.start;
        }
        let taken = (first..first + count).find(|port| !is_free(*port));
        match taken {
            None => {
                *next = Some(first + count);
                return first;
            }
            Some(taken) => first = taken + 1,
        }
    }
    panic!("there are no {count} free ports in {PORTS:?}")
}

/// A port of the loopback address at which nobody listens.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    free_ports(1)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}
