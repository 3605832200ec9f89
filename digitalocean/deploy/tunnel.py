"""For a local cloud: its hosts have no way to what listens on this machine, so ssh brings the cloud's API to a port of the
autoscaler's host. `python3 -m deploy.tunnel FOLDER HOST:PORT` keeps that up until it is ended."""

import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.parse

from .outcome import Stopped
from .progress import until
from .settings import LOCAL_API_PORT, ROOT

PAUSE_SECS = 2
UP_SECS_MAX = 60
END_SECS_MAX = 20


def lock_of(folder):
    return folder / "tunnel.lock"


def runs(folder):
    """The process that keeps it up, or None: it holds a lock, so that a number that is another's by now is not mistaken for it."""
    try:
        with open(lock_of(folder), "r+", encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0) or None
    except FileNotFoundError:
        pass
    return None


def begin(settings, ssh):
    """Starts it unless it runs; waits until the API answers there."""
    target = urllib.parse.urlsplit(settings.api_url).netloc
    if not runs(settings.folder):
        with open(settings.log("tunnel"), "ab") as log:
            subprocess.Popen(
                [sys.executable, "-m", "deploy.tunnel", settings.folder, target],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
    probe = f"curl --silent --output /dev/null --max-time 5 http://127.0.0.1:{LOCAL_API_PORT}/v2/account"
    if not until(lambda: ssh.run("autoscaler", probe)[0] == 0, UP_SECS_MAX):
        raise Stopped("hosts-unreachable", f"the autoscaler's host does not reach the local cloud's API: {settings.log('tunnel')}")


def end(folder):
    process = runs(folder)
    if process:
        os.kill(process, signal.SIGTERM)
        until(lambda: runs(folder) is None, END_SECS_MAX, pause=0.2)


def keep_up(folder, target):
    with open(lock_of(folder), "a+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        current = None

        def stop(*_):
            if current:
                current.terminate()
            sys.exit(0)

        signal.signal(signal.SIGTERM, stop)
        while True:
            forward = f"127.0.0.1:{LOCAL_API_PORT}:{target}"
            line = ["ssh", "-F", str(folder / "ssh_config"), "-N", "-o", "ExitOnForwardFailure=yes", "-R", forward, "autoscaler"]
            current = subprocess.Popen(line, stdin=subprocess.DEVNULL)
            current.wait()
            time.sleep(PAUSE_SECS)


if __name__ == "__main__":
    keep_up(pathlib.Path(sys.argv[1]), sys.argv[2])
