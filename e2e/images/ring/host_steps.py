"""Database hosts as clones of one image: what differs, what must not be there, who can reach what, and what a second run changes."""

import json
import re

import images
from hosts import wait_until
from images import traces
from trial import require

# What db.yml opens, and ssh.
PRIVATE_PORTS, PUBLIC_PORTS = {22, 7000, 7010, 9042}, {22}
# Nobody opened it in the firewall.
UNINTENDED_PORT = 7777
METRICBEAT_ID = "/var/lib/metricbeat/meta.json"
# As much of a monitoring host as Metricbeat waits for before it begins.
TEMPLATE = """
mkdir -p /run/monitoring/_index_template && touch /run/monitoring/_index_template/metricbeat
systemd-run --quiet --unit=monitoring python3 -m http.server --bind 127.0.0.1 --directory /run/monitoring 9200
"""
PROBE = """
import concurrent.futures, json, socket, sys
def opens(place):
    try:
        socket.create_connection(place, timeout=3).close()
        return True
    except OSError:
        return False
places = [(address, port) for address, port in json.load(sys.stdin)]
with concurrent.futures.ThreadPoolExecutor(32) as pool:
    print(json.dumps([place for place, found in zip(places, pool.map(opens, places)) if found]))
"""


def clones_differ_in_all_that_makes_a_host(trial):
    for host in trial.hosts:
        host.run("bash -s", given=TEMPLATE)
    for host in trial.hosts:
        wait_until(f"Metricbeat of {host.name} has an id", 60, lambda host=host: host.run("cat", METRICBEAT_ID, check=False))
        host.run("systemctl", "stop", "monitoring")
    for what, command in (
        ("machine-id", "cat /etc/machine-id"),
        ("host key", "cat /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f2"),
        ("name", "hostname"),
        ("addresses", "hostname --all-ip-addresses"),
        ("Metricbeat's id", f"grep -oE '[0-9a-f-]{{36}}' {METRICBEAT_ID}"),
        ("member's id", "python3 -c 'import json; print(json.load(open(\"/var/lib/cassandra/tidepool/identity.json\"))[\"id\"])'"),
    ):
        found = [host.run(command).strip() for host in trial.hosts]
        require(all(found) and len(set(found)) == len(found), f"{what}: {found}")


def nothing_of_the_build_is_in_the_snapshot_or_on_a_host(trial):
    problems = traces.found(images.layer(trial.state, trial.images["db"]))
    require(not problems, problems)
    for host in trial.hosts:
        left = traces.on_host(host.run)
        require(not left, f"{host.name}: {left}")


def from_a_neighbour_only_the_intended_ports_answer(trial):
    target, neighbour = trial.hosts[0], trial.hosts[1]
    target.run("systemd-run", "--quiet", "--unit=unintended", "python3", "-m", "http.server", str(UNINTENDED_PORT))
    try:
        wait_until("a port is open that nobody intended", 30, lambda: UNINTENDED_PORT in listening(target))
        ports = sorted(listening(target) | PRIVATE_PORTS)
        for address, intended in ((target.private, PRIVATE_PORTS), (target.public, PUBLIC_PORTS)):
            places = [[address, port] for port in ports]
            found = {port for _, port in answering(neighbour, places)}
            require(found == intended, f"{address} of {ports}: {sorted(found)} answer, {sorted(intended)} are intended")
    finally:
        target.run("systemctl", "stop", "unintended", check=False)
    print(f"  of {len(ports)} ports that something listens on")


def listening(host):
    """TCP ports, whatever the address."""
    return {int(line.split()[3].rsplit(":", 1)[1]) for line in host.run("ss", "-Hltn").splitlines()}


def answering(host, places):
    """Those of [[address, port]] that `host` gets through to."""
    return json.loads(host.run(f"python3 -c '{PROBE}'", given=json.dumps(places)))


def exposure_is_what_the_readme_says(trial):
    said = trial.hosts[0].run("systemd-analyze", "security", "--no-pager", "cassandra.service")
    exposure = re.search(r"exposure level for cassandra.service: ([0-9.]+)", said)[1]
    print(f"  systemd-analyze security: {exposure}")
    readme = (images.REPOSITORY / "images/roles/db/README.md").read_text(encoding="utf-8")
    require(f"`systemd-analyze security` says {exposure} of Cassandra" in readme, f"{exposure}, and the README says another:\n{said}")


def a_second_run_changes_nothing(trial):
    said = images.playbook("db", trial.hosts[0], trial.work)
    require(re.search(r"\bchanged=0\b.*\bfailed=0\b", said), said[-2000:])
