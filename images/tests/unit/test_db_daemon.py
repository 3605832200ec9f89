"""What the daemon remembers between two looks around."""

import os
import pathlib
import tempfile
import threading
import types
import unittest
from unittest import mock

import db_context
from tidepool_db import __main__ as program
from tidepool_db import daemon, identity, paths, settings
from tidepool_db.ring import GO, REFUSE, WAIT, Gossip, MemberView

OWN = "10.0.0.4"


def ring_with(own_status):
    rows = [("10.0.0.1", "NORMAL,-1"), (OWN, own_status)]
    return {"10.0.0.1": MemberView(tuple(Gossip(address, status, "s", "nyc3") for address, status in rows if status))}


class FreedAddresses(unittest.TestCase):
    """Members take no notice of an address for twice the ring delay after its member was removed."""

    def daemon(self, started_on=None):
        kept = identity.Identity(cluster="tidepool", datacenter="nyc3", rack="rack1", id="own", started_on=started_on)
        facts = {"host": "db-4", "address": OWN, "network": "10.0.0.0/29", "machine": "digitalocean 4"}
        host = types.SimpleNamespace(facts=facts, identity=kept)
        return daemon.Daemon(settings.parse(db_context.SETTINGS), host, context=None)

    def test_a_join_waits_until_it_is_noticed(self):
        for status in ("removed,id,170", "LEFT,3,170"):
            new = self.daemon()
            answers = [(now, new.decide(ring_with(status), now).what) for now in (100.0, 159.0, 169.9, 170.0)]
            self.assertEqual(answers, [(100.0, WAIT), (159.0, WAIT), (169.9, WAIT), (170.0, GO)], status)

    def test_the_wait_begins_with_the_removal(self):
        new = self.daemon()
        self.assertEqual(new.decide(ring_with("removed,id,170"), 100.0).what, WAIT)
        self.assertEqual(new.decide(ring_with("NORMAL,3"), 150.0).what, REFUSE)
        self.assertEqual(new.decide(ring_with("removed,id,171"), 170.0).what, WAIT)
        self.assertEqual(new.decide(ring_with("removed,id,171"), 240.0).what, GO)

    def test_an_address_that_was_nobodys_does_not_wait(self):
        self.assertEqual(self.daemon().decide(ring_with(""), 0.0).what, GO)

    def test_a_host_that_was_let_in_before_does_not_wait(self):
        self.assertEqual(self.daemon(started_on=OWN).decide(ring_with("LEFT,3,170"), 0.0).what, GO)


