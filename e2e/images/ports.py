"""Which ports of a host answer whom: a neighbour, whose addresses are private, and somebody out there, whose are not; by TCP and UDP, IPv4 and
IPv6. `run` gives what a command prints on a host, as root."""

import contextlib
import json
import re
import shlex

# Nobody opened it in the firewall. Something answers there by every protocol.
UNINTENDED = 7777
SERVER = f"""
import socket
tcp = socket.create_server(("", {UNINTENDED}), family=socket.AF_INET6, dualstack_ipv6=True)
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
udp.bind(("", {UNINTENDED}))
while True:
    udp.sendto(*udp.recvfrom(100))
"""
# Prints those of [[protocol, address, port]] that answer: of UDP, what sends back what it was sent.
PROBE = """
import concurrent.futures, json, socket, sys
def opens(protocol, address, port):
    try:
        if protocol == "tcp":
            socket.create_connection((address, port), timeout=3).close()
            return True
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.settimeout(3)
            udp.connect((address, port))
            udp.send(b"answer")
            return udp.recv(100) == b"answer"
    except OSError:
        return False
places = json.loads(sys.argv[1])
with concurrent.futures.ThreadPoolExecutor(32) as pool:
    print(json.dumps([place for place, found in zip(places, pool.map(lambda place: opens(*place), places)) if found]))
"""
# Addresses of documentation: in no private network, and not those of a local cloud.
INSIDE_V4, INSIDE_V6 = "203.0.113.1", "2001:db8::1"
OUTSIDE_V4, OUTSIDE_V6 = "203.0.113.2", "2001:db8::2"
# A network of its own on the host, which the host knows by one more link: what comes from there passes the firewall as what comes by any other.
NETWORK = f"""
ip netns add outside
ip link add to-outside type veth peer name eth0 netns outside
ip address add {INSIDE_V4}/24 dev to-outside
ip address add {INSIDE_V6}/64 dev to-outside nodad
ip link set to-outside up
ip -n outside address add {OUTSIDE_V4}/24 dev eth0
ip -n outside address add {OUTSIDE_V6}/64 dev eth0 nodad
ip -n outside link set eth0 up
ip -n outside route add default via {INSIDE_V4}
"""


@contextlib.contextmanager
def unintended(run):
    """Something listens at a port that nobody intended; what else listens by TCP, and that port, are the value."""
    run(f"systemd-run --quiet --unit=unintended python3 -c {shlex.quote(SERVER)}")
    try:
        here = [[protocol, address, UNINTENDED] for protocol in ("tcp", "udp") for address in ("127.0.0.1", "::1")]
        run(f"for try in $(seq 100); do {probe(here)} | grep -q udp && break; sleep 0.1; done")
        assert answering(run, here) == {tuple(place) for place in here}, "it does not answer on the host itself"
        yield {int(port) for port in re.findall(r":(\d+) ", run("ss --listening --tcp --numeric --no-header"))}
    finally:
        run("systemctl stop unintended")


@contextlib.contextmanager
def outside(run):
    """What runs a command from out there, with the host reachable at INSIDE_V4 and INSIDE_V6, too."""
    try:
        run(f"set -e\n{NETWORK}")
        yield lambda command: run(f"nsenter --net=/run/netns/outside {command}")
    finally:
        run("ip link del to-outside; ip netns del outside")


def answering(run, places):
    return {tuple(place) for place in json.loads(run(probe(places)))}


def probe(places):
    return f"python3 -c {shlex.quote(PROBE)} {shlex.quote(json.dumps(places))}"


def of(addresses, ports, protocol="tcp"):
    return [[protocol, address, port] for address in addresses for port in sorted(ports)]
