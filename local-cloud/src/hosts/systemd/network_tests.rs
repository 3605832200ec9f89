//! The switch with hosts that are network namespaces and nothing more, in a network of the test's own: who reaches whom.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};

use super::network::{Connection, METADATA, Switch};
use crate::machines::Private;
use crate::machines::block::Block;
use crate::machines::traffic::{Filter, Flow, Kind, Peers, Ports, Rules, Traffic};

/// How long a connection may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing is taken for nothing: what passes does so in less than a millisecond, and a lost SYN comes again after a second.
const SILENCE: Duration = Duration::from_millis(400);
const BLOCK: Block = Block(3);
const ALICE: u64 = 10_000_001;
const BOB: u64 = 10_000_002;
const CAROL: u64 = 10_000_003;
const DAVE: u64 = 10_000_004;

/// Runs a test with a network and a directory of network namespaces that nobody else sees, or says why it can't.
fn apart(test: &str, run: impl FnOnce(&Net) + Send) {
    if !nix::unistd::geteuid().is_root() {
        println!("tidepool-skip: {test}: not run as root");
        return;
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
            std::fs::create_dir_all("/run/netns").unwrap();
            sh("mount --make-rprivate / && mount -t tmpfs none /run/netns && ip link set lo up");
            let switch = Switch::make(BLOCK).unwrap();
            let net = Net { switch };
            for (machine, network, private) in [
                (ALICE, "a", "10.10.0.2"),
                (BOB, "a", "10.10.0.3"),
                (CAROL, "c", "10.20.0.2"),
            ] {
                net.connect(machine, network, private);
            }
            run(&net);
        });
        thread.join().unwrap();
    });
}

fn sh(line: &str) {
    let status = Command::new("sh").args(["-c", line]).status().unwrap();
    assert!(status.success(), "{line}");
}

struct Net {
    switch: Switch,
}

impl Net {
    fn connect(&self, machine: u64, network: &str, private: &str) {
        self.connect_as(machine, Some(public(machine)), network, private);
    }

    fn connect_as(&self, machine: u64, address: Option<Ipv4Addr>, network: &str, private: &str) {
        let range = format!("{}0/24", private.strip_suffix(['2', '3']).unwrap());
        self.switch
            .connect(&Connection {
                machine,
                public: address,
                known_as: public(machine),
                private: Private {
                    network: network.to_owned(),
                    range: range.parse().unwrap(),
                    ip: private.parse().unwrap(),
                },
            })
            .unwrap();
    }

    fn steer(&self, filters: &[(u64, &Filter)], forwards: &[(Ipv4Addr, u64)]) {
        let filters = filters
            .iter()
            .map(|(machine, filter)| (*machine, (*filter).clone()));
        let forwards = forwards.iter().map(|(from, machine)| (*from, public(*machine)));
        let traffic = Traffic {
            filters: filters.collect(),
            forwards: forwards.collect::<BTreeMap<_, _>>(),
            balancers: BTreeSet::new(),
        };
        self.switch.steer(&traffic).unwrap();
    }
}

fn public(machine: u64) -> Ipv4Addr {
    BLOCK.host(u32::try_from(machine - ALICE).unwrap())
}

fn host(machine: u64) -> String {
    BLOCK.host_name(machine)
}

/// Runs in a network namespace.
fn within<T: Send>(namespace: &str, run: impl FnOnce() -> T + Send) -> T {
    let file = std::fs::File::open(Path::new("/run/netns").join(namespace)).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            run()
        });
        thread.join().unwrap()
    })
}

/// A server that says who it is to everybody, and then what it hears.
fn serve(namespace: &str, port: u16) {
    let listener = within(namespace, || TcpListener::bind(("0.0.0.0", port)).unwrap());
    answer(namespace, listener);
}

fn answer(name: &str, listener: TcpListener) {
    let name = name.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, name) = (stream.unwrap(), name.clone());
            std::thread::spawn(move || {
                let peer = stream.peer_addr().unwrap().ip();
                let _gone = stream.write_all(format!("{name} {peer}\n").as_bytes());
                let mut buffer = [0; 64];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    let _gone = stream.write_all(&buffer[..count]);
                }
            });
        }
    });
}

