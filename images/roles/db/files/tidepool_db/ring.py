"""Who founds the ring, who may join it, and what is left to do in it. Pure: facts in, a decision with its reason out.

Cassandra's own guard against two hosts joining at once knows only what gossip has said so far, and two first hosts
would make two rings. So the first is found by votes that are kept on disk, and every other joins under a lock in the ring itself.
"""

import dataclasses

# What gossip calls a host that is on its way in, out, or to other tokens; the part of a status before its first comma.
MOVING_STATUSES = {"BOOT", "BOOT_REPLACE", "LEAVING", "MOVING", "removing"}
# An address that gossip knows by one of these is not free.
TAKEN_STATUSES = {"NORMAL", "shutdown", "hibernate", "LEAVING", "MOVING"}
RING_STATUSES = {"NORMAL", "shutdown", "LEAVING", "MOVING"}
# These are free, though members take no notice of them for a while (Cassandra's QUARANTINE_DELAY, twice the ring delay).
FREED_STATUSES = {"LEFT", "removed"}
# A member hears of a removal some seconds after the one that was asked for it.
QUARANTINE_MARGIN_SECS = 10
FAILURES_NAMED = 3

GO, WAIT, REFUSE = "go", "wait", "refuse"


@dataclasses.dataclass(frozen=True)
class Decision:
    what: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Peer:
    """What a neighbour says of itself."""

    address: str
    id: str
    host: str
    state: str
    # Its data was another machine's, and it waits to hear whether it may use it.
    moved: bool = False


@dataclasses.dataclass(frozen=True)
class Gossip:
    """One row of a member's system_views.gossip_info."""

    address: str
    status: str
    schema: str = ""
    datacenter: str = ""
    rack: str = ""
    host_id: str = ""
    # When it last started, and a counter that grows while it runs.
    generation: int = 0
    heartbeat: int = 0

    @property
    def word(self):
        return self.status.split(",")[0]


@dataclasses.dataclass(frozen=True)
class MemberView:
    """The ring as one member sees it."""

    gossip: tuple
    streaming: bool = False


def majority(hosts):
    return hosts // 2 + 1


def vote(identity, founder_id):
    """The answer to a host that wants to found the ring: (granted, reason). At most one founder ever gets this host's vote."""
    if not identity.fresh:
        return False, "this host belongs to a ring, or is about to"
    if identity.vote not in (None, founder_id):
        return False, f"this host has voted for another founder, {identity.vote}"
    return True, ""


def founding(own_host, settings_founder, peers):
    """Whether a fresh host may ask for votes: GO asks, WAIT waits for the founder or for a member to join."""
    members = sorted(peer.host for peer in peers if peer.state == "member")
    if members:
        return Decision(WAIT, f"there is a ring, with {', '.join(members)}")
    away = sorted(f"{peer.host} is {peer.state}" for peer in peers if peer.state in ("returning", "unwell"))
    if away:
        return Decision(
            WAIT,
            f"there is a ring, but none of its members that answer takes logins ({', '.join(away)}): "
            "that takes a majority of the logins' copies",
        )
    if not same_host(own_host, settings_founder):
        return Decision(WAIT, f"waiting for {settings_founder} to found the ring, or for a member of it to answer")
    others = sorted(peer.host for peer in peers if peer.state not in ("waiting", "refused"))
    if others:
        return Decision(WAIT, f"{', '.join(others)} has begun with a ring, and is not a member yet")
    return Decision(GO, "")


def same_host(host, name):
    """`db-1` is `db-1.example.com`, whatever the case."""
    host, name = host.lower(), name.lower()
    return host == name or host.split(".")[0] == name or host == name.split(".")[0]


def votes_suffice(granted, hosts_at_first):
    needed = majority(hosts_at_first)
    if granted >= needed:
        return Decision(GO, f"{granted} of {hosts_at_first} hosts agree")
    return Decision(
        WAIT,
        f"{granted} of {hosts_at_first} hosts agree that this one founds the ring; {needed} are needed, so that two never do",
    )


