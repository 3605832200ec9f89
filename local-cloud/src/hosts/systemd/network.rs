//! The network of one cloud. A namespace of its own is the switch: a bridge that every host's public address is on, one more
//! for each private network, and a link to this machine. The switch routes between hosts and this machine, and has no
//! other route; what hosts may ask of this machine is its load balancers, and of the switch the metadata service, names and packages.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::command::{self, CommandError};
use super::filters::{self, Held};
use super::rules::{self, Element, NAME_SERVERS};
use crate::dns::Sockets;
use crate::machines::Private;
use crate::machines::block::Block;
use crate::machines::traffic::Traffic;

/// Where clouds serve what a machine is told.
pub(super) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The port of HTTP, for the metadata service and packages.
const HTTP_PORT: u16 = 80;
/// The port that names are asked for at.
pub(super) const DNS_PORT: u16 = 53;
/// The bridge of the public addresses.
const PUBLIC_BRIDGE: &str = "public";
/// The switch's end of the link to this machine.
const UPLINK: &str = "uplink";
/// Where `ip netns` keeps namespaces by name.
const NAMESPACES: &str = "/run/netns";
/// Where the kernel is told that frames between two ports of a bridge pass the rules of nftables, for each network namespace. It is
/// there once br_netfilter is.
pub(super) const BRIDGES_FILTER: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// How one host is connected.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) machine: u64,
    /// None without a public interface.
    pub(super) public: Option<Ipv4Addr>,
    /// What this machine knows it by, whether the host has it or not.
    pub(super) known_as: Ipv4Addr,
    pub(super) private: Private,
}

/// The switch of one cloud.
#[derive(Debug)]
pub(super) struct Switch {
    block: Block,
    /// The bridges of private networks, and the machines on each. One goes with its last machine: a network that comes after
    /// it may have the same range, and the kernel would go on looking for its hosts here.
    bridges: Mutex<BTreeMap<String, BTreeSet<u64>>>,
    /// What the rules know of each machine that is connected.
    known: Mutex<BTreeMap<u64, Vec<Element>>>,
    /// What the rules hold of traffic.
    held: Mutex<Held>,
    /// Whether neighbours' connections pass the filters, too.
    filters_bridges: bool,
}

/// Why filters are not held.
#[derive(Debug, thiserror::Error)]
pub(super) enum SteerError {
    #[error(transparent)]
    Rules(#[from] CommandError),
    #[error(
        "the kernel has no br_netfilter, without which nothing between two hosts of one network is filtered"
    )]
    Bridges,
}

impl Switch {
    /// Makes the switch of a block that is ours.
    ///
    /// # Errors
    /// When the kernel or a program refuses; something may be left then.
    pub(super) fn make(block: Block) -> Result<Self, CommandError> {
        let (name, gateway, machine) = (block.name(), block.gateway(), block.machine());
        let (hosts, own, forwards) = (block.hosts(), block.own(), block.forwards());
        let [first_server, second_server] = NAME_SERVERS;
        batch(
            None,
            &format!(
                "netns add {name}\n\
                 link add {name} type veth peer name {UPLINK} netns {name}\n\
                 addr add {machine}/32 dev {name}\n\
                 link set {name} up\n\
                 route add {hosts}/24 via {gateway} dev {name} onlink src {machine}\n\
                 route add local {own}/24 dev {name}\n\
                 route add {forwards} via {gateway} dev {name} onlink src {machine} table local\n"
            ),
        )?;
        batch(
            Some(&name),
            &format!(
                "link set lo up\n\
                 link add {PUBLIC_BRIDGE} type bridge\n\
                 addr add {gateway}/24 dev {PUBLIC_BRIDGE}\n\
                 addr add {METADATA}/32 dev {PUBLIC_BRIDGE}\n\
                 addr add {first_server}/32 dev {PUBLIC_BRIDGE}\n\
                 addr add {second_server}/32 dev {PUBLIC_BRIDGE}\n\
                 link set {PUBLIC_BRIDGE} up\n\
                 link set {UPLINK} up\n\
                 route add {own}/24 via {machine} dev {UPLINK} onlink\n"
            ),
        )?;
        let filters_bridges = filter_bridges();
        let mut forward = command::command("ip");
        forward.args(["netns", "exec", &name, "sh", "-c"]);
        let bridges = match filters_bridges {
            true => format!("echo 1 > {BRIDGES_FILTER} && "),
            false => String::new(),
        };
        forward.arg(format!(
            "echo 1 > /proc/sys/net/ipv4/ip_forward && {bridges}exec nft -f -"
        ));
        command::finish(forward, &rules::of(block))?;
        let switch = Self {
            block,
            bridges: Mutex::default(),
            known: Mutex::default(),
            held: Mutex::default(),
            filters_bridges,
        };
        switch.rule(&rules::added(&[Element::within(PUBLIC_BRIDGE)]))?;
        Ok(switch)
    }