/// A connection to a server, and what the server said; None when nothing answers.
fn open(address: Ipv4Addr, port: u16) -> Option<(TcpStream, String)> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, port)), SILENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut line = String::new();
    let mut byte = [0];
    while stream.read(&mut byte).ok()? == 1 && byte != *b"\n" {
        line.push(char::from(byte[0]));
    }
    Some((stream, line))
}

fn reaches(address: Ipv4Addr, port: u16) -> bool {
    open(address, port).is_some()
}

/// Whether an open connection still carries what is said.
fn carries((stream, _): &mut (TcpStream, String)) -> bool {
    let mut heard = [0; 1];
    stream.write_all(b"x").is_ok() && matches!(stream.read(&mut heard), Ok(1))
}

fn flow(kind: Kind, peers: &[&str]) -> Flow {
    Flow {
        kind,
        peers: Peers::of(peers.iter().map(|range| range.parse().unwrap())),
    }
}

fn tcp(port: u16) -> Kind {
    Kind::Tcp(Ports {
        first: port,
        last: port,
    })
}

fn filter(addresses: &[Ipv4Addr], inbound: Vec<Flow>, outbound: Vec<Flow>) -> Filter {
    Filter {
        addresses: addresses.to_vec(),
        rules: Arc::new(Rules { inbound, outbound }),
    }
}

const ALICE_PRIVATE: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 2);
const BOB_PRIVATE: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 3);

/// A VPC is removed, and the next one has its range: what hosts ask of the switch is answered into the new one.
#[test]
fn a_new_network_with_the_range_of_an_old_one_is_answered() {
    apart("networks", |net| {
        let listener = net.switch.listener(METADATA).unwrap();
        for network in ["d", "e"] {
            net.connect_as(DAVE, None, network, "10.30.0.2");
            let asked = within(&host(DAVE), || {
                TcpStream::connect_timeout(&listener.local_addr().unwrap(), PATIENCE).map(|_| ())
            });
            assert!(asked.is_ok(), "network {network}: {asked:?}");
            net.switch.disconnect(DAVE).unwrap();
        }
    });
}

#[test]
fn each_side_reaches_the_ports_that_it_may_and_no_other() {
    apart("filters", |net| {
        for port in [22, 80, 8080, 9042] {
            serve(&host(ALICE), port);
        }
        let machine = format!("{}/32", BLOCK.machine());
        let balancer = format!("{}/32", BLOCK.balancer(0));
        let bob = [format!("{}/32", public(BOB)), "10.10.0.3/32".to_owned()];
        let of_alice = filter(
            &[public(ALICE), ALICE_PRIVATE],
            vec![
                flow(tcp(22), &[&machine]),
                flow(tcp(80), &[&bob[0], &bob[1]]),
                flow(tcp(8080), &[&balancer]),
                flow(tcp(9042), &["10.10.0.0/24"]),
            ],
            vec![],
        );
        let scan = |address| [22, 80, 8080, 9042].map(|port| reaches(address, port));
        let by_balancer = |port| connects_from(BLOCK.balancer(0), SocketAddr::from((public(ALICE), port)));
        let expect = |what: &str, from_here, from_bob, bob_private, from_carol| {
            assert_eq!(scan(public(ALICE)), from_here, "{what}: this machine");
            assert_eq!(
                within(&host(BOB), || scan(public(ALICE))),
                from_bob,
                "{what}: a neighbour"
            );
            let private = within(&host(BOB), || scan(ALICE_PRIVATE));
            assert_eq!(
                private, bob_private,
                "{what}: a neighbour, by the private network"
            );
            assert_eq!(
                within(&host(CAROL), || scan(public(ALICE))),
                from_carol,
                "{what}: another network"
            );
        };
        let (all, none) = ([true; 4], [false; 4]);
        expect("open", all, all, all, all);
        net.steer(&[(ALICE, &of_alice)], &[]);
        let bob_public = [false, true, false, false];
        let bob_private = [false, true, false, true];
        expect(
            "filtered",
            [true, false, false, false],
            bob_public,
            bob_private,
            none,
        );
        assert_eq!([8080, 9042].map(by_balancer), [true, false]);
        net.steer(
            &[
                (ALICE, &of_alice),
                (BOB, &filter(&[public(BOB), BOB_PRIVATE], vec![], vec![])),
            ],
            &[],
        );
        expect(
            "the neighbour may begin nothing",
            [true, false, false, false],
            none,
            none,
            none,
        );
        net.steer(&[], &[]);
        expect("open again", all, all, all, all);
    });
}

