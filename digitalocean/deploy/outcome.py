"""How a run can end: each way has an exit status, and a page of docs/runbooks that says what to do."""

import dataclasses

USAGE = 64
INTERRUPTED = 130

# Status by the name of the page.
WAYS = {
    "missing-needs": 65,
    "plan-failed": 66,
    "plan-would-destroy": 67,
    "apply-failed": 68,
    "hosts-unreachable": 69,
    "configuration-failed": 70,
    "database-not-whole": 71,
    "pool-not-ready": 72,
    "smoke-test-failed": 73,
    "plan-not-empty": 74,
    "another-run": 75,
    "destroy-incomplete": 76,
    "promotion-refused": 77,
}


@dataclasses.dataclass
class Stopped(Exception):
    """Why a run stopped: the way, and what the user is told."""

    way: str
    message: str

    def __post_init__(self):
        super().__init__(self.message)

    @property
    def status(self):
        return WAYS[self.way]

    @property
    def page(self):
        return f"docs/runbooks/{self.way}.md"


class Usage(Exception):
    """The command can't be meant so."""
