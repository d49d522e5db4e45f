//! Zones: every process in a network namespace of its own, behind a bridge of its own, and between the bridges this
//! process as the router.
//!
//! It runs in a namespace of its own itself (see `enclosure`), so none of this is seen or felt outside, and all of it
//! is gone with the last process, however that ends. A partition is a routing rule that lets packets from one address
//! to another vanish: nobody is told, in one direction or both.

use super::wires::{Way, Wire};
use crate::cluster::{Host, Spot};
use std::{
    collections::BTreeSet,
    io::{Error, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::{Command, Stdio},
};

/// The first half of every address. Nothing outside has anything to do with it.
const NET: [u8; 2] = [10, 77];

/// Third byte of the addresses under which processes reach each other's relays.
const RELAYS: u8 = 255;

/// The first LND's number among all hosts; replicas have their own.
const LNDS: u8 = 200;

/// Rules that drop come before the kernel's own for local addresses, which is moved behind them.
const DROP_PREFERENCE: u32 = 100;
const LOCAL_PREFERENCE: u32 = 1_000;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Zones {
    /// Of all names: whose run it is.
    prefix: String,
    /// Ways whose packets vanish.
    severed: BTreeSet<Way>,
    made: BTreeSet<Host>,
}

impl Zones {
    /// Makes this process's namespace a router. It must be one of its own.
    pub(super) fn open(run: u32) -> std::io::Result<Self> {
        // `ip netns` keeps names there; in a file system that only this mount namespace sees.
        std::fs::create_dir_all("/run/netns")?;
        command("mount", &["-t", "tmpfs", "mux-nemesis", "/run/netns"])?;
        ip(&[
            "link set lo up".into(),
            format!("rule add pref {LOCAL_PREFERENCE} from all lookup local"),
            "rule del pref 0".into(),
        ])?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        Ok(Self { prefix: format!("mx{run}"), severed: BTreeSet::new(), made: BTreeSet::new() })
    }

    /// The namespace of a process, made if it is not there.
    pub(super) fn spot(&mut self, host: Host) -> std::io::Result<Spot> {
        let name = self.name(host);
        if self.made.insert(host) {
            let number = number(host)?;
            let (bridge, veth) = (format!("{name}b"), format!("{name}v"));
            let [own, router, relay] = [own(host)?, router(host)?, relay(host)?];
            command("ip", &["netns", "add", &name])?;
            ip(&[
                format!("link add {bridge} type bridge"),
                format!("addr add {router}/24 dev {bridge}"),
                format!("addr add {relay}/32 dev lo"),
                format!("link set {bridge} up"),
                format!("link add {veth} type veth peer name eth0 netns {name}"),
                format!("link set {veth} master {bridge} up"),
            ])
            .map_err(|error| Error::other(format!("zone {number}: {error}")))?;
            ip_in(
                &name,
                &[
                    "link set lo up".into(),
                    format!("addr add {own}/24 dev eth0"),
                    "link set eth0 up".into(),
                    format!("route add default via {router}"),
                ],
            )?;
        }
        let zone = match host {
            Host::Replica(id) => format!("zone-{id}"),
            Host::Lnd(_) => String::new(),
        };
        let enter = ["nsenter".into(), format!("--net=/run/netns/{name}").into(), "--".into()].to_vec();
        Ok(Spot { ip: own(host)?.into(), zone, enter })
    }

    /// Where the relay in front of a process listens.
    pub(super) fn relay(&self, host: Host, port: u16) -> std::io::Result<SocketAddr> {
        Ok(SocketAddr::new(relay(host)?.into(), port))
    }

    /// Makes packets vanish on these ways and on no others.
    pub(super) fn sever<'a>(
        &mut self,
        state: impl Iterator<Item = (&'a Way, &'a Wire)>,
    ) -> std::io::Result<()> {
        let wanted: BTreeSet<Way> =
            state.filter(|(_, wire)| **wire == Wire::Severed).map(|(way, _)| *way).collect();
        let mut lines = Vec::new();
        for (verb, ways) in
            [("del", self.severed.difference(&wanted)), ("add", wanted.difference(&self.severed))]
        {
            for (from, to) in ways {
                // Whoever of the two connected: towards the other's relay, and back from one's own.
                for (from, to) in [(own(*from)?, relay(*to)?), (relay(*from)?, own(*to)?)] {
                    lines.push(format!("rule {verb} pref {DROP_PREFERENCE} from {from} to {to} blackhole"));
                }
            }
        }
        ip(&lines)?;
        self.severed = wanted;
        Ok(())
    }

    fn name(&self, host: Host) -> String {
        match host {
            Host::Replica(id) => format!("{}r{id}", self.prefix),
            Host::Lnd(number) => format!("{}l{number}", self.prefix),
        }
    }
}

