//! Free ports on loopback.

use parking_lot::Mutex;
use rand::Rng as _;
use std::collections::BTreeSet;
use std::io::{Error, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;

/// Below those that systems give to outgoing connections: nobody takes such a port by chance between its choice
/// and its use, or while the process that it was chosen for is down.
const PORTS: Range<u16> = 12_000..32_000;

const TRIES_MAX: usize = 1_000;

/// Given out by this process: to a replica that is not started yet, perhaps, or is down.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Distinct ports that were free a moment ago, and that nobody else in this process was given.
pub(super) fn free(count: usize) -> std::io::Result<Vec<SocketAddr>> {
    let mut random = rand::rng();
    let mut listeners = Vec::new();
    for _ in 0..TRIES_MAX {
        if listeners.len() == count {
            return listeners.iter().map(TcpListener::local_addr).collect();
        }
        let port = random.random_range(PORTS);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            && GIVEN.lock().insert(port)
        {
            listeners.push(listener);
        }
    }
    Err(Error::new(ErrorKind::AddrNotAvailable, "no free ports on loopback"))
}