    /// Gives a host's namespace its interfaces, as new: what the host changed in an earlier life is gone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn connect(&self, connection: &Connection) -> Result<(), CommandError> {
        self.disconnect(connection.machine)?;
        let bridge = self.bridge(connection.machine, &connection.private)?;
        let namespace = self.block.host_name(connection.machine);
        let (public_port, private_port) = ports(connection.machine);
        batch(None, &format!("netns add {namespace}\n"))?;
        let (private, switch) = (&connection.private, self.block.name());
        let (ip, private_mac, prefix) = (private.ip, mac(1, private.ip), private.range.prefix());
        batch(
            Some(&switch),
            &format!(
                "link add {private_port} type veth peer name eth1 address {private_mac} netns {namespace}\n\
                 link set {private_port} master {bridge} up\n"
            ),
        )?;
        let mut elements = vec![Element::balanced(connection.known_as, ip)];
        elements.extend(Element::own(&private_port, ip, &private_mac));
        if let Some(public) = connection.public {
            elements.extend(Element::own(&public_port, public, &mac(0, public)));
        }
        self.rule(&rules::added(&elements))?;
        self.known().insert(connection.machine, elements);
        let own = format!("link set lo up\naddr add {ip}/{prefix} dev eth1\nlink set eth1 up\n");
        let Some(public) = connection.public else {
            // What it asks of the metadata service and the name server goes by its private network.
            let asked = [METADATA].into_iter().chain(NAME_SERVERS);
            let routes: String = asked
                .map(|address| format!("route add {address}/32 dev eth1\n"))
                .collect();
            return batch(Some(&namespace), &format!("{own}{routes}"));
        };
        let (gateway, public_mac) = (self.block.gateway(), mac(0, public));
        batch(
            Some(&switch),
            &format!(
                "link add {public_port} type veth peer name eth0 address {public_mac} netns {namespace}\n\
                 link set {public_port} master {PUBLIC_BRIDGE} up\n"
            ),
        )?;
        batch(
            Some(&namespace),
            &format!(
                "{own}addr add {public}/24 dev eth0\nlink set eth0 up\nroute add default via {gateway} dev eth0\n"
            ),
        )
    }

    /// Takes a host's interfaces and namespace away; one that has none is no mistake.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn disconnect(&self, machine: u64) -> Result<(), CommandError> {
        let elements = self.known().remove(&machine);
        if let Some(elements) = elements {
            self.rule(&rules::deleted(&elements))?;
        }
        let namespace = self.block.host_name(machine);
        if !exists(&namespace) {
            return self.leave_bridges(machine);
        }
        // The links first: with their namespace they would go some time later, and a new host has the same addresses.
        let (public_port, private_port) = ports(machine);
        for port in [public_port, private_port] {
            let name = self.block.name();
            if let Err(error) = command::run("ip", &["-n", &name, "link", "del", &port]) {
                tracing::debug!(machine, %error, "no such port");
            }
        }
        command::run("ip", &["netns", "del", &namespace])?;
        self.leave_bridges(machine)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<Element>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what the rules know.
    fn rule(&self, lines: &str) -> Result<(), CommandError> {
        let mut nft = command::command("ip");
        nft.args(["netns", "exec", &self.block.name(), "nft", "-f", "-"]);
        command::finish(nft, lines).map(|_| ())
    }

    /// Lets this pass from now on, and nothing else begin with a machine that has a filter.
    ///
    /// # Errors
    /// When the kernel refuses, and it is as it was; or when it can't look between neighbours.
    pub(super) fn steer(&self, traffic: &Traffic) -> Result<(), SteerError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let next = held.after(traffic);
        let lines = filters::changed(&held, &next);
        if !lines.is_empty() {
            self.rule(&lines)?;
            *held = next;
        }
        if self.filters_bridges || traffic.filters.is_empty() {
            Ok(())
        } else {
            Err(SteerError::Bridges)
        }
    }

    /// Cuts a host off from everything, or connects it again.
    ///
    /// # Errors
    /// When the host has no interfaces.
    pub(super) fn set_reachable(&self, machine: u64, reachable: bool) -> Result<(), CommandError> {
        let (public_port, private_port) = ports(machine);
        let state = if reachable { "up" } else { "down" };
        let switch = self.block.name();
        let set = |port: &str| command::run("ip", &["-n", &switch, "link", "set", port, state]).map(|_| ());
        if let Err(error) = set(&public_port) {
            tracing::debug!(machine, %error, "no public interface");
        }
        set(&private_port)
    }

    /// A listener in the switch for HTTP from hosts, at one of the switch's own addresses.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn listener(&self, address: Ipv4Addr) -> std::io::Result<TcpListener> {
        self.inside(move || {
            let listener = TcpListener::bind((address, HTTP_PORT))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })
    }

    /// Sockets in the switch for questions about names, at one of the switch's own addresses.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn dns_sockets(&self, address: Ipv4Addr) -> std::io::Result<Sockets> {
        self.inside(move || Sockets::bind((address, DNS_PORT).into()))
    }

    /// Opens sockets in the switch's namespace; they stay in it.
    fn inside<T: Send + 'static>(
        &self,
        open: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> std::io::Result<T> {
        let path = Path::new(NAMESPACES).join(self.block.name());
        // A thread of its own: it alone enters the namespace, and ends there.
        let thread = std::thread::Builder::new()
            .name("listen".to_owned())
            .spawn(move || {
                let namespace = std::fs::File::open(path)?;
                nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
                open()
            })?;
        thread
            .join()
            .unwrap_or_else(|_panic| Err(std::io::Error::other("the thread that listens failed")))
    }

    fn bridges(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<u64>>> {
        self.bridges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bridge of a private network, made for its first machine.
    fn bridge(&self, machine: u64, private: &Private) -> Result<String, CommandError> {
        let bridge = bridge_name(&private.network);
        let mut bridges = self.bridges();
        if !bridges.contains_key(&bridge) {
            let (gateway, prefix) = (private.interface().gateway, private.range.prefix());
            let lines = format!(
                "link add {bridge} type bridge\naddr add {gateway}/{prefix} dev {bridge}\nlink set {bridge} up\n"
            );
            batch(Some(&self.block.name()), &lines)?;
            self.rule(&rules::added(&[Element::within(&bridge)]))?;
        }
        bridges.entry(bridge.clone()).or_default().insert(machine);
        Ok(bridge)
    }

    /// Removes the bridges on which this machine was the last.
    fn leave_bridges(&self, machine: u64) -> Result<(), CommandError> {
        let mut bridges = self.bridges();
        let left: Vec<String> = bridges
            .iter_mut()
            .filter_map(|(bridge, on_it)| {
                (on_it.remove(&machine) && on_it.is_empty()).then(|| bridge.clone())
            })
            .collect();
        for bridge in left {
            // First what can fail with the bridge as it was: one that stays is used again.
            command::run("ip", &["-n", &self.block.name(), "link", "del", &bridge])?;
            bridges.remove(&bridge);
            self.rule(&rules::deleted(&[Element::within(&bridge)]))?;
        }
        Ok(())
    }
}

/// Has the kernel look between the ports of bridges, and leaves this machine's own bridges as they were; whether it does.
fn filter_bridges() -> bool {
    if Path::new(BRIDGES_FILTER).exists() {
        return true;
    }
    if let Err(error) = command::run("modprobe", &["br_netfilter"]) {
        tracing::warn!(%error, "br_netfilter can't be loaded");
        return false;
    }
    // Not asked for by whoever has bridges here; each network namespace has a switch of its own.
    for rules in ["iptables", "ip6tables", "arptables"] {
        let switch = format!("/proc/sys/net/bridge/bridge-nf-call-{rules}");
        if let Err(error) = std::fs::write(&switch, "0") {
            tracing::warn!(switch, %error, "this machine's own bridges are filtered since br_netfilter is there");
        }
    }
    Path::new(BRIDGES_FILTER).exists()
}

/// Removes whatever there is of a block's network: its namespaces with all that is in them, and the link.
///
/// # Errors
/// When something stays.
pub(super) fn remove(block: Block) -> Result<(), CommandError> {
    let name = block.name();
    if Path::new("/sys/class/net").join(&name).exists() {
        command::run("ip", &["link", "del", &name])?;
    }
    let hosts = format!("{name}-");
    let entries = std::fs::read_dir(NAMESPACES).into_iter().flatten().flatten();
    for namespace in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
        if namespace == name || namespace.starts_with(&hosts) {
            command::run("ip", &["netns", "del", &namespace])?;
        }
    }
    Ok(())
}

