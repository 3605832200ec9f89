"""deploy.sh on a local cloud: an empty account becomes a service that answers by name over HTTPS; again, nothing changes; killed on its
way, it goes on; and nothing is left in the end. Prints each step with its seconds, and last `N passed, N failed, 0 skipped`.

Run by e2e/digitalocean/run, which names the variables, and that by hand, before a release: it takes root, two processors and 12 GB, the four
images of e2e/images/make-all, and up to an hour for each deploy, so that it is in no stage of e2e/run. What needs no hosts is in the stage digitalocean."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("TIDEPOOL_CACHE", REPOSITORY / ".cache"))
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
PROGRAMS = pathlib.Path(os.environ.get("TIDEPOOL_BIN_DIR", TARGET / "debug"))
ENVIRONMENT = os.environ["ENV"]
START_SECS_MAX = 300
DEPLOY_SECS_MAX = 3600
# Heaps for hosts that share one machine.
VARIABLES = 'database_heap = "320m"\npool_in_secs = 30\n'
# What a part's line begins with, so that a run can be killed in the middle of it.
PARTS = ("apply", "settings and secrets of database and monitoring", "the pool")


@contextlib.contextmanager
def killed_after(process, secs):
    """A process that hangs must not hold up the trial for ever: its output ends, and its status tells."""
    watchdog = threading.Timer(secs, process.kill)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


class Cloud:
    def __init__(self, work):
        self.log = open(work / "cloud.log", "wb")
        line = [PROGRAMS / "tidepool-local-cloud", "serve", "--hosts", "systemd", "--listen", "127.0.0.1:0", "--images", os.environ["SYSTEMS"]]
        line += ["--state", os.environ["STATE"], "--base-images", CACHE / "base-images"]
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=self.log, text=True)
        with killed_after(self.process, START_SECS_MAX):
            said = self.process.stdout.readline()
        assert said.startswith("listening on "), (work / "cloud.log").read_text()[-2000:]
        self.url = said.split()[2]

    def list(self, path, key):
        request = urllib.request.Request(f"{self.url}/v2/{path}?per_page=200", headers={"Authorization": "Bearer local"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)[key]

    def left(self):
        """All that an environment has, by kind."""
        kinds = {"droplets": "droplets", "vpcs": "vpcs", "volumes": "volumes", "firewalls": "firewalls", "load_balancers": "load_balancers"}
        kinds |= {"certificates": "certificates", "domains": "domains", "account/keys": "ssh_keys", "projects": "projects"}
        found = {key: [thing["name"] for thing in self.list(path, key)] for path, key in kinds.items()}
        return {key: names for key, names in found.items() if [name for name in names if "tidepool" in name and not name.startswith("tidepool-builder")]}

    def end(self):
        self.process.terminate()
        self.process.wait(120)


class Trial:
    def __init__(self, cloud, work):
        self.cloud, self.work = cloud, work
        (work / "trial.tfvars").write_text(VARIABLES)
        self.environment = {
            **os.environ, "CLOUD": "local", "DIGITALOCEAN_API_URL": cloud.url, "TIDEPOOL_DEPLOY_DIR": str(work / "deploy"),
            "VARIABLES": str(work / "trial.tfvars"), "MANIFESTS": os.environ["MANIFESTS"],
        }  # fmt: skip

    def start(self, *words):
        return subprocess.Popen(
            [REPOSITORY / "digitalocean" / "deploy.sh", *words], env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *words):
        """What it said; it must end well."""
        process = self.start(*words)
        said = []
        with killed_after(process, DEPLOY_SECS_MAX):
            for line in process.stdout:
                print(f"    {line}", end="", flush=True)
                said.append(line)
        assert process.wait(60) == 0, f"deploy.sh {' '.join(words)} ended with {process.returncode}"
        return "".join(said)

    def deploy(self):
        began = time.monotonic()
        self.run("deploy", ENVIRONMENT)
        print(f"    first 200 and an empty second plan after {time.monotonic() - began:.0f} s")

    def deploy_again(self):
        said = self.run("deploy", ENVIRONMENT)
        assert "nothing to change" in said and "[" in said and "apply …" not in said, said
        for playbook in ("hosts", "autoscaler"):
            text = (self.work / "deploy" / "local" / ENVIRONMENT / "logs" / f"configure-{playbook}.log").read_text()
            assert re.findall(r"changed=(\d+)", text.rpartition("PLAY RECAP")[2]) and not re.search(r"changed=[1-9]", text), text[-3000:]

    def killed(self, part):
        """kill -9 in the middle of a part, then again to the end."""
        process = self.start("deploy", ENVIRONMENT)
        reached = False
        with killed_after(process, DEPLOY_SECS_MAX):
            for line in process.stdout:
                if f"] {part} …" in line:
                    reached = True
                    time.sleep(3)
                    process.send_signal(signal.SIGKILL)
                    break
        assert process.wait(60) == -signal.SIGKILL and reached, f"it never came to: {part}"

    def deploy_killed_on_its_way(self):
        for part in PARTS:
            self.killed(part)
            print(f"    killed in: {part}")
        self.run("deploy", ENVIRONMENT)

    def destroy_but_for_volumes(self):
        said = self.run("destroy", ENVIRONMENT)
        assert "kept: " in said
        assert set(self.cloud.left()) == {"volumes"}, self.cloud.left()

    def destroy_all(self):
        self.run("destroy", ENVIRONMENT, "--volumes")
        assert self.cloud.left() == {}, self.cloud.left()
        assert not (self.work / "deploy" / "local" / ENVIRONMENT).exists()


def main():
    work = pathlib.Path(tempfile.mkdtemp(prefix="tidepool-trial."))
    passed = failed = 0
    cloud = Cloud(work)
    try:
        trial = Trial(cloud, work)
        for step in (trial.deploy, trial.deploy_again, trial.destroy_but_for_volumes, trial.deploy_killed_on_its_way, trial.destroy_all):
            began = time.monotonic()
            name = step.__name__.replace("_", " ")
            print(f"{name} …", flush=True)
            try:
                step()
            except Exception as failure:
                print(f"FAILED: {name}: {failure}")
                failed += 1
                break
            print(f"passed: {name}: {time.monotonic() - began:.0f} s", flush=True)
            passed += 1
    finally:
        cloud.end()
        if failed:
            print(f"what is left for a look: {work}")
        else:
            shutil.rmtree(work)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
