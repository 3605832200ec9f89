"""One cloud for the run, on the images of e2e/images/make-all. Ends with the line that e2e/run counts by."""

import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import pytest
from cloud import REPOSITORY, SIZE, TARGET, WORK, Cloud, manifests

sys.path.insert(0, str(REPOSITORY / "e2e" / "images"))
import ports  # noqa: E402, F401
import traces  # noqa: E402, F401

PLAYBOOK_SECS_MAX = 1800
# Elasticsearch and Cassandra take half of the memory.
SIZES = {"db": "s-1vcpu-2gb", "monitoring": "s-1vcpu-2gb"}
IMAGES = sorted(manifests())

API_SETTINGS = """store = "sqlite:/var/lib/tidepool-api/own.db"
listen = "0.0.0.0:8080"
ops_listen = "0.0.0.0:9090"
"""
AUTOSCALER_SETTINGS = """state_dir = "/var/lib/tidepool-autoscaler"
metrics = "scrape"
pool = []
[status]
token_file = "/run/credentials/tidepool-autoscaler.service/secret_status-token"
"""
STATUS_TOKEN = "a-token-for-the-test"


def cloud_config(files):
    """User data that write these files, each readable by its owner alone."""
    entries = [{"path": path, "permissions": mode, "content": text} for path, (mode, text) in files.items()]
    # JSON is YAML.
    return "#cloud-config\n" + json.dumps({"write_files": entries})


# What the first of an image's two clones is told; the second one is told nothing.
USER_DATA = {
    "api": cloud_config({"/etc/tidepool-api/config.toml": ("0644", API_SETTINGS)}),
    "autoscaler": cloud_config(
        {
            "/etc/tidepool-autoscaler/config.toml": ("0644", AUTOSCALER_SETTINGS),
            "/etc/tidepool-autoscaler/credentials/status-token": ("0600", STATUS_TOKEN),
        }
    ),
    "db": cloud_config({"/root/own": ("0600", "own")}),
    "monitoring": cloud_config({"/etc/tidepool/monitoring.json": ("0644", '{"days": 3}')}),
}


def pytest_collection_modifyitems(config, items):
    if os.environ.get("E2E_SHORT"):
        long = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.fixture(scope="session")
def cloud():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="clones-", dir=WORK))
    started = Cloud(folder)
    yield started
    started.end()
    shutil.rmtree(folder)


class Image:
    def __init__(self, cloud, manifest):
        self.cloud, self.name, self.number = cloud, manifest["image"], int(manifest["id"])
        # The files of its own layer, on this machine.
        self.files = WORK / "state" / "snapshots" / manifest["id"] / "disk"
        self.count = 0

    def clone(self, user_data=""):
        self.count += 1
        return self.cloud.create(f"{self.name}-{self.count}", self.number, user_data, SIZES.get(self.name, SIZE))


@pytest.fixture(scope="session")
def images(cloud):
    return {name: Image(cloud, manifest) for name, manifest in manifests().items()}


FIGURES = []


@pytest.fixture(scope="session")
def pairs(images):
    """Two clones of each image, the first with user data of its own, the second without any."""
    made = {}
    for name, image in images.items():
        began = time.monotonic()
        first = image.clone(USER_DATA[name]).wait_for_ssh()
        let_in = time.monotonic() - began
        first.wait_for_boot()
        FIGURES.append(f"{name} let root in {let_in:.1f} s after its creation, and had booted after {time.monotonic() - began:.1f} s")
        made[name] = [first, image.clone()]
    for _, second in made.values():
        second.wait_for_boot()
    return made


def needs(name):
    return pytest.mark.skipif(name not in IMAGES, reason=f"the image {name} was not made")


def sources(name):
    """As a build's: where programs come from that Debian does not have."""
    said = subprocess.run([REPOSITORY / "packer/local/sources", name], check=True, capture_output=True, text=True)
    return json.loads(said.stdout)


def playbook(name, host):
    """Ansible's own words."""
    packages = os.environ.get("PACKAGES", str(TARGET / "packages"))
    variables = sources(name) | {"ansible_ssh_private_key_file": str(host.cloud.key), "tidepool_packages_dir": packages}
    line = [REPOSITORY / "images" / "playbook", name, host.public, "-e", json.dumps(variables)]
    environment = os.environ | {"VERSION": manifests()[name]["version"]}
    done = subprocess.run(
        line, env=environment, capture_output=True, text=True, timeout=PLAYBOOK_SECS_MAX, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="session")
def second_runs(pairs):
    """What Ansible will say of a second run on a clone of each image, two at a time."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        yield {name: pool.submit(playbook, name, pair[1]) for name, pair in pairs.items()}


def pytest_terminal_summary(terminalreporter):
    for figure in FIGURES:
        print(f"figure: {figure}")
    count = {key: len(terminalreporter.stats.get(key, [])) for key in ("passed", "failed", "error", "skipped")}
    print(f"{count['passed']} passed, {count['failed'] + count['error']} failed, {count['skipped']} skipped")
