"""One cloud for the run, and each image made once, by its playbook on a plain Debian. Ends with the line that e2e/run counts by."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest
from cloud import CACHE, REPOSITORY, TARGET, Cloud

sys.path.insert(0, str(REPOSITORY / "e2e" / "images"))
import traces  # noqa: E402

PLAYBOOK_SECS_MAX = 1800
SUITE = os.environ.get("SUITE", "bookworm")


@pytest.fixture(scope="session")
def cloud():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="clones-", dir=TARGET / "e2e"))
    started = Cloud(folder, [SUITE])
    yield started
    started.end()
    shutil.rmtree(folder)


class Image:
    def __init__(self, cloud, name):
        self.cloud, self.name, self.number = cloud, name, 0
        builder = cloud.create(f"builder-{name}", SUITE, traces.USER_DATA)
        builder.wait_for_boot()
        plant(builder)
        self.built = playbook(name, builder)
        # As Packer does: nobody gets in any more.
        self.closed = builder.try_ssh("true").returncode != 0
        builder.act("power_off")
        self.snapshot, self.files = builder.snapshot(f"tidepool-{name}")
        builder.destroy()

    def clone(self, user_data=""):
        self.number += 1
        return self.cloud.create(f"{self.name}-{self.number}", int(self.snapshot), user_data)


def plant(builder):
    """Canaries, and somebody who holds dpkg's lock when the playbook begins."""
    builder.ssh(f"bash <<'END'\n{traces.PLANT}\nEND")
    hold = "import fcntl,time; lock = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(lock, fcntl.LOCK_EX); time.sleep(60)"
    builder.ssh(f'systemd-run --quiet python3 -c "{hold}"')


def playbook(name, host):
    """Ansible's own words."""
    program = CACHE / "metricbeat" / "metricbeat"
    checksum = subprocess.run(["sha256sum", program], check=True, capture_output=True, text=True).stdout.split()[0]
    variables = [f"ansible_ssh_private_key_file={host.cloud.key}", f"metricbeat_source={program}", f"metricbeat_checksum=sha256:{checksum}"]
    line = [REPOSITORY / "images" / "playbook", name, host.public]
    for variable in variables:
        line += ["-e", variable]
    done = subprocess.run(line, capture_output=True, text=True, timeout=PLAYBOOK_SECS_MAX, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="session")
def api(cloud):
    return Image(cloud, "api")


@pytest.fixture(scope="session")
def autoscaler(cloud):
    return Image(cloud, "autoscaler")


def pytest_terminal_summary(terminalreporter):
    count = {key: len(terminalreporter.stats.get(key, [])) for key in ("passed", "failed", "error", "skipped")}
    print(f"{count['passed']} passed, {count['failed'] + count['error']} failed, {count['skipped']} skipped")
