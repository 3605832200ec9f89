"""What holds of each image: nothing of its build is in it, and its clones are hosts of their own."""

import re
import subprocess

import pytest
from cloud import until
from conftest import IMAGES, USER_DATA, traces

# What answers a neighbour: at the public address and at the private one. Neighbours of a local cloud are private sources by either.
INTENDED = {
    "api": ({22, 8080, 9090}, {22, 8080, 9090}),
    "autoscaler": ({22}, {22}),
    # It was told of no ring.
    "db": ({22}, {22}),
    "monitoring": ({22}, {22, 9200}),
}
# Nobody's: a program that somebody starts on a host.
UNINTENDED = 7777

pytestmark = pytest.mark.parametrize("name", IMAGES)


def test_nothing_of_the_build_is_in_the_snapshot(images, name):
    files = images[name].files
    assert traces.found(files) == []
    tops = [files / top for top in ("etc", "root", "home", "var") if (files / top).exists()]
    keys = subprocess.run(["grep", "-raEl", "--", "-----BEGIN [A-Z ]*PRIVATE KEY-----", *tops], capture_output=True, text=True, check=False)
    assert keys.stdout == ""


def test_clones_differ_in_all_that_makes_a_host(pairs, name):
    for command in ["cat /etc/machine-id", "cat /etc/ssh/ssh_host_ed25519_key.pub", "hostname", "hostname --all-ip-addresses"]:
        one, other = (clone.ssh(command) for clone in pairs[name])
        assert one and other and one != other, command
    assert [clone.ssh("cat /etc/hostname") for clone in pairs[name]] == [clone.name for clone in pairs[name]]


def test_each_has_its_own_user_data_and_nothing_of_the_builds(pairs, name):
    told = [clone.ssh("cat /var/lib/cloud/instance/user-data.txt") for clone in pairs[name]]
    assert told == [USER_DATA[name], ""]
    for clone in pairs[name]:
        assert traces.on_host(clone.ssh) == []


def test_from_a_neighbour_only_the_intended_ports_answer(pairs, name):
    one, other = pairs[name]
    one.ssh(f"systemd-run --quiet --unit=unintended python3 -m http.server {UNINTENDED}")
    until("the port is open from within", lambda: one.try_ssh(f"curl --silent --output /dev/null http://127.0.0.1:{UNINTENDED}/").returncode == 0 or None)
    listening = {int(port) for port in re.findall(r":(\d+) ", one.ssh("ss --listening --tcp --numeric --no-header"))}
    assert UNINTENDED in listening
    for address, intended in zip((one.public, one.private), INTENDED[name], strict=True):
        probe = f"timeout 3 bash -c '</dev/tcp/{address}/'$port 2>/dev/null && echo $port"
        ports = " ".join(map(str, sorted(listening | intended)))
        assert {int(port) for port in other.ssh(f"for port in {ports}; do {probe}; done; true").split()} == intended
    one.ssh("systemctl stop unintended")
