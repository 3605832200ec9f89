"""What the user sees of a run: each part with its seconds, and a sum at the end."""

import contextlib
import sys
import time


def say(text):
    print(text, file=sys.stderr, flush=True)


class Progress:
    def __init__(self, clock=time.monotonic, write=say):
        self.clock, self.write, self.parts = clock, write, []

    @contextlib.contextmanager
    def part(self, what):
        """A part of the run; its seconds are said at its end, also when it fails."""
        number = len(self.parts) + 1
        self.write(f"[{number}] {what} …")
        began = self.clock()
        ended = "stopped"
        try:
            yield
            ended = "done"
        finally:
            secs = self.clock() - began
            self.parts.append((what, secs))
            self.write(f"[{number}] {what}: {ended} after {secs:.0f} s")

    def table(self):
        """All parts and their sum."""
        rows = [*self.parts, ("all", sum(secs for _, secs in self.parts))]
        return "\n".join(f"  {secs:6.0f} s  {what}" for what, secs in rows)


def until(ask, secs, *, pause=2, clock=time.monotonic, sleep=time.sleep):
    """The first answer that is true; None when there is none within so many seconds."""
    deadline = clock() + secs
    while not (answer := ask()):
        if clock() >= deadline:
            return None
        sleep(pause)
    return answer
