"""Data that another machine had: a volume that moved here, or a copy of a member that still runs, as a snapshot of it is.

Two hosts with one member's data are one member to the ring: it gives the tokens to the later one, and the other goes on without
knowing. So data is used only by the machine that it is bound to, or once nothing is heard of that one any more. Pure, but for what it remembers.
"""

from .ring import GO, REFUSE, WAIT, Decision

# Longer than a reboot: a member that is just starting again is not gone.
QUIET_SECS = 60
# One may be old news that travelled: a member that was cut off hears of it late.
ADVANCES_MIN = 2
# Neighbours of these states use their data, unless it is another machine's; the others wait, or stay out.
RUNNING = ("founding", "joining", "member", "unwell", "returning")

WAY_OUT = (
    "To make this host a member of its own, empty /var/lib/cassandra and reboot; to have it go on as that member, "
    "once the other is gone for good: tidepool-db adopt"
)


class Watch:
    """What is heard of the machine that this data is bound to, over time."""

    def __init__(self, machine):
        self.machine = machine
        # (member, address) -> what that member last heard of it.
        self.beats = {}
        self.advances = 0
        self.quiet_since = None

    def decide(self, identity, twins, views, now):
        """Whether this machine may use the data. `twins` are neighbours with the same identity, `views` what members see."""
        running = [twin for twin in twins if twin.state in RUNNING and not twin.moved]
        if running:
            where = ", ".join(sorted(f"{twin.host} at {twin.address}" for twin in running))
            return Decision(REFUSE, f"this host's data is a copy of what {where} uses, and it stays out. {WAY_OUT}")
        if identity.copy_on == self.machine:
            return Decision(REFUSE, f"this host's data was found to be a copy of what another host uses, and it stays out. {WAY_OUT}")
        if not identity.moved_to(self.machine):
            return Decision(GO, "")
        if twins:
            where = ", ".join(sorted(f"{twin.host} at {twin.address}" for twin in twins))
            return Decision(WAIT, f"{where} has a copy of the same data and waits, too: end one of the two")
        self.listen(identity, views)
        if self.advances >= ADVANCES_MIN:
            return Decision(
                REFUSE, f"this host's data is a copy of what {identity.machine} uses, of which members of the ring hear, and it stays out. {WAY_OUT}"
            )
        return self.silence(identity, views, now)

    def listen(self, identity, views):
        advanced = False
        for member, view in views.items():
            for row in view.gossip:
                if is_of(row, identity):
                    beat = (row.generation, row.heartbeat)
                    advanced |= beat > self.beats.get((member, row.address), beat)
                    self.beats[member, row.address] = beat
        if advanced:
            self.advances += 1
            self.quiet_since = None

    def silence(self, identity, views, now):
        if not views and not identity.alone:
            self.quiet_since = None
            return Decision(
                WAIT,
                f"this data was {identity.machine}'s, and no member of the ring can be asked whether that one still runs. "
                f"If it is gone for good: tidepool-db adopt",
            )
        if self.quiet_since is None:
            self.quiet_since = now
        if now - self.quiet_since < QUIET_SECS:
            return Decision(WAIT, f"this data was {identity.machine}'s: listening for {QUIET_SECS} s whether that one still runs")
        return Decision(GO, "")


def is_of(row, identity):
    """By the id that Cassandra keeps with the data; a host that never was a member has none that is known here."""
    return row.host_id == identity.host_id if identity.host_id else row.address == identity.started_on