#[test]
fn what_has_begun_goes_on_and_answers_are_no_beginning() {
    apart("filters of what has begun", |net| {
        serve(&host(ALICE), 22);
        serve(&host(BOB), 22);
        let udp = within(&host(ALICE), || UdpSocket::bind("0.0.0.0:53").unwrap());
        let metadata = net.switch.listener(METADATA).unwrap();
        metadata.set_nonblocking(false).unwrap();
        let gateway = net.switch.listener(BLOCK.gateway()).unwrap();
        let mut here = open(public(ALICE), 22).unwrap();
        let mut neighbour = within(&host(BOB), || open(ALICE_PRIVATE, 22).unwrap());
        let shut = filter(&[public(ALICE), ALICE_PRIVATE], vec![], vec![]);
        net.steer(&[(ALICE, &shut)], &[]);
        assert!(!reaches(public(ALICE), 22));
        assert!(carries(&mut here) && carries(&mut neighbour), "connections go on");
        // It may begin nothing itself, but ask the cloud what it is; packages are the world outside.
        let from_alice = |address, port: u16| within(&host(ALICE), || connects(address, port));
        assert!(!from_alice(public(BOB), 22) && !from_alice(BOB_PRIVATE, 22));
        assert!(from_alice(METADATA, 80));
        assert!(!from_alice(BLOCK.gateway(), 80));
        let out = vec![flow(tcp(22), &["10.10.0.3/32"]), flow(tcp(80), &["0.0.0.0/0"])];
        let dns = vec![flow(Kind::Udp(Ports { first: 53, last: 53 }), &["10.10.0.0/24"])];
        net.steer(
            &[(ALICE, &filter(&[public(ALICE), ALICE_PRIVATE], dns, out))],
            &[],
        );
        assert!(from_alice(BOB_PRIVATE, 22), "the answer is no beginning");
        assert!(!from_alice(public(BOB), 22));
        assert!(from_alice(BLOCK.gateway(), 80));
        drop((gateway, metadata));
        let asked = |from: u64, to: Ipv4Addr| {
            let asking = within(&host(from), || {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.send_to(b"?", (to, 53)).unwrap();
                socket
            });
            let mut buffer = [0; 8];
            udp.set_read_timeout(Some(SILENCE)).unwrap();
            let Ok((_, peer)) = udp.recv_from(&mut buffer) else {
                return false;
            };
            udp.send_to(b"!", peer).unwrap();
            asking.set_read_timeout(Some(PATIENCE)).unwrap();
            asking.recv_from(&mut buffer).is_ok()
        };
        assert!(asked(BOB, ALICE_PRIVATE));
        assert!(!asked(BOB, public(ALICE)) && !asked(CAROL, public(ALICE)));
    });
}

fn connects(address: Ipv4Addr, port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((address, port)), SILENCE).is_ok()
}

/// As a load balancer connects: from its own address, to what the host is known by.
fn connects_from(own: Ipv4Addr, address: SocketAddr) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((own, 0))).unwrap();
        tokio::time::timeout(SILENCE, socket.connect(address))
            .await
            .is_ok_and(|connected| connected.is_ok())
    })
}

