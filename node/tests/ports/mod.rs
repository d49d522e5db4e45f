//! Free ports on loopback, for processes that a test starts.

use parking_lot::Mutex;
use rand::Rng as _;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;

/// Below those that systems give to outgoing connections: nobody takes such a port by chance while it is not listened on.
const PORTS: Range<u16> = 12_000..32_000;

/// Given to a test of this process, which may be about to listen there.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// An address that nobody listens on, and that nobody else in this process was given.
pub(crate) fn free() -> SocketAddr {
    let mut random = rand::rng();
    loop {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, random.random_range(PORTS)));
        if TcpListener::bind(address).is_ok() && GIVEN.lock().insert(address.port()) {
            return address;
        }
    }
}
