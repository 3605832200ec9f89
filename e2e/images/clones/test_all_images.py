"""What holds of each image: nothing of its build is in it, and its clones are hosts of their own."""

import re
import subprocess

import pytest
from cloud import REPOSITORY
from conftest import FIGURES, IMAGES, USER_DATA, manifests, ports, traces

# What answers a neighbour: at the public address and at the private one. Neighbours of a local cloud are private sources by either.
INTENDED = {
    "api": ({22, 8080, 9090}, {22, 8080, 9090}),
    "autoscaler": ({22}, {22}),
    # It was told of no ring.
    "db": ({22}, {22}),
    "monitoring": ({22}, {22, 9200}),
}
# What answers those whose address is not private, wherever they ask; and what they must be kept from.
PUBLIC = {"api": {22, 8080}, "autoscaler": {22}, "db": {22}, "monitoring": {22}}
PRIVATE = {7000, 7010, 9042, 9090, 9200}

pytestmark = pytest.mark.parametrize("name", IMAGES)


def test_nothing_of_the_build_is_in_the_snapshot(images, name):
    files = images[name].files
    assert traces.found(files) == []
    tops = [files / top for top in ("etc", "root", "home", "var") if (files / top).exists()]
    keys = subprocess.run(["grep", "-raEl", "--", "-----BEGIN [A-Z ]*PRIVATE KEY-----", *tops], capture_output=True, text=True, check=False)
    assert keys.stdout == ""


def test_tags_say_what_it_is_of_which_version_and_commit(cloud, name):
    manifest = manifests()[name]
    version = re.sub("[^0-9a-z]", "-", manifest["version"].lower())
    shown = cloud.call("GET", f"/v2/snapshots/{manifest['id']}")["snapshot"]
    assert shown["name"] == f"tidepool-{name}-{manifest['version']}"
    # What a sweep looks at is the last one of these; without it the image counts as unfinished.
    wanted = {f"tidepool-version:{version}", f"tidepool-commit:{manifest['commit']}", f"tidepool-image:{name}", "tidepool-image"}
    assert set(shown["tags"]) == wanted


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
    public, private = INTENDED[name]
    with ports.unintended(one.ssh) as listening:
        assert ports.UNINTENDED in listening
        for address, intended in ((one.public, public), (one.private, private)):
            tried = ports.of([address], listening | intended) + ports.of([address], [ports.UNINTENDED], "udp")
            assert ports.answering(other.ssh, tried) == {("tcp", address, port) for port in intended}


def test_from_outside_only_the_public_ports_answer(pairs, name):
    host = pairs[name][0]
    with ports.unintended(host.ssh) as listening, ports.outside(host.ssh) as from_outside:
        # Our programs listen at IPv4's addresses.
        wanted = {("tcp", ports.INSIDE_V6, 22)}
        addresses = [host.public, host.private, ports.INSIDE_V4]
        wanted |= {("tcp", address, port) for address in addresses for port in PUBLIC[name]}
        everywhere = [*addresses, ports.INSIDE_V6]
        tried = ports.of(everywhere, listening | PRIVATE) + ports.of(everywhere, [ports.UNINTENDED], "udp")
        assert ports.answering(from_outside, tried) == wanted


# Where our units are: the roles' and our packages'.
OURS = [("/etc/systemd/system", "*"), ("/usr/lib/systemd/system", "tidepool-*")]
UNIT_OF_LOCAL_CLOUD = "tidepool-local-cloud.service"


def test_units_are_exposed_as_the_documents_say(pairs, name):
    host = pairs[name][1]
    if host.ssh("systemctl --version").split()[1] != "252":
        pytest.skip("another systemd counts otherwise: the figures are of Debian 12's")
    # It is in no image; a unit is enough to be counted.
    text = (REPOSITORY / "packaging/tidepool-local-cloud" / UNIT_OF_LOCAL_CLOUD).read_text()
    host.ssh(f"cat >/run/systemd/system/{UNIT_OF_LOCAL_CLOUD} <<'END'\n{text}END\nsystemctl daemon-reload")
    ours = [host.ssh(f"find {place} -maxdepth 1 -type f -name '{names}.service' -printf '%f\\n'").split() for place, names in OURS]
    ours = {unit.removesuffix(".service") for unit in [UNIT_OF_LOCAL_CLOUD, *sum(ours, [])]}
    said = {unit: host.ssh(f"systemd-analyze security --no-pager {unit}.service | tail -n 1") for unit in ours}
    host.ssh(f"rm /run/systemd/system/{UNIT_OF_LOCAL_CLOUD}; systemctl daemon-reload")
    found = {unit: re.search(r"exposure level for .*: ([0-9.]+)", line)[1] for unit, line in said.items()}
    FIGURES.append(f"{name} is exposed by {', '.join(f'{unit} {exposure}' for unit, exposure in sorted(found.items()))}")
    documented = documented_exposures()
    assert found == {unit: documented.get(unit) for unit in found}


def documented_exposures():
    """By docs/images.md; a line of its table has one or several units, and one figure."""
    rows = re.findall(r"^\| ([a-z, -]+) \| ([0-9]\.[0-9])\b", (REPOSITORY / "docs/images.md").read_text(), re.MULTILINE)
    return {unit: exposure for units, exposure in rows for unit in units.split(", ")}
