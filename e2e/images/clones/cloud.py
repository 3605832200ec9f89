"""A local cloud of systemd hosts for the tests of one run, and what is asked of it: droplets, snapshots, ssh."""

import json
import os
import pathlib
import subprocess
import threading
import time
import urllib.request

REPOSITORY = pathlib.Path(__file__).parents[3]
CACHE = pathlib.Path(os.environ.get("TIDEPOOL_CACHE", REPOSITORY / ".cache"))
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
PROGRAMS = pathlib.Path(os.environ.get("TIDEPOOL_BIN_DIR", TARGET / "debug"))

# The first start makes the base image, which takes minutes; all else is bounded by what a busy machine needs.
START_SECS_MAX = 1200
PATIENCE_SECS = 180
SSH = ["ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=5"]


def until(what, ask, secs=PATIENCE_SECS):
    """The first answer that is not None; fails after so many seconds."""
    deadline = time.monotonic() + secs
    while (answer := ask()) is None:
        assert time.monotonic() < deadline, f"not within {secs} s: {what}"
        time.sleep(0.2)
    return answer


class Cloud:
    def __init__(self, folder, suites):
        self.folder = folder
        for suite in suites:
            image = folder / "images" / suite
            image.mkdir(parents=True)
            (image / "image.toml").write_text(f'slug = "{suite}"\ndistribution = "Debian"\n[system]\nsuite = "{suite}"\n')
        self.key = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        with open(folder / "cloud.log", "wb") as log:
            self.process = subprocess.Popen(
                [PROGRAMS / "tidepool-local-cloud", "serve", "--hosts", "systemd", "--packages", "--listen", "127.0.0.1:0"]
                + ["--images", folder / "images", "--state", folder / "state", "--base-images", CACHE / "base-images"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        # A start that hangs must not hang the test.
        watchdog = threading.Timer(START_SECS_MAX, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline()
        watchdog.cancel()
        assert line.startswith("listening on "), (folder / "cloud.log").read_text()[-2000:]
        self.url = line.split()[2]
        public = self.key.with_suffix(".pub").read_text()
        self.account_key = self.call("POST", "/v2/account/keys", {"name": "test", "public_key": public})["ssh_key"]["id"]

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(90)
        finally:
            self.process.kill()
            self.process.wait()

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        request.add_header("Authorization", "Bearer any")
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def create(self, name, image, user_data="", size="s-1vcpu-1gb"):
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

    def try_ssh(self, command, secs=PATIENCE_SECS):
        line = [*SSH, "-i", self.cloud.key, f"root@{self.public}", command]
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

    def act(self, kind, **more):
        action = self.cloud.call("POST", f"/v2/droplets/{self.id}/actions", {"type": kind, **more})["action"]["id"]

        def state():
            status = self.cloud.call("GET", f"/v2/actions/{action}")["action"]["status"]
            return None if status == "in-progress" else status

        assert until(f"{kind} of {self.name}", state) == "completed"

    def snapshot(self, name):
        """Its number, and the folder on this machine with the files of its layer."""
        self.act("snapshot", name=name)
        found = self.cloud.call("GET", f"/v2/droplets/{self.id}/snapshots")["snapshots"][-1]["id"]
        return found, self.cloud.folder / "state" / "snapshots" / str(found) / "disk"

    def destroy(self):
        self.cloud.call("DELETE", f"/v2/droplets/{self.id}")
