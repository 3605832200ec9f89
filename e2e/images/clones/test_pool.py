"""The autoscaler's image, given a pool by user data, resizes it by what Metricbeat says of its hosts."""

import contextlib
import json
import os
import time

import pytest
from cloud import SIZE, Droplet, until
from conftest import FIGURES, cloud_config, needs
from monitor import SETTINGS, cpu, senders, settings

# Where the host of the autoscaler sees the cloud's API.
PORT = 7780
# Above what a host takes that has nothing to do (0.03), and below what a busy loop gets on a machine with a load of 25 (0.2).
TARGET = 0.1
SCALING_SECS = 300
CONFIG = """tick_secs = 2
state_dir = "/var/lib/tidepool-autoscaler"
metrics = "elasticsearch"
[elasticsearch]
url = "http://{monitor}:9200"
[digitalocean]
base_url = "http://127.0.0.1:{port}"
token_file = "/run/credentials/tidepool-autoscaler.service/secret_digitalocean-token"
[[pool]]
name = "web"
min = 1
max = 2
policy = [{{ preset = "cpu", target = {target} }}]
[pool.digitalocean]
region = "nyc3"
size = "{size}"
image = {image}
ssh_keys = [{key}]
user_data_file = "/etc/tidepool-autoscaler/member.yaml"
[pool.windows]
in_secs = 20
[pool.life]
warm_up_secs = 20
withdraw_settle_secs = 2
drain_secs = 10
shutdown_secs = 10
"""

pytestmark = [
    needs("api"),
    needs("autoscaler"),
    needs("monitoring"),
    pytest.mark.skipif(not os.path.exists("/var/lib/lxcfs/proc/stat"), reason="without lxcfs each host sees the whole machine's CPU"),
]


@pytest.fixture(scope="module")
def monitor(pairs):
    return pairs["monitoring"][0]


class Scaler:
    """A clone of the autoscaler's image, and who was ever a member of its pool."""

    def __init__(self, host):
        self.host, self.members = host, {}

    def pool(self):
        """What the daemon says of its pool; None while it says nothing."""
        done = self.host.try_ssh("curl --silent --fail http://127.0.0.1:7071/api/status")
        if done.returncode != 0:
            return None
        found = json.loads(done.stdout)["pools"][0]
        self.members |= {member["id"]: member["name"] for member in found["members"]}
        return found

    def serving(self, count):
        """The pool, once so many of its members serve and no others are left."""

        def look():
            found = self.pool()
            return found if found and [member["state"] for member in found["members"]] == ["serving"] * count else None

        try:
            return until(f"{count} members serve", look, SCALING_SECS)
        except AssertionError:
            print(json.dumps(self.pool(), indent=1)[:6000])
            raise

    def cpu(self):
        """The pool's load as the daemon knows it, of all its members; None while it does not know them all."""
        found = self.pool()
        signal = found["signals"][0] if found else None
        return signal["value"] if signal and signal["state"] == "fresh" else None


@pytest.fixture(scope="module")
def scaler(cloud, images, monitor):
    config = CONFIG.format(monitor=monitor.private, port=PORT, target=TARGET, size=SIZE, image=images["api"].number, key=cloud.account_key)
    told = {
        "/etc/tidepool-autoscaler/config.toml": ("0644", config),
        "/etc/tidepool-autoscaler/member.yaml": ("0644", cloud_config({SETTINGS: ("0600", settings(monitor))})),
        "/etc/tidepool-autoscaler/credentials/digitalocean-token": ("0600", "any"),
    }
    host = images["autoscaler"].clone(cloud_config(told)).wait_for_ssh()
    with host.sees_the_cloud_at(PORT):
        yield Scaler(host)


@contextlib.contextmanager
def busy(host):
    host.ssh("systemd-run --quiet --unit=busy sh -c 'while :; do :; done'")
    try:
        yield
    finally:
        host.try_ssh("systemctl stop busy")


@pytest.mark.usefixtures("second_runs")
def test_it_grows_and_shrinks_by_the_cpu_that_metricbeat_reports(cloud, pairs, scaler, monitor):
    first = scaler.serving(1)["members"][0]
    member = Droplet(cloud, int(first["id"]), first["name"])
    until("the load of the idle host is known", lambda: (scaler.cpu() or 1) < TARGET / 2 or None, SCALING_SECS)

    # A host's CPU is its own: a neighbour's is not counted.
    neighbour = pairs["api"][0]
    neighbour.ssh(f"install -m 600 /dev/stdin {SETTINGS} <<<'{settings(monitor).strip()}'; systemctl start metricbeat")
    with busy(neighbour):
        until("Metricbeat says that the neighbour is busy", lambda: (cpu(monitor, neighbour) or 0) > TARGET or None, SCALING_SECS)
        assert until("the load is known", scaler.cpu) < TARGET / 2
        assert scaler.pool()["actual"] == 1

    with busy(member):
        grown = time.monotonic()
        scaler.serving(2)
        grown = time.monotonic() - grown
    shrunk = time.monotonic()
    last = scaler.serving(1)
    shrunk = time.monotonic() - shrunk
    until("the other droplet is gone", lambda: len(cloud.droplets("&tag_name=pool:web")) == 1 or None)
    directions = [decision["direction"] for decision in reversed(last["decisions"]) if decision["direction"] != "none"]
    assert directions[-1] == "in" and "out" in directions
    FIGURES.append(f"two members served {grown:.0f} s after one was busy, one was left {shrunk:.0f} s after it was idle")


def test_who_has_sent_is_or_was_a_droplet_of_the_cloud(cloud, scaler, monitor):
    known = {(droplet["name"], str(droplet["id"])) for droplet in cloud.droplets()} | {(name, number) for number, name in scaler.members.items()}
    sent = {(sender["name"], sender["droplet"]) for sender in senders(monitor)}
    assert sent <= known
    assert len(sent & {(name, number) for number, name in scaler.members.items()}) == 2
