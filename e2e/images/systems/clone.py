"""clone.py SLUG SUITE: a clone of the image of tidepool-api that was made on that system, which is told its settings by user data alone. Prints a line for
each check, figures, and, last, `N passed, N failed, 0 skipped`; exits 1 if anything failed. E2E_IMAGES says where the image is."""

import json
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

REPOSITORY = pathlib.Path(__file__).parents[3]
sys.path.insert(0, str(REPOSITORY / "e2e" / "images" / "clones"))
from cloud import SSH, WORK, Cloud, manifests, until  # noqa: E402

SETTINGS = """store = "sqlite:/var/lib/tidepool-api/own.db"
listen = "0.0.0.0:8080"
ops_listen = "0.0.0.0:9090"
"""
USER_DATA = "#cloud-config\n" + json.dumps({"write_files": [{"path": "/etc/tidepool-api/config.toml", "content": SETTINGS}]})
# Unstable calls itself as the release that testing will be.
CODENAMES = {"sid": "forky"}
# In a container the kernel's own settings can't be changed.
NOT_IN_A_CONTAINER = {"systemd-sysctl.service"}
TESTS = ["test_base.py", "test_metricbeat.py", "test_api.py"]
# What makes a system another one than the last.
VERSIONS = "dpkg-query --show --showformat='${Package} ${Version}, ' systemd cloud-init python3 openssh-server apt chrony nftables"


def status(url, key=None):
    """What this machine is answered; None without an answer."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


class Clone:
    def __init__(self, cloud, slug, suite):
        self.slug, self.suite = slug, suite
        began = time.monotonic()
        self.host = cloud.create("api-1", int(manifests()["api"]["id"]), USER_DATA).wait_for_ssh()
        self.let_in = time.monotonic() - began
        until("it is ready", lambda: status(f"http://{self.host.public}:9090/readyz") == 200 or None)
        self.served = time.monotonic() - began
        self.host.wait_for_boot()

    def is_that_system(self):
        codename = self.host.ssh(". /etc/os-release; echo $VERSION_CODENAME")
        assert codename == CODENAMES.get(self.suite, self.suite), codename

    def answers_200_on_its_public_port(self):
        key = self.host.ssh("cat /var/lib/tidepool-api/first-key")
        url = f"http://{self.host.public}:8080/v1/collections"
        assert (status(url), status(url, key)) == (401, 200)

    def answers_200_on_its_operations_port(self):
        for address in (self.host.public, self.host.private):
            code = self.host.ssh(f"curl --silent --output /dev/null --write-out '%{{http_code}}' http://{address}:9090/readyz")
            assert code == "200", code
        assert status(f"http://{self.host.public}:9090/readyz") == 200

    def has_the_settings_of_its_user_data(self):
        assert "own.db" in self.host.ssh("ls /var/lib/tidepool-api").split()

    def has_no_failed_unit(self):
        failed = {line.split()[0] for line in self.host.ssh("systemctl list-units --failed --plain --no-legend").splitlines()}
        assert failed <= NOT_IN_A_CONTAINER, self.host.ssh(f"systemctl status --no-pager --full {' '.join(failed - NOT_IN_A_CONTAINER)} || true")
        running = self.host.try_ssh("systemctl is-system-running").stdout.strip()
        assert running == ("degraded" if failed else "running"), running

    def passes_the_tests_of_its_image(self):
        options = [f"--hosts=ssh://root@{self.host.public}", f"--ssh-identity-file={self.host.cloud.key}", f"--ssh-extra-args={' '.join(SSH[1:])}"]
        line = [sys.executable, "-m", "pytest", "--quiet", "--tb=short", *options, "--state=booted", *TESTS]
        done = subprocess.run(line, cwd=REPOSITORY / "images" / "tests", capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


CHECKS = [
    Clone.is_that_system,
    Clone.answers_200_on_its_public_port,
    Clone.answers_200_on_its_operations_port,
    Clone.has_the_settings_of_its_user_data,
    Clone.has_no_failed_unit,
    Clone.passes_the_tests_of_its_image,
]


def consoles():
    """The ends of what was printed on consoles: why a host does not come up."""
    logs = (WORK / "state" / "droplets").glob("*/log/console.log")
    return "\n".join(log.read_text(errors="replace")[-3000:] for log in logs)


def look(cloud, slug, suite):
    """How many checks passed, and how many failed."""
    try:
        clone = Clone(cloud, slug, suite)
    except (AssertionError, subprocess.TimeoutExpired) as reason:
        print(f"FAILED: {slug}: a clone boots\n{reason}\n{consoles()}")
        return 0, 1
    print(f"passed: {slug}: a clone boots")
    failed = 0
    for check in CHECKS:
        try:
            check(clone)
            print(f"passed: {slug}: it {check.__name__.replace('_', ' ')}")
        except (AssertionError, subprocess.TimeoutExpired) as reason:
            failed += 1
            print(f"FAILED: {slug}: it {check.__name__.replace('_', ' ')}\n{reason}")
    print(f"figure: {slug}: root got in {clone.let_in:.1f} s after the create, it served after {clone.served:.1f} s")
    print(f"figure: {slug}: {clone.host.ssh(VERSIONS).rstrip(', ')}")
    return 1 + len(CHECKS) - failed, failed


def main(slug, suite):
    with tempfile.TemporaryDirectory(prefix="clone-", dir=WORK) as folder:
        cloud = Cloud(pathlib.Path(folder))
        try:
            passed, failed = look(cloud, slug, suite)
        finally:
            cloud.end()
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
