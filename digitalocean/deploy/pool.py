"""The database's ring, the autoscaler's pool, and the key of the API: what is waited for on the hosts."""

import json
import re
import shlex
import time

from .outcome import Stopped
from .progress import until
from .settings import write_private

RING_SECS_MAX = 1200
POOL_SECS_MAX = 900
ROLLOUT_SECS_MAX = 3600
KEY = re.compile(r"tp_[A-Za-z0-9_-]+")
CONFIG = "/etc/tidepool-autoscaler/config.toml"
FIRST_KEY = "/var/lib/tidepool-api/first-key"


def wait_for_ring(ssh, hosts):
    """Until every host of the database is a member."""
    names = [name for name, host in sorted(hosts.items()) if host["role"] == "db"]
    said = {}

    def whole():
        for name in names:
            status, out, error = ssh.run(name, "tidepool-db", "status")
            if status != 0:
                said[name] = (out or error).strip() or f"status {status}"
                return False
            said.pop(name, None)
        return True

    if not until(whole, RING_SECS_MAX, pause=3):
        lines = "\n".join(f"{name}: {text}" for name, text in said.items())
        raise Stopped("database-not-whole", f"not all hosts of the database are members within {RING_SECS_MAX} s:\n{lines}")


def status(ssh, name):
    """What the autoscaler says of its pool; None while it says nothing."""
    code, out, _ = ssh.run("autoscaler", "curl --silent --fail --max-time 10 http://127.0.0.1:7071/api/status")
    if code != 0:
        return None
    try:
        return next((pool for pool in json.loads(out)["pools"] if pool["name"] == name), None)
    except (ValueError, KeyError):
        return None


def serving(pool):
    return [member for member in pool["members"] if member["state"] == "serving"]


def describe(pool):
    if pool is None:
        return "the autoscaler says nothing: journalctl --unit tidepool-autoscaler on its host"
    states = ", ".join(f"{member['name']} {member['state']}" for member in pool["members"]) or "no members"
    error = f"; last error: {pool['last_error']}" if pool.get("last_error") else ""
    return f"{len(serving(pool))} of {pool['min']} serve ({states}){error}"


def wait_for_pool(ssh, name, least):
    """Until at least so many members serve; returns the pool."""
    last = None

    def enough():
        nonlocal last
        last = status(ssh, name)
        return last if last and len(serving(last)) >= least else None

    found = until(enough, POOL_SECS_MAX)
    if not found:
        raise Stopped("pool-not-ready", f"the pool {name} is not ready within {POOL_SECS_MAX} s: {describe(last)}")
    return found


def ensure_key(ssh, settings, pool):
    """A key of the API, kept beside the other secrets: the first one, which a member has made, or one that is made for this."""
    path = settings.secrets / "api-key"
    if path.exists():
        return path.read_text(encoding="ascii").strip()
    members = serving(pool)
    for member in members:
        _, out, _ = ssh.run("member-x", f"cat {FIRST_KEY} 2>/dev/null", address=member["address"])
        found = KEY.search(out)
        if found:
            # Kept here before it is removed there.
            write_private(path, found[0] + "\n")
            ssh.run("member-x", f"rm -f {FIRST_KEY}", address=member["address"])
            return found[0]
    name = f"deploy-{int(time.time())}"
    command = f"tidepool-api keys create --config /etc/tidepool-api/config.toml --name {name} --scope {shlex.quote('admin:*')}"
    code, out, error = ssh.run("member-x", command, address=members[0]["address"])
    found = KEY.search(out)
    if code != 0 or not found:
        raise Stopped("pool-not-ready", f"{members[0]['name']} could not make a key: {error}")
    write_private(path, found[0] + "\n")
    return found[0]


def outdated(pool, image):
    """Members of another image. A member whose image is unknown counts as one."""
    return [member["name"] for member in pool["members"] if str(member.get("image")) != str(image)]


def roll_out(ssh, name, image, pause=5):
    """Members of another image are replaced by the autoscaler, a few at a time; it turns back by itself when new ones fail."""
    code, out, error = ssh.run("autoscaler", f"tidepool-autoscaler rollout {name} --image {image} --config {CONFIG}", secs=300)
    if code != 0:
        raise Stopped("pool-not-ready", f"the rollout was not taken: {(error or out).strip()[-1000:]}")
    last = None

    def ended():
        nonlocal last
        last = status(ssh, name)
        return last is not None and (turned_back(last) or rolled_out(last, image))

    if not until(ended, ROLLOUT_SECS_MAX, pause=pause):
        raise Stopped("pool-not-ready", f"the rollout is not done within {ROLLOUT_SECS_MAX} s: {describe(last)}")
    if turned_back(last):
        raise Stopped("pool-not-ready", f"the rollout to image {image} went back: {last['rollout'].get('cause')}")


def turned_back(pool):
    return bool((pool.get("rollout") or {}).get("back"))


def rolled_out(pool, image):
    return not outdated(pool, image) and len(serving(pool)) >= pool["min"]


def stop_autoscaler(ssh):
    """So that it makes no members any more; whether that was done."""
    code, _, _ = ssh.run("autoscaler", "systemctl disable --now tidepool-autoscaler.service")
    return code == 0
