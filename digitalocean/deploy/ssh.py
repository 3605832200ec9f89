"""The way to the hosts: by the autoscaler's, which alone has a public address. Each is known by its number, so that a host that was
replaced is another one, and one that pretends to be it is refused."""

import os
import pathlib
import shlex
import stat
import subprocess

from .outcome import Stopped
from .progress import until

ENTRY_SECS_MAX = 420
COMMAND_SECS_MAX = 120

HEAD = """# Written by deploy.sh: ssh -F {path} <host>
Host *
  User root
  IdentityFile "{secrets}/id_ed25519"
  IdentitiesOnly yes
  BatchMode yes
  StrictHostKeyChecking accept-new
  UserKnownHostsFile "{folder}/known_hosts"
  ConnectTimeout 10
  ServerAliveInterval 15
  ServerAliveCountMax 8
  LogLevel ERROR
"""


def config(settings, hosts):
    """Text of the ssh configuration for hosts by name, as Terraform's output has them."""
    lines = [HEAD.format(path=settings.folder / "ssh_config", secrets=settings.secrets, folder=settings.folder)]
    for name, host in hosts.items():
        lines.append(f"Host {name}\n  HostKeyAlias droplet-{host['id']}\n")
        if host["role"] == "autoscaler":
            lines.append(f"  HostName {host['public']}\n")
        else:
            lines.append(f"  HostName {host['private']}\n  ProxyJump autoscaler\n")
    # Members of the pool come and go: they are reached by address, and their keys are not kept.
    lines.append("Host member-*\n  ProxyJump autoscaler\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n")
    return "".join(lines)


class Ssh:
    def __init__(self, settings):
        self.path = settings.folder / "ssh_config"

    def line(self, host, *command, address=None):
        options = ["-o", f"HostName={address}"] if address else []
        return ["ssh", "-F", str(self.path), *options, host, *command]

    def run(self, host, *command, address=None, secs=COMMAND_SECS_MAX):
        """(status, output, what went wrong); 255 when ssh itself failed."""
        try:
            done = subprocess.run(
                self.line(host, *command, address=address),
                stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=secs, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return 255, "", f"no answer within {secs} s"
        return done.returncode, done.stdout, done.stderr.strip()

    def wait(self, hosts):
        """Until root gets in everywhere; the autoscaler's host first, for the way to the others leads over it."""
        for name in sorted(hosts, key=lambda name: hosts[name]["role"] != "autoscaler"):
            last = ""

            def enters(name=name):
                nonlocal last
                status, _, last = self.run(name, "true", secs=30)
                return status == 0

            if not until(enters, ENTRY_SECS_MAX):
                raise Stopped("hosts-unreachable", f"root does not get in to {name} within {ENTRY_SECS_MAX} s: {last or 'no answer'}")


# A socket's path has 107 bytes: a slash, 40 of ssh's %C and 17 more while it is made come after the folder.
SOCKETS_PATH_MAX = 49


def sockets_folder(environment, fallback="/tmp"):
    """A folder for the sockets of shared connections, the user's alone: whoever can write there could speak as root to all hosts."""
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    folder = pathlib.Path(runtime, "tidepool")
    if not os.path.isdir(runtime) or len(os.fsencode(folder)) > SOCKETS_PATH_MAX:
        folder = pathlib.Path(fallback, f"tidepool-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as failure:
        raise Stopped("missing-needs", f"there is no place for ssh's sockets: {failure}") from failure
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        remedy = "remove it, or set XDG_RUNTIME_DIR to a folder that is yours"
        raise Stopped("missing-needs", f"{folder} is not a folder that you alone may use, so that others could use your connections to the hosts: {remedy}")
    return folder


def control_arguments(settings, environment):
    """For Ansible: the same way, and connections that are shared."""
    sockets = shlex.quote(f"{sockets_folder(environment)}/%C")
    return f"-F {shlex.quote(str(settings.folder / 'ssh_config'))} -o ControlMaster=auto -o ControlPersist=60s -o ControlPath={sockets}"