/// Who has this address.
pub(super) fn owner(ip: IpAddr) -> Option<Host> {
    let IpAddr::V4(ip) = ip else { return None };
    let [first, second, number, last] = ip.octets();
    (([first, second], last) == (NET, 2)).then_some(())?;
    match number.checked_sub(LNDS) {
        None => Some(Host::Replica(number.into())),
        Some(lnd) => Some(Host::Lnd(lnd.into())),
    }
}

fn number(host: Host) -> std::io::Result<u8> {
    let number = match host {
        Host::Replica(id) => u8::try_from(id).ok().filter(|id| (1..LNDS).contains(id)),
        Host::Lnd(number) => {
            u8::try_from(number).ok().and_then(|lnd| lnd.checked_add(LNDS)).filter(|n| *n < RELAYS)
        }
    };
    number.ok_or_else(|| Error::other(format!("no addresses are left for {host}")))
}

fn own(host: Host) -> std::io::Result<Ipv4Addr> {
    Ok(Ipv4Addr::new(NET[0], NET[1], number(host)?, 2))
}

fn router(host: Host) -> std::io::Result<Ipv4Addr> {
    Ok(Ipv4Addr::new(NET[0], NET[1], number(host)?, 1))
}

fn relay(host: Host) -> std::io::Result<Ipv4Addr> {
    Ok(Ipv4Addr::new(NET[0], NET[1], RELAYS, number(host)?))
}

/// A small file system for a directory, seen by this run alone.
pub(super) fn mount_small(path: &Path, size_kib: u64) -> std::io::Result<()> {
    std::fs::create_dir_all(path)?;
    let path = path.to_string_lossy();
    command("mount", &["-t", "tmpfs", "-o", &format!("size={size_kib}k,mode=700"), "mux-nemesis", &path])
}

/// Gives it another size; not less than what is in it.
pub(super) fn resize_small(path: &Path, size_kib: u64) -> std::io::Result<()> {
    // Without the source `mount` repeats the options that the kernel shows. In a user namespace one of them is an owner
    // of outside, which the kernel does not take.
    let options = format!("remount,size={size_kib}k");
    command("mount", &["-t", "tmpfs", "-o", &options, "mux-nemesis", &path.to_string_lossy()])
}

/// Copies what is in it to a directory beside it.
pub(super) fn copy_small(path: &Path) -> std::io::Result<()> {
    let path = path.to_string_lossy();
    command("cp", &["-a", &path, &format!("{path}.kept")])
}

/// At once, whoever still uses it.
pub(super) fn unmount_small(path: &Path) -> std::io::Result<()> {
    command("umount", &["-l", &path.to_string_lossy()])
}

fn command(program: &str, arguments: &[&str]) -> std::io::Result<()> {
    run(Command::new(program).args(arguments), &[], &format!("{program} {}", arguments.join(" ")))
}

/// Lines as after `ip`, all or, from the first error on, none.
fn ip(lines: &[String]) -> std::io::Result<()> {
    run(Command::new("ip").args(["-batch", "-"]), lines, "ip -batch")
}

fn ip_in(name: &str, lines: &[String]) -> std::io::Result<()> {
    run(Command::new("ip").args(["-n", name, "-batch", "-"]), lines, "ip -n -batch")
}

fn run(command: &mut Command, lines: &[String], what: &str) -> std::io::Result<()> {
    let missing = |error: Error| Error::new(error.kind(), format!("{what}: {error}"));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(missing)?;
    if let Some(mut input) = child.stdin.take() {
        for line in lines {
            writeln!(input, "{line}")?;
        }
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::other(format!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_tells_whose_it_is_and_relays_are_nobodys() {
        for host in [Host::Replica(1), Host::Replica(199), Host::Lnd(1), Host::Lnd(54)] {
            assert_eq!(owner(own(host).unwrap().into()), Some(host));
            for other in [router(host).unwrap(), relay(host).unwrap()] {
                assert_ne!(owner(other.into()), Some(host), "{other}");
            }
        }
        assert!(own(Host::Replica(200)).is_err() && own(Host::Replica(0)).is_err());
        assert!(own(Host::Lnd(55)).is_err());
        assert_eq!(owner(Ipv4Addr::LOCALHOST.into()), None);
    }
}
