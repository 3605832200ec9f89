"""Database hosts of a local cloud: created from user data, reached by ssh, cut off, and ended."""

import json
import pathlib
import subprocess
import time
import urllib.request

CLIENT = pathlib.Path(__file__).with_name("client.py")
BOOT_SECS_MAX = 300
PAUSE_SECS = 1


def wait_until(what, seconds, probe):
    """The first true answer of `probe`; AssertionError with `what` when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(PAUSE_SECS)


class Cloud:
    def __init__(self, endpoint, key, image, size):
        self.endpoint, self.key, self.image, self.size = endpoint, key, image, size
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

    def create(self, names, user_data):
        """All by one request, so at the same moment."""
        body = {"names": names, "region": "nyc3", "size": self.size, "image": self.image, "ssh_keys": [self.ssh_key]}
        made = self.call("POST", "/v2/droplets", {**body, "user_data": user_data})["droplets"]
        return [Host(self, row["id"], row["name"]) for row in made]


class Host:
    def __init__(self, cloud, number, name):
        self.cloud, self.id, self.name = cloud, number, name

    def address(self, kind):
        networks = self.cloud.call("GET", f"/v2/droplets/{self.id}")["droplet"]["networks"]["v4"]
        return next((row["ip_address"] for row in networks if row["type"] == kind), None)

    @property
    def private(self):
        return self.address("private")

    def ssh(self, *command, **more):
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        options += ["-o", "ConnectTimeout=5", "-o", "ServerAliveInterval=5", "-i", self.cloud.key]
        return subprocess.Popen(
            ["ssh", *options, f"root@{self.address('public')}", *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,
        )  # fmt: skip

    def run(self, *command, check=True):
        """What a command prints."""
        process = self.ssh(*command)
        out, err = process.communicate(timeout=900)
        if check and process.returncode != 0:
            raise AssertionError(f"{self.name}: {' '.join(command)} ended with {process.returncode}: {err}{out}")
        return out

    def up(self):
        """Waits until root gets in and the client is there."""

        def install():
            process = self.ssh("cat >/root/client.py")
            process.communicate(CLIENT.read_text(encoding="utf-8"), timeout=60)
            return process.returncode == 0

        wait_until(f"ssh to {self.name}", BOOT_SECS_MAX, lambda: self.address("public") and install())

    def client(self, command, **given):
        return json.loads(self.run("python3", "/root/client.py", command, quoted(given)).splitlines()[-1])

    def start_client(self, command, **given):
        """A client that goes on until `finish`; it has begun when this returns."""
        process = self.ssh("python3", "-u", "/root/client.py", command, quoted(given))
        process.stdout.readline()
        return process

    def status(self):
        """What tidepool-db says of itself, or {} while it says nothing."""
        out = self.run("tidepool-db", "status", check=False)
        try:
            return json.loads(out)
        except ValueError:
            return {}

    def power_cut(self):
        self.cloud.call("POST", "/_local/faults/power-cut", {"droplet_id": self.id})

    def power_on(self):
        self.cloud.call("POST", f"/v2/droplets/{self.id}/actions", {"type": "power_on"})

    def destroy(self):
        self.cloud.call("DELETE", f"/v2/droplets/{self.id}")


def quoted(given):
    """One word for the remote shell."""
    return "'" + json.dumps(given).replace("'", "'\\''") + "'"


def finish(process):
    """Ends a client by closing its input; every line it wrote, the last one parsed."""
    out, err = process.communicate(timeout=120)
    lines = out.splitlines()
    if process.returncode != 0:
        raise AssertionError(f"the client ended with {process.returncode}: {err[-2000:]}")
    return lines[:-1], json.loads(lines[-1])
