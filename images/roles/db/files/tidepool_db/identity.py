"""What a host must not forget, and what must never change: kept beside the data, so that it moves with the volume.

`id` names this host to its neighbours. `vote` is the founder it has voted for, `started_on` the address on which Cassandra was first
allowed to start: from then on that address in the ring is this host. `founds` says that it began the ring, `secured` that its default
superuser is gone since, `joined` that it has been a full member, and `repair_due` that copies were added which don't hold all logins yet.

`machine` is the one that the data is bound to, by the provider's id of it: the same data on another is a volume that moved, or a copy (copies.py);
`copy_on` is the machine on which it was found to be a copy. `host_id` is Cassandra's id of this member, `members` how many the ring last had.
"""

import dataclasses
import json
import os
import uuid

# A member's data is placed by these three; Cassandra refuses, or worse takes, another value.
FIXED = ("cluster", "datacenter", "rack")


class Changed(Exception):
    """A value that is kept with the data differs from what the host is now given."""


@dataclasses.dataclass
class Identity:
    cluster: str
    datacenter: str
    rack: str
    id: str
    vote: "str | None" = None
    started_on: "str | None" = None
    founds: bool = False
    secured: bool = False
    joined: bool = False
    repair_due: bool = False
    machine: "str | None" = None
    copy_on: "str | None" = None
    host_id: "str | None" = None
    members: int = 0

    @property
    def fresh(self):
        """Whether nothing has ever run on this data."""
        return self.started_on is None

    @property
    def alone(self):
        """Whether the ring has no other member that could be asked."""
        return self.members == 1 or (self.founds and not self.joined)

    def moved_to(self, machine):
        """Whether the data is bound to another machine than this one."""
        return self.machine is not None and self.machine != machine


class IdentityFile:
    """One owner of the file: read once, written whole, on the disk before `save` returns."""

    def __init__(self, path):
        self.path = path

    def load(self):
        """The kept identity, or None on a new volume."""
        try:
            with open(self.path, encoding="utf-8") as file:
                return Identity(**json.load(file))
        except FileNotFoundError:
            return None

    def save(self, identity):
        part = f"{self.path}.part"
        with open(part, "w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(identity), file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.path)
        folder = os.open(os.path.dirname(self.path), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def agree(kept, given):
    """`kept` if it says what `given` ({cluster, datacenter, rack}) does, a new identity where there is none; raises Changed."""
    if kept is None:
        return Identity(id=str(uuid.uuid4()), **given)
    differences = [
        f"the {name} of this data is {getattr(kept, name)!r}, and the host is now given {given[name]!r}"
        for name in FIXED
        if getattr(kept, name) != given[name]
    ]
    if differences:
        raise Changed(
            "; ".join(differences)
            + ". A member can't change these: give the old value, or an empty volume for a new member. Cassandra is not started."
        )
    return kept


def bound(kept, machine):
    """`kept` for the host that it is found on. Where nothing has run yet, a copy is a host of its own; what it voted for stays."""
    if kept.machine is None:
        return dataclasses.replace(kept, machine=machine)
    if kept.fresh and kept.moved_to(machine):
        return dataclasses.replace(kept, machine=machine, id=str(uuid.uuid4()))
    return kept
