"""One run of an environment at a time. The lock is let go with the process that holds it, and with the programs that it has started."""

import contextlib
import fcntl
import os

from .outcome import Stopped
from .progress import say, until

# How long what a killed run had started may take to its end: an apply, or a playbook.
ORPHANS_SECS_MAX = 1800


@contextlib.contextmanager
def only_run(folder, orphans_secs=ORPHANS_SECS_MAX):
    """Holds the lock; its descriptor is for programs that must keep others out until they are done."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not taken(descriptor):
            wait_for_orphans(descriptor, orphans_secs)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def taken(descriptor):
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for_orphans(descriptor, secs):
    """Where the run itself is gone and what it had started still holds the lock, that is waited for."""
    holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
    if not holder.isdecimal() or lives(int(holder)):
        raise Stopped("another-run", f"another run of this environment is under way (process {holder or 'unknown'})")
    say("an earlier run was killed; waiting for what it had started, which still writes down what it has made")
    if not until(lambda: taken(descriptor), secs, pause=0.5):
        raise Stopped("another-run", f"what a run that was killed had started is not done within {secs} s")


def lives(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
