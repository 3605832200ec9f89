"""The life of a database host: found the ring or join it, then keep its names, logins and copies in order.

Runs as Cassandra's user. Cassandra's own unit waits until `may-start` is there; everything before that is decided here.
"""

import json
import logging
import os
import signal
import subprocess
import threading
import time

from . import copies, cql, members, neighbours, paths, render, ring

LOG = logging.getLogger("tidepool-db")
PAUSE_SECS = 2
MEMBER_PAUSE_SECS = 15
# Clouds give out addresses in a row: the nearest are asked each time, and those already found; the others so many at a time.
NEAREST = 64
SWEEP = 64
# A lock lives for members.LOCK_SECS; it is renewed well before.
LOCK_RENEW_SECS = 15
REPAIR_SECS_MAX = 600
# From the unit's start to a process.
START_SECS = 30
LOOPBACK = "127.0.0.1"
# So many ends of Cassandra while it joins are no accident; the next try comes after others had the lock.
JOIN_ENDS_MAX = 3
JOIN_RETRY_SECS = 120
# Its unit starts it again after 10 s; for longer it is absent only where that unit doesn't run.
JOIN_ABSENT_SECS = 120
NOT_RUNNING = "Cassandra isn't running on this host: journalctl --unit cassandra says why"


class Host:
    """What this host says of itself to its neighbours and its operator; shared with the server's threads."""

    def __init__(self, facts, identity, file):
        self.facts = facts
        self.identity = identity
        self.file = file
        self.mutex = threading.Lock()
        self.state, self.reason = "", ""

    def become(self, state, reason=""):
        with self.mutex:
            if (state, reason) == (self.state, self.reason):
                return
            self.state, self.reason = state, reason
        LOG.info("%s%s", state, f": {reason}" if reason else "")
        write(paths.STATUS, json.dumps(self.about(), indent=1) + "\n")

    def about(self):
        with self.mutex:
            return {
                "cluster": self.identity.cluster,
                "id": self.identity.id,
                "host": self.facts["host"],
                "address": self.facts["address"],
                "state": self.state,
                "moved": self.identity.moved_to(self.facts["machine"]),
                "reason": self.reason,
            }

    def keep(self, **changes):
        """Changes the identity, on the disk before this returns."""
        with self.mutex:
            for name, value in changes.items():
                setattr(self.identity, name, value)
            self.file.save(self.identity)

    def answer(self, question):
        """To a neighbour."""
        if question.get("ask") != "vote":
            return self.about()
        founder = str(question.get("founder", ""))
        with self.mutex:
            granted, reason = ring.vote(self.identity, founder)
            if question.get("cluster") != self.identity.cluster:
                granted, reason = False, f"this host is of the cluster {self.identity.cluster}"
            if granted and self.identity.vote is None:
                self.identity.vote = founder
                self.file.save(self.identity)
        return {"granted": granted, "reason": reason}


class JoinFailed(Exception):
    """Cassandra ends again and again before it is a member."""


class Starts:
    """How often Cassandra has ended since this began to look, and since when it is not there."""

    def __init__(self, now):
        self.pid = None
        self.ends = 0
        self.seen = now

    def look(self, pid, now):
        """Raises JoinFailed when a join comes to nothing."""
        if self.pid is not None and pid != self.pid:
            self.ends += 1
        self.pid = pid
        self.seen = self.seen if pid is None else now
        if self.ends >= JOIN_ENDS_MAX:
            raise JoinFailed(f"Cassandra has ended {self.ends} times while this host joined: journalctl --unit cassandra says why")
        if now - self.seen > JOIN_ABSENT_SECS:
            raise JoinFailed(f"Cassandra has not run for {JOIN_ABSENT_SECS} s while this host joined: systemctl status cassandra says why")


