"""The images of a trial: those that were made before, or each made by its playbook on a host of the cloud, as Packer would: tested, cleaned,
and taken as a snapshot."""

import json
import os
import pathlib
import subprocess
import sys
import time

REPOSITORY = pathlib.Path(__file__).parents[3]
sys.path.insert(0, str(REPOSITORY / "e2e" / "images"))
import traces  # noqa: E402

BASE = "debian-12-x64"
PLAYBOOK_SECS_MAX = 3600


def playbook(name, host, work):
    """What Ansible says of a host; AssertionError when it fails. `variables.json` names the sources and the key."""
    log = work / f"playbook-{host.name}.log"
    with open(log, "wb") as file:
        done = subprocess.run(
            [REPOSITORY / "images" / "playbook", name, host.public, "-e", f"@{work}/variables.json"],
            stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, timeout=PLAYBOOK_SECS_MAX, check=False,
        )  # fmt: skip
    said = log.read_text(encoding="utf-8", errors="replace")
    if done.returncode != 0:
        raise AssertionError(f"the playbook {name} failed on {host.name}:\n{said[-4000:]}")
    return said


def build(cloud, name, work):
    """The snapshot's number."""
    began = time.monotonic()
    [builder] = cloud.create([f"builder-{name}"], BASE, traces.USER_DATA)
    builder.lets_in()
    booted = time.monotonic()
    builder.run("bash -s", given=traces.PLANT)
    playbook(name, builder, work)
    made = time.monotonic()
    builder.act("power_off")
    builder.act("snapshot", name=name)
    builder.destroy()
    print(f"image {name}: host {booted - began:.0f} s, playbook {made - booted:.0f} s, snapshot {time.monotonic() - made:.0f} s", flush=True)
    return cloud.snapshot(name)


def find_or_build(cloud, name, work, manifests):
    """That of the manifest, if there are `manifests`; or else the one that an earlier run has made; or else a new one."""
    if manifests:
        return int(json.loads((manifests / f"{name}.json").read_text(encoding="utf-8"))["id"])
    return cloud.snapshot(name) or build(cloud, name, work)


def has_packages(variables):
    """Whether our packages are there, of which the API's image is made."""
    default = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "packages"
    folder = pathlib.Path(variables.get("tidepool_packages_dir", default))
    return any(folder.glob("tidepool-api_*.deb"))


def layer(state, snapshot):
    """The folder of this machine with the snapshot's files."""
    return state / "snapshots" / str(snapshot) / "disk"
