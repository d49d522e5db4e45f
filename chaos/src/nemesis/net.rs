//! What lies between the processes: relays that delay and cut, and either zones that drop packets or plain loopback.
//!
//! Every process reaches every other through the relay in front of it, which knows who connects: in zones by the
//! address, on loopback by the process that has the socket.

mod pids;
mod relay;
mod wires;
mod zones;

pub(crate) use wires::{Way, Wire, both};

use crate::cluster::{Host, Site, Spot};
use async_trait::async_trait;
use parking_lot::Mutex;
use pids::Pids;
use relay::{Ends, Relay, Sources, State};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::watch;
use wires::Wires;
use zones::Zones;

/// Size of the file systems that can be filled. A replica needs a fraction of it.
const SMALL_KIB: u64 = 1 << 20;

/// While a replica writes much, what is used grows between the look and the order, which is refused then.
const FILL_TRIES: usize = 20;

/// Room that is left on a full one, so that what is written goes wrong in the middle of something.
const LEFT_KIB: u64 = 64;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Net {
    ground: Ground,
    wires: Mutex<Wires>,
    state: watch::Sender<State>,
    relays: Mutex<Vec<Relay>>,
    /// Replicas whose data is on a file system of their own that can be filled.
    small: Mutex<BTreeMap<u64, PathBuf>>,
}

#[derive(Debug)]
enum Ground {
    Zones(Mutex<Zones>),
    Loopback(Arc<Pids>),
}

struct ByAddress;

impl Sources for ByAddress {
    fn source(&self, peer: SocketAddr) -> Option<Host> {
        zones::owner(peer.ip())
    }
}

impl Sources for Pids {
    fn source(&self, peer: SocketAddr) -> Option<Host> {
        self.owner(peer)
    }
}

impl Net {
    /// Zones, in this process's own namespaces; `run` is in all names.
    ///
    /// # Errors
    /// They cannot be made here.
    pub(crate) fn zones(run: u32) -> std::io::Result<Self> {
        Ok(Self::on(Ground::Zones(Mutex::new(Zones::open(run)?))))
    }

    /// Makes what a run needs once: whether it can be made here.
    ///
    /// # Errors
    /// It cannot.
    pub(crate) async fn try_out(&self) -> std::io::Result<()> {
        let (one, other) = (Host::Replica(1), Host::Lnd(1));
        for host in [one, other] {
            let spot = self.spot(host).await?;
            self.reached(host, SocketAddr::new(spot.ip, 1)).await?;
        }
        self.impose(1, both(one, other).to_vec(), Wire::Severed)?;
        self.lift(1)
    }

    /// Loopback, with relays only.
    pub(crate) fn loopback() -> Self {
        Self::on(Ground::Loopback(Arc::default()))
    }

    fn on(ground: Ground) -> Self {
        Self {
            ground,
            wires: Mutex::default(),
            state: watch::Sender::new(State::new()),
            relays: Mutex::default(),
            small: Mutex::default(),
        }
    }

    /// Whether there are zones.
    pub(crate) fn has_zones(&self) -> bool {
        matches!(self.ground, Ground::Zones(_))
    }

    /// A fault changes ways, until it is [lifted](Net::lift).
    pub(crate) fn impose(&self, fault: u64, ways: Vec<Way>, wire: Wire) -> std::io::Result<()> {
        let state = {
            let mut wires = self.wires.lock();
            wires.impose(fault, ways, wire);
            wires.state()
        };
        self.apply(state)
    }

    /// A fault's changes end.
    pub(crate) fn lift(&self, fault: u64) -> std::io::Result<()> {
        let state = {
            let mut wires = self.wires.lock();
            wires.lift(fault);
            wires.state()
        };
        self.apply(state)
    }

    fn apply(&self, mut state: State) -> std::io::Result<()> {
        if let Ground::Zones(zones) = &self.ground {
            zones.lock().sever(state.iter())?;
            // The packets vanish on their way; the relay has nothing to do with it.
            state.retain(|_, wire| *wire != Wire::Severed);
        }
        self.state.send_replace(state);
        Ok(())
    }

    /// The replicas whose file system can be filled.
    pub(crate) fn small_disks(&self) -> Vec<u64> {
        self.small.lock().keys().copied().collect()
    }

    /// This replica is gone for good: the next new one gets the file system that can be filled.
    pub(crate) fn forget(&self, id: u64) {
        if let Some(path) = self.small.lock().remove(&id) {
            // Its directory cannot be removed otherwise; the namespace's end unmounts it at the latest.
            let _ = zones::unmount_small(&path);
        }
    }

    /// Copies what is in file systems of the run's own beside them: they end with it.
    pub(crate) fn keep_small(&self) -> std::io::Result<()> {
        self.small.lock().values().try_for_each(|path| zones::copy_small(path))
    }

    /// Leaves next to no room on a replica's file system, or makes room again.
    ///
    /// # Errors
    /// It has none of its own, or the system says no.
    pub(crate) fn fill(&self, id: u64, full: bool) -> std::io::Result<()> {
        let path = self.small.lock().get(&id).cloned();
        let path = path.ok_or_else(|| std::io::Error::other("no file system of its own"))?;
        if !full {
            return zones::resize_small(&path, SMALL_KIB);
        }
        for _ in 1..FILL_TRIES {
            if zones::resize_small(&path, used_kib(&path)? + LEFT_KIB).is_ok() {
                return Ok(());
            }
        }
        zones::resize_small(&path, used_kib(&path)? + LEFT_KIB)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for path in self.small.lock().values() {
            // Its directory cannot be removed otherwise; the namespace's end unmounts it at the latest.
            let _ = zones::unmount_small(path);
        }
    }
}

fn used_kib(path: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize) / 1024)
}

#[async_trait]
impl Site for Net {
    async fn spot(&self, host: Host) -> std::io::Result<Spot> {
        match &self.ground {
            Ground::Zones(zones) => zones.lock().spot(host),
            Ground::Loopback(_) => Ok(Spot::here()),
        }
    }

    async fn reached(&self, host: Host, listener: SocketAddr) -> std::io::Result<SocketAddr> {
        let (listen, sources): (_, Arc<dyn Sources>) = match &self.ground {
            Ground::Zones(zones) => (zones.lock().relay(host, listener.port())?, Arc::new(ByAddress)),
            Ground::Loopback(pids) => (SocketAddr::new(listener.ip(), 0), pids.clone()),
        };
        let ends = Ends { host, target: listener, sources };
        let relay = Relay::start(listen, ends, self.state.subscribe()).await?;
        let address = relay.address();
        self.relays.lock().push(relay);
        Ok(address)
    }

    fn prepare(&self, host: Host, data_dir: &Path) -> std::io::Result<()> {
        let (Ground::Zones(_), Host::Replica(id)) = (&self.ground, host) else { return Ok(()) };
        // One is enough, and the others keep real disks.
        let mut small = self.small.lock();
        if small.is_empty() {
            zones::mount_small(data_dir, SMALL_KIB)?;
            small.insert(id, data_dir.to_owned());
        }
        Ok(())
    }

    fn started(&self, host: Host, pid: u32) {
        if let Ground::Loopback(pids) = &self.ground {
            pids.set(host, pid);
        }
    }
}