#[test]
fn a_further_address_leads_to_one_host_at_a_time_and_moves_in_one_step() {
    apart("further addresses", |net| {
        serve(&host(ALICE), 22);
        serve(&host(BOB), 22);
        let address = BLOCK.forward(0);
        let said = |address| open(address, 22).map(|(_, said)| said);
        let from = |machine, address| within(&host(machine), || said(address));
        assert_eq!(said(address), None);
        net.steer(&[], &[(address, ALICE)]);
        let here = BLOCK.machine();
        assert_eq!(said(address), Some(format!("{} {here}", host(ALICE))));
        assert_eq!(said(BLOCK.forward(1)), None);
        for machine in [BOB, CAROL] {
            let heard = from(machine, address).unwrap();
            assert!(heard.starts_with(&host(ALICE)), "{heard}");
        }
        let mut before = open(address, 22).unwrap();
        let mut direct = open(public(ALICE), 22).unwrap();
        net.steer(&[], &[(address, BOB)]);
        assert_eq!(said(address), Some(format!("{} {here}", host(BOB))));
        assert!(from(CAROL, address).unwrap().starts_with(&host(BOB)));
        assert!(!carries(&mut before), "the address is another host's now");
        assert!(carries(&mut direct), "its own address is not");
        // What may reach the host by its own address may by the further one, and nothing else.
        let only_here = vec![flow(tcp(22), &[&format!("{here}/32")])];
        let of_bob = filter(&[public(BOB), BOB_PRIVATE], only_here, vec![]);
        net.steer(&[(BOB, &of_bob)], &[(address, BOB)]);
        assert_eq!(said(address), Some(format!("{} {here}", host(BOB))));
        assert_eq!(from(CAROL, address), None);
        // As when its power is cut and comes back.
        net.switch.disconnect(BOB).unwrap();
        net.connect(BOB, "a", "10.10.0.3");
        serve(&host(BOB), 22);
        assert_eq!(said(address), Some(format!("{} {here}", host(BOB))));
        net.steer(&[], &[]);
        assert_eq!(said(address), None);
        assert_eq!(from(CAROL, address), None);
    });
}

/// What is beyond this machine, and what leads there.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// This machine's address on the way there.
const HERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// A network beyond this machine, which is its router. Hosts would be answered there.
fn make_outside() {
    sh(&format!(
        "ip netns add outside && ip link add outside type veth peer name machine netns outside && \
         ip addr add {HERE}/24 dev outside && ip link set outside up && ip -n outside addr add {OUTSIDE}/24 dev machine && \
         ip -n outside link set machine up && ip -n outside route add default via {HERE} && \
         echo 1 > /proc/sys/net/ipv4/ip_forward"
    ));
}

#[test]
fn hosts_reach_nothing_beyond_this_machine_and_of_it_the_balancers_alone() {
    apart("no way out", |net| {
        make_outside();
        serve("outside", 80);
        answer("here alone", TcpListener::bind((HERE, 81)).unwrap());
        answer("anywhere", TcpListener::bind(("0.0.0.0", 82)).unwrap());
        answer("anywhere", TcpListener::bind(("0.0.0.0", 83)).unwrap());
        let all = [
            (OUTSIDE, 80),
            (HERE, 81),
            (HERE, 82),
            (BLOCK.machine(), 82),
            (BLOCK.balancer(0), 82),
            (BLOCK.balancer(0), 83),
            (BLOCK.balancer(1), 82),
            (BLOCK.forward(1), 82),
        ];
        let reached = |from: Option<u64>| -> Vec<(Ipv4Addr, u16)> {
            let scan = || {
                let answer = all.iter().filter(|(address, port)| reaches(*address, *port));
                answer.copied().collect()
            };
            from.map_or_else(scan, |machine| within(&host(machine), scan))
        };
        let unforwarded = |(address, _): &&(Ipv4Addr, u16)| *address != BLOCK.forward(1);
        let by_this_machine: Vec<_> = all.iter().filter(unforwarded).copied().collect();
        assert_eq!(reached(None), by_this_machine, "this machine reaches all of it");
        let none: [(Ipv4Addr, u16); 0] = [];
        assert_eq!(reached(Some(ALICE)), none, "without a load balancer");
        let balancers = |ports: &[u16]| {
            let traffic = Traffic {
                balancers: ports.iter().map(|port| (BLOCK.balancer(0), *port)).collect(),
                ..Traffic::default()
            };
            net.switch.steer(&traffic).unwrap();
        };
        balancers(&[82]);
        let balancer = [(BLOCK.balancer(0), 82)];
        assert_eq!(reached(Some(ALICE)), balancer);
        // The rules hold by themselves, should the switch ever know the way.
        let (switch, machine) = (BLOCK.name(), BLOCK.machine());
        sh(&format!(
            "ip -n {switch} route add default via {machine} dev uplink onlink"
        ));
        assert_eq!(reached(Some(CAROL)), balancer, "there is a way, and it is shut");
        balancers(&[]);
        assert_eq!(reached(Some(CAROL)), none);
        // And all of this would be seen if they didn't.
        sh(&format!("ip netns exec {switch} nft delete table inet tidepool"));
        assert_eq!(reached(Some(CAROL)), all[..7], "what is looked for can be found");
    });
}
