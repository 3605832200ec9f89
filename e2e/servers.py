"""Starts the project's own programs for a test, on free ports, and ends exactly those."""

import collections
import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

READY_SECS_MAX = 30
STOP_SECS_MAX = 20

ROOT = pathlib.Path(__file__).resolve().parent.parent
Api = collections.namedtuple("Api", "url operations")

PROGRAMS = pathlib.Path(os.environ.get("TARGET", ROOT / "target")) / "debug"


def free_address():
    """A loopback address with a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return "127.0.0.1:%d" % probe.getsockname()[1]


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def wait_until(what, condition, secs_max=READY_SECS_MAX):
    """Waits until `condition()` is true and returns what it gave; fails with `what` after `secs_max`."""
    deadline = time.monotonic() + secs_max
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {secs_max} s: {what}")
        time.sleep(0.1)


@contextlib.contextmanager
def running(command, log, **options):
    """Runs `command` as long as the `with` block; its output goes to the file `log`."""
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def create_key(store, name, *scopes):
    """A new key for `store`; the command prints the key alone."""
    command = [PROGRAMS / "tidepool-api", "keys", "create", "--store", store, "--name", name]
    for scope in scopes:
        command += ["--scope", scope]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def api(folder, store=None):
    """tidepool-api on SQLite in `folder`; gives its public URL and its operations address."""
    public, operations = free_address(), free_address()
    store = store or f"sqlite:{folder}/tidepool.db"
    command = [PROGRAMS / "tidepool-api", "serve", "--store", store, "--listen", public, "--ops-listen", operations]
    log = pathlib.Path(folder) / "api.log"
    with running(command, log) as process:

        def ready():
            if process.poll() is not None:
                raise RuntimeError(f"tidepool-api ended with {process.returncode}:\n{log.read_text()}")
            return answers(f"http://{operations}/readyz")

        wait_until("tidepool-api is ready", ready)
        yield Api(f"http://{public}", operations)
