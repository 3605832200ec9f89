"""One run of an environment at a time. The lock is let go with the process that holds it, and with the programs that it has started."""

import contextlib
import fcntl
import os

from .outcome import Stopped


@contextlib.contextmanager
def only_run(folder):
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    # Inherited: Terraform that outlives a killed run keeps others out until it is done.
    os.set_inheritable(descriptor, True)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 100).decode(errors="replace").strip()
        os.close(descriptor)
        raise Stopped("another-run", f"another run of this environment is under way{f' ({holder})' if holder else ''}") from None
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()}\n".encode())
        yield descriptor
    finally:
        os.close(descriptor)
