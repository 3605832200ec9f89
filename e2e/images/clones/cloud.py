"""The local cloud with images that were made, and what is asked of it: droplets, ssh, a way to the cloud from within."""

import contextlib
import json
import os
import pathlib
import subprocess
import threading
import time
import urllib.request

REPOSITORY = pathlib.Path(__file__).parents[3]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
CACHE = pathlib.Path(os.environ.get("TIDEPOOL_CACHE", REPOSITORY / ".cache"))
PROGRAMS = pathlib.Path(os.environ.get("TIDEPOOL_BIN_DIR", TARGET / "debug"))
# What e2e/images/make-all has made, or somebody else, laid out as there.
WORK = pathlib.Path(os.environ.get("E2E_IMAGES", TARGET / "e2e" / "images"))
SIZE = "s-1vcpu-1gb"

# All are bounded by what a busy machine needs.
START_SECS_MAX = 300
PATIENCE_SECS = 180
SSH = ["ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=5"]


def until(what, ask, secs=PATIENCE_SECS):
    """The first answer that is not None; fails after so many seconds."""
    deadline = time.monotonic() + secs
    while (answer := ask()) is None:
        assert time.monotonic() < deadline, f"not within {secs} s: {what}"
        time.sleep(0.2)
    return answer


def manifests():
    """What is known of each image, by its name."""
    found = {}
    for file in (WORK / "manifests" / "local").glob("*.json"):
        manifest = json.loads(file.read_text())
        found[manifest["image"]] = manifest
    return found


class Cloud:
    def __init__(self, folder):
        self.folder = folder
        self.key = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        with open(WORK / "cloud.log", "wb") as log:
            self.process = subprocess.Popen(
                [PROGRAMS / "tidepool-local-cloud", "serve", "--hosts", "systemd", "--packages", "--listen", "127.0.0.1:0"]
                + ["--images", WORK / "systems", "--state", WORK / "state", "--base-images", CACHE / "base-images"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        # A start that hangs must not hang the test.
        watchdog = threading.Timer(START_SECS_MAX, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline()
        watchdog.cancel()
        assert line.startswith("listening on "), (WORK / "cloud.log").read_text()[-2000:]
        self.url = line.split()[2]
        # Of a run that was killed.
        self.destroy_all()
        public = self.key.with_suffix(".pub").read_text()
        self.account_key = self.call("POST", "/v2/account/keys", {"name": "test", "public_key": public})["ssh_key"]["id"]

    def end(self):
        try:
            self.destroy_all()
            self.call("DELETE", f"/v2/account/keys/{self.account_key}")
        finally:
            self.process.terminate()
            try:
                self.process.wait(90)
            finally:
                self.process.kill()
                self.process.wait()

    def droplets(self, query=""):
        return self.call("GET", f"/v2/droplets?per_page=200{query}")["droplets"]

    def destroy_all(self):
        for droplet in self.droplets():
            self.call("DELETE", f"/v2/droplets/{droplet['id']}")
        until("all droplets are gone", lambda: True if self.droplets() == [] else None)

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        request.add_header("Authorization", "Bearer any")
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def create(self, name, image, user_data="", size=SIZE):
        body = {"name": name, "region": "nyc3", "size": size, "image": image, "ssh_keys": [self.account_key], "user_data": user_data}
        return Droplet(self, self.call("POST", "/v2/droplets", body)["droplet"]["id"], name)


class Droplet:
    def __init__(self, cloud, number, name):
        self.cloud, self.id, self.name = cloud, number, name

        def addresses():
            shown = cloud.call("GET", f"/v2/droplets/{number}")["droplet"]
            found = {entry["type"]: entry["ip_address"] for entry in shown["networks"]["v4"]}
            return found if shown["status"] == "active" and found else None

        found = until(f"{name} is active", addresses)
        self.public, self.private = found["public"], found["private"]

    def line(self, *words):
        return [*SSH, "-i", self.cloud.key, *words]

    def try_ssh(self, command, secs=PATIENCE_SECS):
        # One connection for all commands: a login is most of what a short one costs.
        share = ["-o", "ControlMaster=auto", "-o", f"ControlPath={self.cloud.folder}/ssh-{self.id}", "-o", "ControlPersist=60"]
        line = self.line(*share, f"root@{self.public}", command)
        return subprocess.run(line, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=secs, check=False)

    def ssh(self, command):
        """What the command writes to standard output; it must succeed."""
        done = self.try_ssh(command)
        assert done.returncode == 0, f"{self.name}: {command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def wait_for_ssh(self):
        until(f"{self.name} lets root in", lambda: self.try_ssh("true").returncode == 0 or None)
        return self

    def wait_for_boot(self):
        """Until systemd is done, well or not."""
        self.wait_for_ssh()
        until(f"{self.name} has booted", lambda: self.try_ssh("systemctl is-system-running --wait").stdout.strip() or None)
        return self

    @contextlib.contextmanager
    def sees_the_cloud_at(self, port):
        """Hosts don't reach what else listens on this machine: ssh brings the cloud's API to a port of the host's own."""
        forward = f"127.0.0.1:{port}:{self.cloud.url.removeprefix('http://')}"
        line = self.line("-N", "-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=15", "-R", forward, f"root@{self.public}")
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL)
        try:
            probe = f"curl --silent --output /dev/null -H 'Authorization: Bearer any' http://127.0.0.1:{port}/v2/account"
            until(f"{self.name} reaches the cloud", lambda: self.try_ssh(probe).returncode == 0 or None)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()

    def destroy(self):
        self.cloud.call("DELETE", f"/v2/droplets/{self.id}")
