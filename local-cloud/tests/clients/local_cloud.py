"""A local cloud of one's own for a test class: own state, images and port; ended with it."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request

PROGRAM = os.environ["LOCAL_CLOUD"]
# TIDEPOOL_TEST_HOSTS=systemd: droplets are systems (root; BASE_IMAGES is where their base images are kept).
BY_SYSTEMD = os.environ.get("TIDEPOOL_TEST_HOSTS") == "systemd"
TOKEN = "any-token"

# How long anything may take; a loaded machine is slow, not wrong.
PATIENCE_SECS = 60

# `web` serves HTTP, `tiny` only lives.
IMAGES = {
    "web": """
        slug = "web"
        name = "Web server"
        distribution = "Debian"
        [[process]]
        name = "web"
        program = "self"
        args = ["test-host", "--listen", "{ip}:8080", "--ops-listen", "{ip}:9090", "--name", "{name}"]
    """,
    "tiny": """
        slug = "tiny"
        name = "Tiny"
        distribution = "Debian"
        [[process]]
        name = "sleep"
        program = "/bin/sh"
        args = ["-c", "exec sleep 100000"]
    """,
}

# What a droplet that is a system is told, to do what the program of the image `web` does: each answers its name.
WEB_USER_DATA = """#cloud-config
runcmd:
- [sh, -c, 'echo ready >/srv/readyz; echo "{\\"name\\": \\"$(hostname)\\"}" >/srv/index.html']
- [systemd-run, python3, -m, http.server, "8080", --directory, /srv]
- [systemd-run, python3, -m, http.server, "9090", --directory, /srv]
"""

# An RFC 8032 test key in OpenSSH's form; nobody has a use for it.
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea client@test"


class LocalCloudTest(unittest.TestCase):
    """Base of the test classes; `arguments` are added to `serve`."""

    arguments = ()

    @classmethod
    def setUpClass(cls) -> None:
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="tidepool-clients-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory)
        for slug, manifest in IMAGES.items():
            (cls.directory / "images" / slug).mkdir(parents=True)
            system = '\n[system]\nsuite = "bookworm"\n' if BY_SYSTEMD else ""
            (cls.directory / "images" / slug / "image.toml").write_text(manifest + system)
        limits = ("--rate-limit-per-minute", "100000", "--rate-limit-per-hour", "100000")
        hosts = ("--hosts", "systemd", "--base-images", os.environ["BASE_IMAGES"]) if BY_SYSTEMD else ()
        cls.process = subprocess.Popen(
            [PROGRAM, "serve", "--listen", "127.0.0.1:0", "--images", cls.directory / "images"]
            + ["--state", cls.directory / "state", *limits, *hosts, *cls.arguments],
            stdout=subprocess.PIPE,
            stderr=(cls.directory / "log").open("w"),
            text=True,
        )
        cls.addClassCleanup(cls.stop)
        line = cls.process.stdout.readline()
        assert line.startswith("listening on "), f"it said {line!r}: {(cls.directory / 'log').read_text()}"
        cls.url = line.removeprefix("listening on ").strip()

    @classmethod
    def stop(cls) -> None:
        cls.process.send_signal(signal.SIGTERM)
        cls.process.wait(PATIENCE_SECS)
        cls.process.stdout.close()

    def state(self) -> dict:
        with urllib.request.urlopen(f"{self.url}/_local/state", timeout=PATIENCE_SECS) as answer:
            return json.load(answer)

    def droplet_state(self, droplet_id: int) -> dict | None:
        return next((one for one in self.state()["droplets"] if one["id"] == droplet_id), None)

    def until(self, what: str, condition):
        """Waits for a true value and returns it."""
        deadline = time.monotonic() + PATIENCE_SECS
        while not (value := condition()):
            self.assertLess(time.monotonic(), deadline, f"not in time: {what}")
            time.sleep(0.05)
        return value

    def process_of(self, droplet_id: int) -> int:
        """The pid of the droplet's one process, which lives and is what the image says."""
        pids = self.until("its process runs", lambda: (self.droplet_state(droplet_id) or {}).get("pids"))
        self.assertEqual(len(pids), 1)
        self.assertTrue(is_alive(pids[0]))
        return pids[0]

    def settled(self, droplet_id: int, status: str) -> None:
        self.until(f"droplet {droplet_id} is {status}", lambda: self.droplet_state(droplet_id)["status"] == status)

    def booted(self, droplet_id: int) -> None:
        """A system that is still booting takes no notice of its power button."""
        if BY_SYSTEMD:
            address = self.droplet_state(droplet_id)["ip"]
            self.until("it takes logins", lambda: is_open(address, 22))

    def fault(self, kind: str, **body) -> None:
        request = urllib.request.Request(f"{self.url}/_local/faults/{kind}", json.dumps(body).encode(), method="POST")
        urllib.request.urlopen(request, timeout=PATIENCE_SECS).close()


of_processes = unittest.skipIf(BY_SYSTEMD, "about droplets that are processes")
of_hundreds = unittest.skipIf(BY_SYSTEMD, "hundreds of systems are more than a small machine boots")


def is_alive(pid: int) -> bool:
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rsplit(")", 1)[1].split()[0] not in "ZX"


def command_line(pid: int) -> list[str]:
    return pathlib.Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")


def is_open(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url: str) -> dict:
    with urllib.request.urlopen(url, timeout=PATIENCE_SECS) as answer:
        return json.load(answer)