fn exists(namespace: &str) -> bool {
    Path::new(NAMESPACES).join(namespace).exists()
}

/// The switch's ends of a host's two links. Ids have eight digits, and a link's name at most 15 characters.
fn ports(machine: u64) -> (String, String) {
    (format!("p{machine}"), format!("v{machine}"))
}

/// A bridge is named after the first 11 hexadecimal digits of its network's id: a link's name has at most 15 characters.
fn bridge_name(network: &str) -> String {
    let digits = network.chars().filter(char::is_ascii_hexdigit).take(11);
    format!("vpc-{}", digits.collect::<String>().to_lowercase())
}

/// A hardware address that follows from the address: neighbours that remember one stay right when a host comes back.
pub(super) fn mac(kind: u8, ip: Ipv4Addr) -> String {
    let [a, b, c, d] = ip.octets();
    format!("02:{kind:02x}:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Runs lines of `ip` in a namespace, or in this machine's own; ends at the first that fails.
fn batch(namespace: Option<&str>, lines: &str) -> Result<(), CommandError> {
    let mut ip = command::command("ip");
    if let Some(namespace) = namespace {
        ip.args(["-n", namespace]);
    }
    ip.args(["-batch", "-"]);
    command::finish(ip, lines).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_what_the_kernel_allows_for_a_link() {
        let (public, private) = ports(10_000_001);
        assert_eq!((public.as_str(), private.as_str()), ("p10000001", "v10000001"));
        assert_eq!(
            bridge_name("5A4981aa-9653-4bd1-bef5-d6bff52042e4"),
            "vpc-5a4981aa965"
        );
    }

    #[test]
    fn hardware_addresses_are_local_and_differ() {
        let ip = Ipv4Addr::new(198, 18, 0, 4);
        assert_eq!(mac(0, ip), "02:00:c6:12:00:04");
        assert_ne!(mac(0, ip), mac(1, ip));
    }
}