class Files(unittest.TestCase):
    """A host with files of its own, whose neighbours and ring are made up."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        for name in ("STATUS", "MAY_START", "HOSTS", "IDENTITY", "PID", "CHOSEN"):
            self.change(paths, name, str(self.folder / name))

    def change(self, owner, name, value):
        patch = mock.patch.object(owner, name, value)
        patch.start()
        self.addCleanup(patch.stop)

    def answered(self, answers, failures=None):
        """What neighbours answer from now on."""
        self.change(daemon.neighbours, "ask_all", lambda *_: (dict(answers), dict(failures or {})))

    def daemon(self, here="digitalocean 4", **kept):
        file = identity.IdentityFile(paths.IDENTITY)
        file.save(identity.Identity(cluster="tidepool", datacenter="nyc3", rack="rack1", id="own", **kept))
        facts = {"host": "db-4", "address": OWN, "network": "10.0.0.0/29", "machine": here, "datacenter": "nyc3", "rack": "rack1"}
        made = daemon.Daemon(settings.parse(db_context.SETTINGS), daemon.Host(facts, file.load(), file), context=None)
        made.stop = Stop()
        return made

    def may_start(self):
        return os.path.exists(paths.MAY_START)


class Stop:
    """Time passes by steps, and not for ever."""

    def __init__(self, steps=50):
        self.steps = steps

    def wait(self, _):
        self.steps -= 1
        return self.is_set()

    def is_set(self):
        return self.steps <= 0

    def set(self):
        self.steps = 0


def answer(state, **more):
    return {"cluster": "tidepool", "id": "own", "host": "db-3", "state": state, **more}


class Owners(Files):
    """Data is used by the machine that it is bound to. The decisions are tested with the copies."""

    MEMBER = {"started_on": "10.0.0.3", "joined": True, "machine": "digitalocean 3", "host_id": "host-3", "members": 3}

    def test_a_copy_of_a_member_that_runs_never_starts(self):
        self.answered({"10.0.0.3": answer("member")})
        clone = self.daemon(**self.MEMBER)
        clone.run()
        self.assertEqual(clone.host.state, "refused")
        self.assertIn("a copy of what db-3 at 10.0.0.3 uses", clone.host.reason)
        self.assertFalse(self.may_start())
        # Nor when that one is away at its next boot.
        self.answered({})
        clone = self.daemon(**self.kept())
        clone.run()
        self.assertEqual((clone.host.state, self.may_start()), ("refused", False))
        with mock.patch.object(program, "load_facts", lambda: clone.host.facts):
            self.assertEqual(program.adopt(), 0)
            self.assertEqual(program.adopt(), program.USAGE_ERROR)
        self.assertEqual((self.kept()["machine"], self.kept()["copy_on"]), ("digitalocean 4", None))

    def kept(self):
        """What is on the disk, but for what every host of these tests has."""
        kept = vars(identity.IdentityFile(paths.IDENTITY).load())
        return {name: value for name, value in kept.items() if name not in ("cluster", "datacenter", "rack", "id")}

    def test_it_asks_where_the_data_was_in_use_wherever_that_is(self):
        asked = []
        self.change(daemon.neighbours, "ask_all", lambda addresses, *_: (asked.extend(addresses), ({}, {}))[1])
        self.daemon(**{**self.MEMBER, "started_on": "192.168.7.7"}).owns_data()
        self.assertIn("192.168.7.7", asked)

    def test_meanwhile_neighbours_hear_that_there_is_a_ring(self):
        for kept, state in ((self.MEMBER, "returning"), ({**self.MEMBER, "joined": False, "founds": True}, "founding")):
            self.answered({})
            moved = self.daemon(**kept)
            moved.run()
            self.assertEqual((moved.host.about()["state"], moved.host.about()["moved"], self.may_start()), (state, True, False))

    def test_a_member_on_its_own_machine_starts_at_once(self):
        self.answered({})
        for state in ("refused", "waiting"):
            self.answered({"10.0.0.3": answer(state), "10.0.0.5": answer("returning", moved=True)})
            member = self.daemon(here="digitalocean 3", **self.MEMBER)
            self.assertTrue(member.owns_data(), state)

    def test_a_program_that_is_started_again_beside_its_cassandra_goes_on(self):
        pathlib.Path(paths.PID).write_text(str(os.getpid()), encoding="ascii")
        self.answered({"10.0.0.3": answer("member")})
        self.assertTrue(self.daemon(here="digitalocean 3", **self.MEMBER).owns_data())
        self.assertFalse(self.daemon(**self.MEMBER).owns_data())

    def test_a_member_remembers_by_what_it_is_known_again(self):
        member = self.daemon(started_on=OWN, joined=True)
        member.members = types.SimpleNamespace(host_id=lambda _: "host-4")
        member.remember(ring_with("NORMAL,2")["10.0.0.1"])
        self.assertEqual((self.kept()["members"], self.kept()["host_id"]), (2, "host-4"))


class Ends(unittest.TestCase):
    def test_a_signal_in_the_middle_of_another_one_ends_the_program_too(self):
        event, free = threading.Event(), threading.Event()
        # As an event whose lock the interrupted thread has: it is set once that one goes on.
        held = types.SimpleNamespace(set=lambda: free.wait(10) and event.set())
        for _ in range(2):
            program.end(held)
        self.assertFalse(event.is_set())
        free.set()
        self.assertTrue(event.wait(10))


class Gate(Files):
    """What Cassandra's unit waits at."""

    def test_a_member_waits_too_until_its_data_is_known_to_be_its_own(self):
        self.assertEqual(program.allowed(), (None, None))
        self.daemon(started_on=OWN, joined=True)
        self.assertEqual(program.allowed(), (None, None))

    def test_a_joining_host_gets_its_configuration(self):
        self.change(paths, "CONFIG", str(self.folder))
        text = "cluster_name: a\nallocate_tokens_for_local_replication_factor: 3\n"
        (self.folder / "cassandra-member.yaml").write_text(text, encoding="utf-8")
        self.daemon().start_cassandra("member", 2)
        self.assertEqual(program.gate(), 0)
        self.assertEqual(pathlib.Path(paths.CHOSEN).read_text(encoding="utf-8"), text.replace("3", "2"))
        self.daemon().start_cassandra("member")
        self.assertEqual(program.gate(), 0)
        self.assertEqual(pathlib.Path(paths.CHOSEN).read_text(encoding="utf-8"), text)