class Daemon:
    def __init__(self, settings, host, context):
        self.settings = settings
        self.host = host
        self.context = context
        self.address = host.facts["address"]
        self.members = members.Members(context, settings.superuser)
        self.candidates = neighbours.candidates(settings.peers, self.address, host.facts["network"])
        self.swept = NEAREST
        # Neighbours of the cluster, those among them that have this host's own identity, and those with which TLS fails.
        self.known, self.twins, self.tls_failures = {}, {}, {}
        self.watch = copies.Watch(host.facts["machine"])
        # Since when the own address, which was another's, has been found free; monotonic.
        self.free_since = None
        # No join before that; monotonic.
        self.join_after = 0.0
        self.stop = threading.Event()

    def run(self):
        self.host.become(self.state_at_first(), "looking for neighbours")
        while not self.stop.is_set() and not self.owns_data():
            self.stop.wait(PAUSE_SECS)
        if self.stop.is_set():
            return
        if self.host.identity.joined:
            self.host.become("returning", "Cassandra starts")
            self.start_cassandra("member")
        while not self.host.identity.joined and not self.stop.is_set():
            try:
                self.step()
            except members.UNREACHABLE as failure:
                self.host.become(self.host.state, f"tried again soon: {failure}")
            self.stop.wait(PAUSE_SECS)
        while not self.stop.is_set():
            self.look_after()
            self.stop.wait(MEMBER_PAUSE_SECS)

    def state_at_first(self):
        """Of one that has begun with a ring this is no other than later: nobody founds another one meanwhile."""
        identity = self.host.identity
        return "returning" if identity.joined else "founding" if identity.founds else "waiting"

    def owns_data(self):
        """Whether what is on the disk is this machine's, and nobody else uses it. One look."""
        identity = self.host.identity
        moved = identity.moved_to(self.watch.machine)
        # This program alone was started again: what runs, runs.
        if identity.fresh or (not moved and cassandra_pid() is not None):
            return True
        peers = self.peers()
        try:
            views = self.members.views([peer.address for peer in peers if peer.state == "member"]) if moved else {}
        except members.UNREACHABLE as failure:
            self.host.become(self.state_at_first(), f"tried again soon: {failure}")
            return False
        decision = self.watch.decide(identity, self.twins.values(), views, time.monotonic())
        if decision.what == ring.GO:
            if moved:
                LOG.info("this data was %s's, of which nothing is heard any more: it is this host's now", identity.machine)
                self.host.keep(machine=self.watch.machine)
            return True
        if decision.what == ring.REFUSE:
            if identity.copy_on != self.watch.machine:
                self.host.keep(copy_on=self.watch.machine)
            self.host.become("refused", decision.reason)
        else:
            self.wait(decision.reason, self.state_at_first())
        return False

    def wait(self, reason, state="waiting"):
        """Says why this host waits, and with whom it can't speak: one of those may be the one it waits for."""
        self.host.become(state, ring.with_failures(reason, "TLS fails with", self.tls_failures))

    def step(self):
        """One look around by a host that is no member yet."""
        if self.host.identity.founds:
            return self.found()
        peers = self.peers()
        ring_addresses = [peer.address for peer in peers if peer.state == "member"]
        if ring_addresses:
            return self.join(ring_addresses)
        if not self.host.identity.fresh:
            return self.wait("waiting for a member of the ring that this host began to join")
        decision = ring.founding(self.host.facts["host"], self.settings.founder, peers)
        if decision.what == ring.GO:
            decision = self.ask_for_votes(peers)
        if decision.what == ring.GO:
            LOG.info("founding the ring: %s", decision.reason)
            self.host.keep(founds=True, started_on=self.address)
            return self.found()
        return self.wait(decision.reason)

    def peers(self):
        """Those who answer: all known ones, the nearest, and the next part of the network."""
        part = self.candidates[:NEAREST] + self.candidates[self.swept : self.swept + SWEEP]
        self.swept = self.swept + SWEEP if self.swept + SWEEP < len(self.candidates) else NEAREST
        if self.settings.peers != ("auto",) and self.swept == NEAREST:
            # Names may stand for other addresses by now.
            self.candidates = neighbours.candidates(self.settings.peers, self.address, self.host.facts["network"])
        # Where this data was in use before, if not here.
        before = {self.host.identity.started_on} - {None, self.address}
        asked = list(dict.fromkeys([*before, *self.known, *self.twins, *part]))
        answers, failures = neighbours.ask_all(asked, self.context, {"ask": "state"})
        self.tls_failures = {address: why for address, why in self.tls_failures.items() if address not in asked} | failures
        found = {
            address: ring.Peer(address, *(str(answer.get(key)) for key in ("id", "host", "state")), answer.get("moved") is True)
            for address, answer in answers.items()
            if answer.get("cluster") == self.settings.name
        }
        own = self.host.identity.id
        self.known = {address: peer for address, peer in found.items() if peer.id != own}
        self.twins = {address: peer for address, peer in found.items() if peer.id == own}
        return list(self.known.values())

    def ask_for_votes(self, peers):
        own = self.host.identity.id
        question = {"ask": "vote", "founder": own, "cluster": self.settings.name}
        if not self.host.answer(question)["granted"]:
            return ring.Decision(ring.WAIT, f"this host has voted for another founder, {self.host.identity.vote}")
        answers, failures = neighbours.ask_all([peer.address for peer in peers], self.context, question)
        self.tls_failures |= failures
        for address, answer in answers.items():
            if not answer.get("granted"):
                LOG.info("no vote from %s: %s", address, answer.get("reason"))
        granted = 1 + sum(bool(answer.get("granted")) for answer in answers.values())
        return ring.votes_suffice(granted, self.settings.hosts_at_first)

    def found(self):
        """The first member. Clients can't reach it before the default superuser is gone."""
        if not self.host.identity.secured:
            self.host.become("founding", "Cassandra starts for this host alone")
            self.write_hosts({render.SEED_NAMES[0]: self.address})
            self.start_cassandra("first")
            self.wait_for_cql(LOOPBACK)
            if self.stop.is_set():
                return
            members.secure(self.members, LOOPBACK, self.settings, self.host.facts["datacenter"])
            self.members.claim_seed(LOOPBACK, render.SEED_NAMES[0], self.address)
            self.host.keep(secured=True)
        self.host.become("founding", "Cassandra starts again, for all")
        self.start_cassandra("member")
        if self.takes_login(LOOPBACK):
            restart_cassandra()
        self.wait_for_cql(self.address)
        if not self.stop.is_set():
            self.host.keep(joined=True)

    def join(self, ring_addresses):
        """Gates, lock, gates again, start; the lock is kept until the others see this host as a member."""
        if time.monotonic() < self.join_after:
            return None
        decision, views = self.gate(ring_addresses)
        through = next(iter(views), None)
        if decision.what == ring.GO:
            holder = self.members.lock(through, self.host.identity.id, self.host.facts["host"])
            if holder is not None:
                decision = ring.Decision(ring.WAIT, f"one host at a time: {holder} has the lock")
        if decision.what == ring.GO:
            decision, views = self.gate(ring_addresses)
            through = next(iter(views), through)
            if decision.what != ring.GO:
                self.members.unlock(through, self.host.identity.id)
        if decision.what != ring.GO:
            return self.host.become("refused" if decision.what == ring.REFUSE else "waiting", decision.reason)
        return self.enter(through, ring.copies_to_spread_for(views, self.host.facts, self.settings.replication))

    def gate(self, ring_addresses):
        """The decision, and what the members see, {address: MemberView}: through each of them the ring can be asked."""
        first = self.members.views(ring_addresses)
        known = {address for view in first.values() for address in ring.members_of(view)} - {self.address}
        views = {**first, **self.members.views(known - set(first))}
        if not views:
            silent = {address: why for address, why in self.members.silent.items() if address in ring_addresses}
            return ring.Decision(ring.WAIT, ring.with_failures("no member takes a login", "those that were asked:", silent)), {}
        return self.decide(views, time.monotonic()), views

    def decide(self, views, now):
        started_on = self.host.identity.started_on
        decision = ring.joining(self.address, started_on, views)
        if decision.what != ring.GO or started_on == self.address or not ring.was_freed(self.address, views):
            self.free_since = None if decision.what == ring.REFUSE else self.free_since
            return decision
        if self.free_since is None:
            self.free_since = now
        return ring.quarantine(now - self.free_since, self.settings.ring_delay_secs)

    def enter(self, through, copies_to_spread_for):
        self.write_hosts(self.members.seeds(through))
        self.host.keep(started_on=self.address)
        self.host.become("joining", "Cassandra fetches this host's part of the data")
        self.start_cassandra("member", copies_to_spread_for)
        under_way = self.under_way(through)
        try:
            self.wait_for_cql(self.address, under_way)
            while not self.stop.is_set() and not self.is_member():
                under_way()
                self.stop.wait(PAUSE_SECS)
        except JoinFailed as failure:
            return self.give_up(through, str(failure))
        if self.stop.is_set():
            return
        self.host.keep(joined=True)
        self.look_after()
        self.members.unlock(through, self.host.identity.id)
        return None

    def under_way(self, through):
        """What to call all the while a join goes on: keeps the lock, as long as Cassandra does something with it. Raises JoinFailed."""
        renewed = time.monotonic()
        starts = Starts(renewed)

        def look():
            nonlocal renewed
            starts.look(cassandra_pid(), time.monotonic())
            if time.monotonic() - renewed > LOCK_RENEW_SECS:
                self.renew(through)
                renewed = time.monotonic()

        return look

    def give_up(self, through, reason):
        """For a while: Cassandra's unit waits at its gate again, and others get the lock."""
        remove(paths.MAY_START)
        restart_cassandra()
        self.join_after = time.monotonic() + JOIN_RETRY_SECS
        self.host.become("waiting", f"{reason}. Others may join meanwhile; this host tries again in {JOIN_RETRY_SECS} s")
        try:
            self.members.unlock(through, self.host.identity.id)
        except members.UNREACHABLE as failure:
            LOG.warning("the lock ends by itself: %s", failure)

    def is_member(self):
        own = self.members.view(self.address)
        if own is None or not self.members.bootstrapped(self.address):
            return False
        return ring.is_member_everywhere(self.address, self.members.views(ring.members_of(own)))

    def renew(self, through):
        try:
            holder = self.members.lock(through, self.host.identity.id, self.host.facts["host"])
        except members.UNREACHABLE as failure:
            LOG.warning("the lock could not be renewed: %s", failure)
            return
        if holder is not None:
            LOG.warning("the lock was lost to %s; that host still waits while gossip shows this one on its way", holder)

    def look_after(self):
        """One look by a member."""
        try:
            self.settle()
            self.host.become("member")
        except (*members.UNREACHABLE, subprocess.SubprocessError) as failure:
            state = "returning" if self.host.state == "returning" else "unwell"
            self.host.become(state, NOT_RUNNING if cassandra_pid() is None else str(failure))

    def settle(self):
        """Brings names, copies and logins to what the ring's size asks for. Changes happen under the lock, one host at a time."""
        own = self.members.look(self.address)
        self.remember(own)
        datacenter = self.host.facts["datacenter"]
        copies = ring.replication_now(len(ring.members_of(own, datacenter)), self.settings.replication)
        low = ring.keyspaces_to_raise(self.members.replication(self.address, datacenter), copies)
        seeds = self.members.seeds(self.address)
        seed = ring.seed_to_claim(seeds, self.address, render.SEED_NAMES)
        if low or seed or self.host.identity.repair_due:
            self.change(low, copies, seed)
            seeds = self.members.seeds(self.address)
        if self.settings.reader is not None:
            self.members.grant_reader(self.address, self.settings)
        self.write_hosts(seeds)

    def remember(self, own):
        """By what this host is known again when its data is found on another machine."""
        known = {"members": len(ring.members_of(own)), "host_id": self.host.identity.host_id or self.members.host_id(self.address)}
        if any(getattr(self.host.identity, name) != value for name, value in known.items()):
            self.host.keep(**known)

    def change(self, low, copies, seed):
        holder = self.members.lock(self.address, self.host.identity.id, self.host.facts["host"])
        if holder is not None:
            LOG.info("%s has the lock; changes wait", holder)
            return
        try:
            if low:
                LOG.info("%s: %d copies", ", ".join(low), copies)
                self.host.keep(repair_due=True)
                self.members.raise_replication(self.address, low, self.host.facts["datacenter"], copies)
            if self.host.identity.repair_due:
                for keyspace in members.REPAIRED:
                    repair(keyspace)
                    self.renew(self.address)
                self.host.keep(repair_due=False)
            if seed:
                self.members.claim_seed(self.address, seed, self.address)
                LOG.info("this host is %s", seed)
        finally:
            self.members.unlock(self.address, self.host.identity.id)

    def write_hosts(self, seeds):
        """Only when it changes: Cassandra's Java reads it whenever it looks a name up."""
        text = render.hosts(seeds, self.address, self.host.facts["host"])
        try:
            with open(paths.HOSTS, encoding="ascii") as file:
                if file.read() == text:
                    return
        except FileNotFoundError:
            pass
        write(paths.HOSTS, text)

    def start_cassandra(self, configuration, copies_to_spread_for=None):
        """Which configuration, and for how many copies a host that joins chooses its tokens."""
        write(paths.MAY_START, f"{configuration} {copies_to_spread_for or self.settings.replication}\n")

    def wait_for_cql(self, address, meanwhile=lambda: None):
        """Until Cassandra takes a login at `address`, or this program is stopped. Joining may take hours."""
        state, reason, began = self.host.state, self.host.reason, time.monotonic()
        while not self.stop.wait(PAUSE_SECS):
            try:
                self.members.connect(address, timeout_secs=5.0).close()
                return
            except cql.CqlError as failure:
                # Cassandra makes the default superuser some time after it has begun to take logins.
                if address == LOOPBACK and self.takes_login(address, members.DEFAULT_SUPERUSER):
                    return
                self.host.become(state, str(failure))
            except OSError:
                if time.monotonic() - began > START_SECS:
                    self.host.become(state, NOT_RUNNING if cassandra_pid() is None else reason)
            meanwhile()

    def takes_login(self, address, login=None):
        try:
            self.members.connect(address, login, timeout_secs=5.0).close()
            return True
        except members.UNREACHABLE:
            return False


def write(path, text):
    part = f"{path}.part"
    with open(part, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def remove(path):
    try:
        os.remove(path)
    except FileNotFoundError:
        pass


def cassandra_pid():
    """Of the Cassandra that runs on this host, or None."""
    try:
        with open(paths.PID, encoding="ascii") as file:
            pid = int(file.read())
        os.kill(pid, 0)
        return pid
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None


def restart_cassandra():
    """Asks it to end; its unit starts it again."""
    pid = cassandra_pid()
    if pid is not None:
        os.kill(pid, signal.SIGTERM)


def repair(keyspace):
    """Brings every row of `keyspace` to all its copies."""
    subprocess.run(
        [paths.NODETOOL, "repair", "--full", keyspace],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=REPAIR_SECS_MAX, check=True,
    )  # fmt: skip
