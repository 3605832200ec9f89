"""What a ring keeps through power cuts, a host that is added, and an address that comes back as another host."""

from hosts import wait_until
from ring_steps import keeper_takes_login, seeds_known
from trial import APPLICATION, ROWS, require

JOIN_SECS_MAX = 600
REFUSED_SECS_MAX = 180
# Until the others call a member down.
DOWN_SECS_MAX = 120
# Until Cassandra gives up to look for others.
ALONE_SECS_MAX = 240
SNAPSHOT = "a member that runs"


def sees_down(host, address):
    """The line of nodetool with a member that is down, or None."""
    lines = host.run("nodetool", "status").splitlines()
    return next((line for line in lines if line.startswith("DN") and address in line.split()), None)


def starts_again(host):
    return int(host.run("systemctl", "show", "--property=NRestarts", "--value", "cassandra")) > 0


def a_power_cut_of_one_loses_nothing(trial):
    first, third = trial.hosts[0], trial.hosts[2]
    writer = first.start_client("write_until_told", login=APPLICATION, addresses=[first.private], first=ROWS)
    writer.has_printed(100)
    third.power_cut()
    wait_until(f"{first.name} calls {third.name} down", DOWN_SECS_MAX, lambda: sees_down(first, third.private))
    writer.has_printed(len(writer.lines) + 100)
    answer = writer.finish()
    print(f"  one host without power: {answer['acknowledged']} acknowledged, {answer['failed']} failed")
    trial.on_again([third])
    trial.all_there(writer.numbers())


def a_power_cut_of_all_loses_nothing(trial):
    seeds = set(seeds_known(trial.hosts[0]).values())
    writer = trial.hosts[0].start_client("write_until_told", login=APPLICATION, addresses=trial.addresses(), first=10 * ROWS)
    writer.has_printed(200)
    for host in reversed(trial.hosts):
        host.power_cut()
    # What came through before the writer's own host lost power was acknowledged, too.
    writer.ended()
    acknowledged = writer.numbers()
    print(f"  all hosts without power: {len(acknowledged)} acknowledged before")
    # A member that is no seed can't start by itself, and goes on trying.
    early = next(host for host in trial.hosts if host.private not in seeds)
    early.act("power_on")
    early.up()
    wait_until(f"{early.name} tries alone, and again", ALONE_SECS_MAX, lambda: starts_again(early))
    trial.on_again([host for host in trial.hosts if host is not early])
    wait_until("all take logins", 300, lambda: all(keeper_takes_login(trial, host) for host in trial.hosts))
    trial.all_there(acknowledged)
    for host in trial.hosts:
        trial.reads_all(host)


def a_fourth_joins_without_losing_a_read(trial):
    first = trial.hosts[0]
    reader = first.start_client("read_until_told", login=APPLICATION, addresses=[first.private], first=0, last=ROWS)
    [fourth] = trial.create("db-4")
    trial.hosts.append(fourth)
    trial.are_members(JOIN_SECS_MAX)
    answer = reader.finish()
    print(f"  {answer['count']} reads at ONE while db-4 joined")
    require(answer["count"] > 100 and answer["missing"] == 0 and answer["failed"] == 0, answer)
    trial.reads_all(fourth)
    owned = fourth.run("nodetool", "status", "trial")
    require(owned.count("\nUN ") == 4, owned)


def a_reused_address_stays_out(trial):
    """A member is destroyed and not removed; the cloud gives its address to a new host."""
    first, dead = trial.hosts[0], trial.hosts.pop()
    address = dead.private
    dead.destroy()
    [other] = trial.create("db-5", rack="rack2")
    require(other.private == address, f"the cloud gave {other.private}, not {address}")
    wait_until(lambda: f"db-5 refuses: {other.status()}", REFUSED_SECS_MAX, lambda: other.state() == "refused")
    reason = other.status()["reason"]
    require(address in reason and "removenode" in reason, reason)
    require("the ring still knows" in other.run("journalctl", "--unit", "tidepool-db", "--output", "cat"), "not in the journal")
    active = other.run("systemctl", "show", "--property=ActiveState", "--value", "cassandra").strip()
    require(active == "activating", f"Cassandra is {active}")
    trial.hosts.append(other)


def once_the_dead_member_is_removed_it_joins_by_itself(trial):
    first, other = trial.hosts[0], trial.hosts[-1]
    line = wait_until(f"{first.name} calls the dead one down", DOWN_SECS_MAX, lambda: sees_down(first, other.private))
    first.run("nodetool", "removenode", line.split()[-2])
    # Members take no notice of the address for twice the ring delay.
    wait_until(lambda: f"db-5 waits: {other.status()}", 60, lambda: "takes no notice" in other.status().get("reason", ""))
    trial.are_members(JOIN_SECS_MAX)
    trial.reads_all(other)


def a_member_of_a_known_rack_joins_where_racks_are_fewer_than_copies(trial):
    """db-5 brought the second rack: from now on there are two, and three copies."""
    [other] = trial.create("db-6", rack="rack1")
    trial.hosts.append(other)
    trial.are_members(JOIN_SECS_MAX)
    trial.reads_all(other)
    # Nobody else has the lock any more, and tokens were chosen.
    owned = other.run("nodetool", "status", "trial")
    require(owned.count("\nUN ") == len(trial.hosts), owned)


def a_copy_of_a_member_stays_out(trial):
    """A snapshot of a member that runs is booted beside it, with the same user data."""
    third = trial.hosts[2]
    third.act("snapshot", name=SNAPSHOT)
    number = trial.cloud.snapshot(SNAPSHOT)
    [copy] = trial.create("db-copy", image=number)
    try:
        wait_until(lambda: f"db-copy refuses: {copy.status()}", REFUSED_SECS_MAX, lambda: copy.state() == "refused")
        reason = copy.status()["reason"]
        require("copy" in reason and third.private in reason and "tidepool-db adopt" in reason, reason)
        # Also when it is asked again.
        copy.run("systemctl", "restart", "tidepool-db")
        wait_until(lambda: f"db-copy refuses again: {copy.status()}", REFUSED_SECS_MAX, lambda: copy.state() == "refused")
        active = copy.run("systemctl", "show", "--property=ActiveState", "--value", "cassandra").strip()
        require(active == "activating", f"Cassandra is {active}")
        for host in trial.hosts:
            known = host.run("nodetool", "status")
            require(copy.private not in known and known.count("\nUN ") == len(trial.hosts), known)
            trial.reads_all(host)
    finally:
        copy.destroy()
        trial.cloud.call("DELETE", f"/v2/snapshots/{number}")


def a_certificate_for_servers_alone_is_refused(trial):
    [other] = trial.create("db-7", certificate="server.pem")
    try:
        wait_until(lambda: f"db-7 refuses: {other.status()}", REFUSED_SECS_MAX, lambda: other.state() == "refused")
        reason = other.status()["reason"]
        require("node.pem is not for clientAuth" in reason, reason)
        said = other.run("journalctl", "--unit", "tidepool-db-configure", "--output", "cat")
        require("tidepool-db: tls.certificate" in said, said)
    finally:
        other.destroy()