class Ring:
    """Lets everybody in, and notes who has the lock. Nobody gets a login."""

    def __init__(self):
        self.holder, self.renewals, self.silent = None, 0, {}

    def views(self, addresses):
        return ring_with("") if "10.0.0.1" in addresses else {}

    def view(self, _):
        return None

    def seeds(self, _):
        return {}

    def lock(self, _, holder, host):
        self.holder, self.renewals = host, self.renewals + 1

    def unlock(self, *_):
        self.holder = None

    def connect(self, *_, **__):
        raise ConnectionRefusedError("nobody listens")


class Joins(Files):
    def test_one_that_ends_again_and_again_gives_the_lock_back(self):
        pids = iter([None, 11, 11, None, 12, None, 13, None] + [14] * 100)
        self.change(daemon, "cassandra_pid", lambda: next(pids))
        ended = []
        self.change(daemon, "restart_cassandra", lambda: ended.append(True))
        new = self.daemon()
        new.members = Ring()
        new.join(["10.0.0.1"])
        self.assertFalse(new.stop.is_set(), "it still waits for Cassandra")
        self.assertIsNone(new.members.holder)
        self.assertEqual(new.host.state, "waiting")
        self.assertIn("Cassandra has ended 3 times while this host joined: journalctl --unit cassandra says why", new.host.reason)
        # What would start next waits for its turn.
        self.assertFalse(self.may_start())
        self.assertEqual(ended, [True])
        tries = new.members.renewals
        new.join(["10.0.0.1"])
        self.assertEqual(new.members.renewals, tries, "others come first")
        new.join_after = 0.0
        new.join(["10.0.0.1"])
        self.assertGreater(new.members.renewals, tries)

    def test_one_whose_cassandra_never_runs_gives_it_back_too(self):
        starts = daemon.Starts(100.0)
        for now, pid in ((101.0, None), (110.0, 11), (150.0, 11), (160.0, None), (200.0, None), (270.0, None)):
            starts.look(pid, now)
        with self.assertRaisesRegex(daemon.JoinFailed, "Cassandra has not run for 120 s"):
            starts.look(None, 271.0)

    def test_one_that_takes_its_time_keeps_the_lock(self):
        self.change(daemon, "cassandra_pid", lambda: 11)
        self.change(daemon, "LOCK_RENEW_SECS", -1)
        new = self.daemon()
        new.members = Ring()
        new.join(["10.0.0.1"])
        self.assertTrue(new.stop.is_set())
        self.assertEqual((new.host.state, new.members.holder), ("joining", "db-4"))
        self.assertGreater(new.members.renewals, 40)

    def test_why_no_member_takes_a_login_is_said(self):
        new = self.daemon()
        new.members = Ring()
        new.members.silent = {"10.0.0.2": "certificate has expired", "10.0.0.9": "not asked now"}
        decision, views = new.gate(["10.0.0.2"])
        self.assertEqual((decision.reason, views), ("no member takes a login; those that were asked: 10.0.0.2 (certificate has expired)", {}))


class Neighbours(Files):
    def test_with_whom_tls_fails_is_said_beside_what_is_waited_for(self):
        self.answered({}, {"10.0.0.3": "it refuses this host: certificate expired"})
        new = self.daemon()
        new.step()
        self.assertEqual(
            new.host.reason,
            "waiting for db-1 to found the ring, or for a member of it to answer; "
            "TLS fails with 10.0.0.3 (it refuses this host: certificate expired)",
        )
        self.answered({"10.0.0.3": answer("waiting") | {"id": "other"}})
        new.step()
        self.assertNotIn("TLS", new.host.reason)

    def test_a_founder_without_votes_says_so_too(self):
        self.answered({}, {"10.0.0.3": "its certificate is refused here: certificate has expired"})
        founder = self.daemon()
        founder.host.facts["host"] = "db-1"
        founder.step()
        self.assertIn("1 of 3 hosts agree", founder.host.reason)
        self.assertIn("TLS fails with 10.0.0.3 (its certificate is refused here: certificate has expired)", founder.host.reason)


if __name__ == "__main__":
    unittest.main()
