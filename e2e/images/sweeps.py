"""packer/cloud.py by itself: against a local cloud whose droplets are processes, and against a stand-in of the few calls of the
Compute API that it makes. Ends with `N passed, N failed, N skipped`."""

import datetime
import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAM = pathlib.Path(os.environ.get("TIDEPOOL_BIN_DIR", ROOT / "target/debug")) / "tidepool-local-cloud"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f test"


def cloud(*arguments, **environment):
    command = [sys.executable, ROOT / "packer/cloud.py", *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=120)


class DigitalOcean(unittest.TestCase):
    """Everything that a local cloud has, it has from the same calls as the real one."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        image = pathlib.Path(folder.name, "images/hello")
        image.mkdir(parents=True)
        image.joinpath("image.toml").write_text('slug = "hello"\n[[process]]\nname = "hello"\nprogram = "/bin/sleep"\nargs = ["1000"]\n')
        self.images, self.state = image.parent, pathlib.Path(folder.name, "state")
        self.start()

    def start(self):
        command = [PROGRAM, "serve", "--listen", "127.0.0.1:0", "--images", self.images, "--state", self.state]
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.addCleanup(self.server.stdout.close)
        self.addCleanup(self.server.wait)
        self.addCleanup(self.server.terminate)
        self.url = re.fullmatch(r"listening on (\S+)\n", self.server.stdout.readline())[1]
        self.environment = {"CLOUD": "digitalocean", "DIGITALOCEAN_TOKEN": "any", "DIGITALOCEAN_API_URL": self.url}

    def restart_three_hours_after(self, *names):
        """What has these names was created three hours ago, as far as the cloud knows when it runs again."""
        self.server.terminate()
        self.assertEqual(self.server.wait(60), 0)
        file = self.state / "cloud.json"
        state = json.loads(file.read_text())
        records = state.get("records", state)
        for number, found in [*records["droplets"].items(), *records["snapshots"].items()]:
            if records["machines"].get(number, found)["name"] in names:
                then = datetime.datetime.fromisoformat(found["created_at"].replace("Z", "+00:00")) - datetime.timedelta(hours=3)
                found["created_at"] = then.strftime("%Y-%m-%dT%H:%M:%SZ")
        file.write_text(json.dumps(state))
        self.start()

    def call(self, method, path, body=None):
        request = urllib.request.Request(self.url + path, method=method, data=body and json.dumps(body).encode())
        request.add_header("Authorization", "Bearer any")
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read() or "null")

    def droplet(self, name, tags=()):
        body = {"name": name, "size": "s-1vcpu-1gb", "region": "nyc3", "image": "hello", "tags": list(tags)}
        number = self.call("POST", "/v2/droplets", body)["droplet"]["id"]
        self.until(lambda: self.call("GET", f"/v2/droplets/{number}")["droplet"]["status"] == "active")
        return number

    def snapshot(self, droplet, name, tags=()):
        self.call("POST", f"/v2/droplets/{droplet}/actions", {"type": "snapshot", "name": name})
        self.until(lambda: name in self.names("snapshots") and not self.call("GET", f"/v2/droplets/{droplet}")["droplet"]["locked"])
        number = next(found["id"] for found in self.call("GET", "/v2/snapshots")["snapshots"] if found["name"] == name)
        for tag in tags:
            self.call("POST", "/v2/tags", {"name": tag})
            self.call("POST", f"/v2/tags/{tag}/resources", {"resources": [{"resource_id": number, "resource_type": "image"}]})

    def until(self, holds):
        deadline = time.monotonic() + 30
        while not holds():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)

    def names(self, kind, path=None):
        return sorted(found["name"] for found in self.call("GET", path or f"/v2/{kind}")[kind])

    def keys(self):
        return self.names("ssh_keys", "/v2/account/keys")

    def test_a_sweep_removes_what_builders_have_left_and_nothing_else(self):
        self.droplet("tidepool-builder-api-0a", ["tidepool-builder"])
        other = self.droplet("tidepool-builder-of-another-kind")
        long_ago = f"packer-{int(time.time()) - 8000:08x}-0001-0002-0003-000400000005"
        self.call("POST", "/v2/account/keys", {"name": long_ago, "public_key": KEY})
        self.call("POST", "/v2/account/keys", {"name": "packer-of-mine", "public_key": KEY.replace("HR4f", "HR4e")})
        self.snapshot(other, "tidepool-api-1.0.0")
        self.snapshot(other, "tidepool-api-1.0.1", ["tidepool-image"])
        self.snapshot(other, "tidepool-notes")
        young = cloud("sweep", "--older-than-secs", "7200", **self.environment)
        self.assertEqual(young.returncode, 0, young.stderr)
        self.assertEqual(self.keys(), ["packer-of-mine"], young.stderr)
        self.assertEqual(len(self.names("droplets")) + len(self.names("snapshots")), 5, young.stderr)
        old = cloud("sweep", "--older-than-secs", "0", **self.environment)
        self.assertEqual(old.returncode, 0, old.stderr)
        self.assertEqual(self.names("droplets"), ["tidepool-builder-of-another-kind"])
        self.assertEqual(self.names("snapshots"), ["tidepool-api-1.0.1", "tidepool-notes"])
        self.assertEqual(self.keys(), ["packer-of-mine"])

    def test_make_removes_what_is_older_than_two_hours(self):
        for name in ["tidepool-builder-api-0a", "tidepool-builder-api-0b"]:
            self.droplet(name, ["tidepool-builder"])
        other = self.droplet("other")
        for name in ["tidepool-api-1.0.0", "tidepool-api-1.0.1", "tidepool-notes"]:
            self.snapshot(other, name)
        self.restart_three_hours_after("tidepool-builder-api-0a", "other", "tidepool-api-1.0.0", "tidepool-notes")
        environment = {name: value for name, value in os.environ.items() if name != "OLDER_THAN_SECS"} | self.environment
        command = ["make", "-s", "-C", ROOT, "images-sweep", "CLOUD=digitalocean"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.names("droplets"), ["other", "tidepool-builder-api-0b"], done.stderr)
        self.assertEqual(self.names("snapshots"), ["tidepool-api-1.0.1", "tidepool-notes"], done.stderr)

    def test_one_run_is_cleaned_up_after_and_the_others_go_on(self):
        began = str(time.time())
        mine = self.droplet("tidepool-builder-api-0a", ["tidepool-builder"])
        self.droplet("tidepool-builder-api-0b", ["tidepool-builder"])
        self.call("POST", "/v2/account/keys", {"name": "packer-1", "public_key": KEY})
        self.snapshot(mine, "tidepool-api-1.0.0")
        self.snapshot(mine, "tidepool-db-1.0.0")
        arguments = ["clean", "--build", "0a", "--name", "tidepool-api-1.0.0", "--fingerprint", self.fingerprint(), "--since", began]
        for _ in range(2):
            done = cloud(*arguments, **self.environment)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.names("droplets"), ["tidepool-builder-api-0b"])
            self.assertEqual(self.names("snapshots"), ["tidepool-db-1.0.0"])
            self.assertEqual(self.keys(), [])

    def fingerprint(self):
        return self.call("GET", "/v2/account/keys")["ssh_keys"][0]["fingerprint"]

    def test_an_image_is_found_by_its_name(self):
        self.snapshot(self.droplet("one"), "tidepool-api-1.0.0")
        self.assertRegex(cloud("find", "tidepool-api-1.0.0", **self.environment).stdout, r"^\d+\n$")
        self.assertEqual(cloud("find", "tidepool-api-1.0", **self.environment).stdout, "")


class Compute(http.server.BaseHTTPRequestHandler):
    """instances, disks and images of one project and zone, as the server's `kept` has them."""

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path.startswith("/projects/p/zones/z/operations/"):
            return self.answer({"name": "o", "status": "DONE"})
        kind = path.rsplit("/", 1)[1]
        if kind in self.server.kept:
            return self.answer({"items": list(self.server.kept[kind].values())})
        return self.answer({"error": {"code": 404, "message": "not found"}}, 404)

    def do_DELETE(self):
        kind, name = self.path.split("/")[-2:]
        self.server.kept[kind].pop(name)
        self.answer({"name": "o", "status": "RUNNING" if kind != "images" else "DONE"})

    def answer(self, body, status=200):
        if self.headers["Authorization"] != "Bearer good":
            body, status = {"error": {"code": 401, "message": "invalid credentials"}}, 401
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class Gce(unittest.TestCase):
    def setUp(self):
        now = datetime.datetime.now(datetime.timezone.utc)

        def of(name, hours, **more):
            created = (now - datetime.timedelta(hours=hours)).isoformat(timespec="milliseconds")
            return {name: {"name": name, "creationTimestamp": created} | more}

        self.kept = {
            "instances": of("tidepool-builder-api-0a", 3) | of("tidepool-builder-db-0b", 1),
            "disks": of("tidepool-builder-db-0c", 3),
            "images": of("tidepool-api-1-0-0", 3, status="FAILED") | of("tidepool-api-1-0-1", 3, status="READY"),
        }
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Compute)
        self.server.kept = self.kept
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        threading.Thread(target=self.server.serve_forever).start()
        url = "http://127.0.0.1:%d/" % self.server.server_address[1]
        self.environment = {"CLOUD": "gce", "GOOGLE_PROJECT": "p", "GOOGLE_ZONE": "z", "GOOGLE_ACCESS_TOKEN": "good", "GOOGLE_ENDPOINT": url}

    def test_a_sweep_removes_old_builders_their_disks_and_failed_images(self):
        done = cloud("sweep", "--older-than-secs", "7200", **self.environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        left = {kind: list(found) for kind, found in self.kept.items()}
        self.assertEqual(left, {"instances": ["tidepool-builder-db-0b"], "disks": [], "images": ["tidepool-api-1-0-1"]}, done.stderr)

    def test_a_refused_token_is_said_to_be_so(self):
        done = cloud("sweep", "--older-than-secs", "0", **self.environment | {"GOOGLE_ACCESS_TOKEN": "bad"})
        self.assertEqual(done.returncode, 1)
        self.assertIn("refuses the token (401): invalid credentials", done.stderr)


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=2).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed, 0 skipped", flush=True)
    sys.exit(failed > 0)
