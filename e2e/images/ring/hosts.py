"""Hosts of a local cloud: created from user data, reached by ssh, cut off, and ended."""

import json
import pathlib
import subprocess
import threading
import time
import urllib.request

CLIENT = pathlib.Path(__file__).with_name("client.py")
BOOT_SECS_MAX = 300
PAUSE_SECS = 1
END_SECS_MAX = 120


def wait_until(what, seconds, probe):
    """The first true answer of `probe`; AssertionError when there is none in time. `what` is a text, or gives one that says how it is now."""
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(PAUSE_SECS)


def write_files(secret, public=None):
    """User data for cloud-init that writes {path: text}: what is secret for root alone."""
    lines = ["#cloud-config", "write_files:"]
    for mode, files in (("0600", secret), ("0644", public or {})):
        for path, text in files.items():
            lines += [f"  - path: {path}", f'    permissions: "{mode}"', "    content: |"]
            lines += [f"      {line}" for line in text.splitlines()]
    return "\n".join(lines) + "\n"


class Cloud:
    def __init__(self, endpoint, key, size):
        self.endpoint, self.key, self.size = endpoint, key, size
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        public = pathlib.Path(f"{key}.pub").read_text(encoding="ascii").strip()
        keys = self.call("GET", "/v2/account/keys?per_page=200")["ssh_keys"]
        known = [row["id"] for row in keys if row["public_key"].split()[1] == public.split()[1]]
        self.ssh_key = known[0] if known else self.call("POST", "/v2/account/keys", {"name": "trial", "public_key": public})["ssh_key"]["id"]

    def call(self, method, path, body=None):
        headers = {"Authorization": "Bearer any", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.endpoint + path, data, headers, method=method)
        with self.opener.open(request, timeout=120) as answer:
            text = answer.read()
        return json.loads(text) if text else {}

    def create(self, names, image, user_data):
        """All by one request, so at the same moment."""
        body = {"names": names, "region": "nyc3", "size": self.size, "image": image, "ssh_keys": [self.ssh_key]}
        made = self.call("POST", "/v2/droplets", {**body, "user_data": user_data})["droplets"]
        return [Host(self, row["id"], row["name"]) for row in made]

    def hosts(self):
        return [Host(self, row["id"], row["name"]) for row in self.call("GET", "/v2/droplets?per_page=200")["droplets"]]

    def snapshot(self, name):
        """The number of the snapshot of that name, or None."""
        found = [row["id"] for row in self.call("GET", "/v2/snapshots?per_page=200")["snapshots"] if row["name"] == name]
        return int(found[-1]) if found else None


class Host:
    def __init__(self, cloud, number, name):
        self.cloud, self.id, self.name = cloud, number, name

    def shown(self):
        return self.cloud.call("GET", f"/v2/droplets/{self.id}")["droplet"]

    def address(self, kind):
        return next((row["ip_address"] for row in self.shown()["networks"]["v4"] if row["type"] == kind), None)

    @property
    def private(self):
        return self.address("private")

    @property
    def public(self):
        return self.address("public")

    def ssh(self, *command):
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        options += ["-o", "ConnectTimeout=5", "-o", "ServerAliveInterval=5", "-i", self.cloud.key]
        return subprocess.Popen(
            ["ssh", *options, f"root@{self.public}", *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *command, given="", check=True):
        """What a command prints, with `given` as its input."""
        process = self.ssh(*command)
        out, err = process.communicate(given, timeout=900)
        if check and process.returncode != 0:
            raise AssertionError(f"{self.name}: {' '.join(command)} ended with {process.returncode}: {err}{out}")
        return out

    def lets_in(self):
        """Waits until root gets in."""

        def enters():
            process = self.ssh("true")
            process.communicate(timeout=60)
            return process.returncode == 0

        wait_until(f"ssh to {self.name}", BOOT_SECS_MAX, lambda: self.public and enters())

    def up(self):
        """Waits until root gets in, and brings the client along."""
        self.lets_in()
        self.run("cat >/root/client.py", given=CLIENT.read_text(encoding="utf-8"))

    def client(self, command, **given):
        return json.loads(self.run("python3", "/root/client.py", command, quoted(given)).splitlines()[-1])

    def start_client(self, command, **given):
        """A client that goes on until it is told to end; it has begun when this returns."""
        return Client(self.ssh("python3", "-u", "/root/client.py", command, quoted(given)))

    def status(self):
        """What tidepool-db says of itself, or {} while it says nothing."""
        out = self.run("tidepool-db", "status", check=False)
        try:
            return json.loads(out)
        except ValueError:
            return {}

    def state(self):
        return self.status().get("state")

    def act(self, kind, **more):
        action = self.cloud.call("POST", f"/v2/droplets/{self.id}/actions", {"type": kind, **more})["action"]["id"]

        def status():
            found = self.cloud.call("GET", f"/v2/actions/{action}")["action"]["status"]
            return None if found == "in-progress" else found

        found = wait_until(f"{kind} of {self.name}", END_SECS_MAX, status)
        if found != "completed":
            raise AssertionError(f"{kind} of {self.name}: {found}")

    def power_cut(self):
        self.cloud.call("POST", "/_local/faults/power-cut", {"droplet_id": self.id})

    def destroy(self):
        self.cloud.call("DELETE", f"/v2/droplets/{self.id}")


class Client:
    """A command of client.py on a host; its lines are taken as they come."""

    def __init__(self, process):
        self.process, self.lines = process, []
        if not process.stdout.readline():
            raise AssertionError(f"the client did not begin: {process.stderr.read()[-2000:]}")
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        # A line that was cut off in the middle doesn't count.
        self.lines.extend(line.strip() for line in self.process.stdout if line.endswith("\n"))

    def numbers(self):
        return [int(line) for line in list(self.lines) if line.isdecimal()]

    def has_printed(self, count, seconds=60):
        wait_until(lambda: f"{count} lines of the client; there are {len(self.lines)}", seconds, lambda: len(self.lines) >= count)

    def finish(self):
        """Ends it by closing its input; its last line, parsed."""
        self.process.stdin.close()
        self.ended()
        if self.process.returncode != 0:
            raise AssertionError(f"the client ended with {self.process.returncode}: {self.process.stderr.read()[-2000:]}")
        return json.loads(self.lines[-1])

    def ended(self):
        self.process.wait(END_SECS_MAX)
        self.reader.join(END_SECS_MAX)


def quoted(given):
    """One word for the remote shell."""
    return "'" + json.dumps(given).replace("'", "'\\''") + "'"