def joining(own_address, started_on, views):
    """Whether the host at `own_address` may join the ring that `views` ({address: MemberView}) shows."""
    rows = [row for view in views.values() for row in view.gossip]
    # A host that was let in before finds its own traces, and goes on where it was.
    if started_on != own_address:
        own = [row for row in rows if row.address == own_address]
        taken = sorted({row.word for row in own if row.word in TAKEN_STATUSES})
        if taken:
            return Decision(
                REFUSE,
                f"the ring still knows {own_address} as a member ({', '.join(taken)}), and this host is not that one: "
                f"it doesn't join. Remove the dead member with `nodetool removenode` on a living one (its host id is in `nodetool "
                f"status`), and this host joins by itself; or bring the old one back and give this one another address",
            )
        if any(row.word == "removing" for row in own):
            return Decision(WAIT, f"the member that had {own_address} is being removed")
        if any(row.word in MOVING_STATUSES for row in own):
            return Decision(WAIT, f"the ring remembers an unfinished join of {own_address}; it forgets that by itself")
    others = [row for row in rows if row.address != own_address]
    moving = sorted({f"{row.address} ({row.word})" for row in others if row.word in MOVING_STATUSES})
    if moving:
        return Decision(WAIT, f"one host at a time: {', '.join(moving)}")
    down = sorted({row.address for row in others if row.word in RING_STATUSES} - set(views))
    if down:
        return Decision(WAIT, f"{', '.join(down)} can't be reached; a host joins only when all members are up")
    schemas = {row.schema for row in others if row.address in views and row.schema}
    if len(schemas) > 1:
        return Decision(WAIT, f"the members don't agree on the schema yet ({len(schemas)} versions)")
    streaming = sorted(address for address, view in views.items() if view.streaming)
    if streaming:
        return Decision(WAIT, f"{', '.join(streaming)} is still streaming")
    return Decision(GO, "")


def copies_to_spread_for(views, own, replication):
    """For how many copies Cassandra is to choose a joining host's tokens; `own` are the host's facts.

    It refuses a host of a known rack where there are several racks, but fewer than that: then for one copy in each rack.
    """
    members = [row for view in views.values() for row in view.gossip if row.word in RING_STATUSES]
    racks = {row.rack for row in members if row.datacenter == own["datacenter"] and row.rack}
    return len(racks) if own["rack"] in racks and 1 < len(racks) < replication else replication


def with_failures(reason, what, failures):
    """`reason`, and the {address: reason} of neighbours that might change it, three of them."""
    if not failures:
        return reason
    named = ", ".join(f"{address} ({failures[address]})" for address in sorted(failures)[:FAILURES_NAMED])
    more = f" and {len(failures) - FAILURES_NAMED} more" if len(failures) > FAILURES_NAMED else ""
    return f"{reason}; {what} {named}{more}"


def was_freed(own_address, views):
    """Whether a member remembers that `own_address` was another's that left or was removed."""
    return any(row.address == own_address and row.word in FREED_STATUSES for view in views.values() for row in view.gossip)


def quarantine(waited_secs, ring_delay_secs):
    """Whether a freed address may join, so long after it was first found free. A join that the members take no notice of would
    miss what is written meanwhile."""
    left = 2 * ring_delay_secs + QUARANTINE_MARGIN_SECS - waited_secs
    if left <= 0:
        return Decision(GO, "")
    return Decision(WAIT, "the ring has just forgotten the member that had this address, and takes no notice of the address for a while")


def is_member_everywhere(own_address, views):
    """Whether every member sees `own_address` as NORMAL."""
    return bool(views) and all(
        any(row.address == own_address and row.word == "NORMAL" for row in view.gossip) for view in views.values()
    )


def members_of(view, datacenter=None):
    """The addresses that own a part of the ring, as one member sees it; those of one datacentre, if it is named."""
    return sorted(
        row.address for row in view.gossip if row.word in RING_STATUSES and datacenter in (None, row.datacenter)
    )


def replication_now(members, replication):
    """As many copies as there are members, up to `replication`."""
    return min(members, replication)


def keyspaces_to_raise(current, wanted):
    """Which of {keyspace: replication in this datacentre} have less than `wanted`; never lowers one."""
    return sorted(keyspace for keyspace, copies in current.items() if copies < wanted)


def seed_to_claim(seeds, own_address, names):
    """The first free of `names` in {name: address}, or None when all are taken or this host has one."""
    if own_address in seeds.values():
        return None
    return next((name for name in names if name not in seeds), None)
