"""The stand-in against a local cloud of process hosts: each root is applied, planned again, updated, planned again and destroyed. Each plan
in between is empty, also after the cloud was restarted, and in the end nothing is left."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import unittest
import urllib.request

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

from terraform import WARNING, Root  # noqa: E402

START_SECS_MAX = 60
# An RFC 8032 test key in OpenSSH's form; nobody has a use for it.
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea ops@test"
IMAGE = """
slug = "web"
name = "Web server"
distribution = "Debian"
[[process]]
name = "web"
program = "self"
args = ["test-host", "--listen", "{ip}:8080", "--ops-listen", "{ip}:9090", "--name", "{name}"]
"""


class Cloud:
    """A local cloud with a state of its own."""

    def __init__(self, directory):
        self.directory = directory
        (directory / "images" / "web").mkdir(parents=True)
        (directory / "images" / "web" / "image.toml").write_text(IMAGE)
        self.start("127.0.0.1:0")

    def start(self, listen):
        program = pathlib.Path(os.environ["TIDEPOOL_BIN_DIR"]) / "tidepool-local-cloud"
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [program, "serve", "--listen", listen, "--images", self.directory / "images", "--state", self.directory / "state"]
                + ["--rate-limit-per-minute", "100000", "--rate-limit-per-hour", "100000"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        # A start that hangs must not hang the test.
        watchdog = threading.Timer(START_SECS_MAX, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline()
        watchdog.cancel()
        if not line.startswith("listening on "):
            raise AssertionError(f"the local cloud did not start:\n{(self.directory / 'log').read_text()}")
        self.url = line.removeprefix("listening on ").strip()

    def stop(self):
        self.process.terminate()
        self.process.wait(START_SECS_MAX)
        self.process.stdout.close()

    def restart(self):
        self.stop()
        self.start(self.url.removeprefix("http://"))

    def call(self, method, path, body=None):
        """The answer's object; None when it is empty."""
        request = urllib.request.Request(self.url + path, method=method, data=None if body is None else json.dumps(body).encode())
        request.add_header("Authorization", "Bearer stand-in-test")
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=START_SECS_MAX) as answer:
            text = answer.read()
            return json.loads(text) if text else None

    def names(self, path, member, name="name"):
        return sorted(each[name] for each in self.call("GET", f"{path}?per_page=200")[member])


class Roots(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.work = pathlib.Path(scratch.name)
        self.cloud = Cloud(self.work)
        self.addCleanup(self.stop)

    def stop(self):
        self.cloud.stop()

    def lives(self, name, settled=lambda: None, **variables):
        """Applies, updates and destroys the root; `settled` is called when it is applied, and may not change what is planned."""
        root = Root(HERE / name, self.work / name, self.cloud.url, **variables)
        self.assertIn(WARNING, root.apply())
        root.plan_is_empty()
        settled()
        root.plan_is_empty()
        self.cloud.restart()
        root.plan_is_empty()
        root.set(updated="true")
        root.apply()
        root.plan_is_empty()
        root.destroy()
        self.assertEqual(root.state(), {})

    def test_servers(self):
        def the_pool_grows():
            self.cloud.call("POST", "/v2/droplets", {"name": "member-1", "region": "nyc3", "size": "s-1vcpu-1gb", "image": "web", "tags": ["serving:web"]})

        before = {path: self.cloud.names(path, member) for path, member in [("/v2/vpcs", "vpcs"), ("/v2/tags", "tags")]}
        self.lives("servers", settled=the_pool_grows, public_key=PUBLIC_KEY)
        self.assertEqual(self.cloud.names("/v2/droplets", "droplets"), ["member-1"])
        self.assertEqual(self.cloud.names("/v2/account/keys", "ssh_keys"), [])
        self.assertEqual(self.cloud.names("/v2/load_balancers", "load_balancers"), [])
        self.assertLessEqual(set(self.cloud.names("/v2/vpcs", "vpcs")) - set(before["/v2/vpcs"]), {"default-nyc3"})
        # A tag that a droplet brought stays, as with DigitalOcean.
        self.assertEqual(set(self.cloud.names("/v2/tags", "tags")) - set(before["/v2/tags"]), {"canary"})

    def test_storage(self):
        self.lives("storage")
        self.assertEqual(self.cloud.names("/v2/volumes", "volumes"), [])
        self.assertEqual(self.cloud.names("/v2/droplets", "droplets"), [])

    def test_edge(self):
        self.lives("edge", pem_dir=self.certificates())
        self.assertEqual(self.cloud.names("/v2/certificates", "certificates"), [])
        self.assertEqual(self.cloud.names("/v2/load_balancers", "load_balancers"), [])

    def test_issued(self):
        self.lives("issued")
        self.assertEqual(self.cloud.names("/v2/certificates", "certificates"), [])

    def test_names(self):
        self.lives("names")
        self.assertEqual(self.cloud.names("/v2/domains", "domains"), [])

    def test_access(self):
        self.lives("access")
        self.assertEqual(self.cloud.names("/v2/firewalls", "firewalls"), [])
        self.assertEqual(self.cloud.names("/v2/reserved_ips", "reserved_ips", name="ip"), [])

    def test_project(self):
        self.lives("project")
        # The default one stays.
        self.assertEqual(len(self.cloud.names("/v2/projects", "projects")), 1)

    def certificates(self):
        """Two leaves of one authority, with their keys."""
        folder = self.work / "pem"
        folder.mkdir()

        def openssl(*arguments):
            subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "chain.pem", "-days", "30", "-subj", "/CN=Test")
        for number in (1, 2):
            openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"key-{number}.pem", "-out", "request", "-subj", "/CN=api.tidepool.example",
                    "-addext", "subjectAltName=DNS:api.tidepool.example,DNS:www.tidepool.example")  # fmt: skip
            openssl("x509", "-req", "-in", "request", "-CA", "chain.pem", "-CAkey", "ca.key", "-CAcreateserial", "-copy_extensions", "copy",
                    "-days", "30", "-out", f"leaf-{number}.pem")  # fmt: skip
        return folder


if __name__ == "__main__":
    unittest.main()
