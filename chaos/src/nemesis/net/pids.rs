//! Who is at the other end of a connection on loopback: the process that has the socket, from `/proc`.

use crate::cluster::Host;
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

/// The processes of the cluster.
#[derive(Debug, Default)]
pub(super) struct Pids {
    pids: Mutex<BTreeMap<Host, u32>>,
}

impl Pids {
    pub(super) fn set(&self, host: Host, pid: u32) {
        self.pids.lock().insert(host, pid);
    }

    /// Whose socket has this address on its own side.
    pub(super) fn owner(&self, address: SocketAddr) -> Option<Host> {
        let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
        let link = format!("socket:[{}]", inode(&table, address)?);
        let pids = self.pids.lock().clone();
        pids.into_iter().find_map(|(host, pid)| has_open(pid, &link).then_some(host))
    }
}

/// Columns of `/proc/net/tcp`: 1 the local address, 9 the inode (proc(5)).
fn inode(table: &str, address: SocketAddr) -> Option<&str> {
    let IpAddr::V4(ip) = address.ip() else { return None };
    // The address is printed as the number that it is in memory.
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port());
    table.lines().find_map(|line| {
        let mut columns = line.split_whitespace();
        (columns.nth(1)? == local).then_some(())?;
        columns.nth(7)
    })
}

fn has_open(pid: u32, link: &str) -> bool {
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    files
        .flatten()
        .any(|file| std::fs::read_link(file.path()).is_ok_and(|to| to.as_os_str().to_str() == Some(link)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_connection_is_known_by_the_process_that_has_it() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let pids = Pids::default();
        assert_eq!(pids.owner(stream.local_addr().unwrap()), None);
        // Of the two, this process has the socket.
        pids.set(Host::Replica(2), 1);
        pids.set(Host::Replica(7), std::process::id());
        assert_eq!(pids.owner(stream.local_addr().unwrap()), Some(Host::Replica(7)));
    }
}
