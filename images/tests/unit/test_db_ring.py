"""Who founds, who joins, and what is left to do: tables of facts and decisions."""

import unittest

import db_context  # noqa: F401
from tidepool_db import identity, ring
from tidepool_db.ring import GO, REFUSE, WAIT, Decision, Gossip, MemberView, Peer

OWN = "10.0.0.4"


def fresh(**changes):
    return identity.Identity(cluster="tidepool", datacenter="nyc3", rack="rack1", id="own", **changes)


def peer(host, state):
    return Peer(f"10.0.0.{host[-1]}", f"id-{host}", host, state)


def view(*rows, streaming=False):
    return MemberView(tuple(Gossip(address, status, schema, "nyc3") for address, status, schema in rows), streaming)


def whole_ring(*more):
    rows = [("10.0.0.1", "NORMAL,-1", "s"), ("10.0.0.2", "NORMAL,2", "s"), *more]
    return {"10.0.0.1": view(*rows), "10.0.0.2": view(*rows)}


class Votes(unittest.TestCase):
    def test_a_fresh_host_votes_for_one_founder_only(self):
        self.assertEqual(ring.vote(fresh(), "a"), (True, ""))
        self.assertEqual(ring.vote(fresh(vote="a"), "a"), (True, ""))
        granted, reason = ring.vote(fresh(vote="a"), "b")
        self.assertFalse(granted)
        self.assertIn("another founder, a", reason)

    def test_a_host_that_was_let_into_a_ring_has_no_vote(self):
        self.assertFalse(ring.vote(fresh(started_on=OWN), "a")[0])
        self.assertFalse(ring.vote(fresh(started_on=OWN, vote="a"), "a")[0])

    def test_two_founders_never_both_get_a_majority(self):
        for hosts in range(1, 10):
            for first in range(hosts + 1):
                both = (ring.votes_suffice(first, hosts), ring.votes_suffice(hosts - first, hosts))
                self.assertNotEqual([decision.what for decision in both], [GO, GO], (hosts, first))

    def test_one_host_alone_founds_only_a_ring_of_one(self):
        self.assertEqual(ring.votes_suffice(1, 1).what, GO)
        self.assertEqual(ring.votes_suffice(1, 2).what, WAIT)
        self.assertEqual(
            ring.votes_suffice(1, 3),
            Decision(WAIT, "1 of 3 hosts agree that this one founds the ring; 2 are needed, so that two never do"),
        )


class Founding(unittest.TestCase):
    def test_only_the_founder_asks(self):
        waiting = [peer("db-2", "waiting"), peer("db-3", "waiting")]
        self.assertEqual(ring.founding("db-1", "db-1", waiting).what, GO)
        self.assertEqual(ring.founding("db-2", "db-1", waiting).what, WAIT)

    def test_a_founder_that_is_made_again_finds_the_ring(self):
        decision = ring.founding("db-1", "db-1", [peer("db-2", "member"), peer("db-3", "waiting")])
        self.assertEqual(decision, Decision(WAIT, "there is a ring, with db-2"))

    def test_a_ring_whose_members_take_no_logins_is_not_one_that_is_still_to_be_founded(self):
        decision = ring.founding("db-4", "db-1", [peer("db-2", "unwell"), peer("db-3", "waiting")])
        self.assertEqual(decision.what, WAIT)
        self.assertIn("none of its members that answer takes logins (db-2 is unwell)", decision.reason)

    def test_nobody_founds_beside_one_that_has_begun(self):
        for state in ("founding", "joining", "returning", "unwell"):
            self.assertEqual(ring.founding("db-1", "db-1", [peer("db-2", state)]).what, WAIT, state)

    def test_names_of_hosts(self):
        for host, name, same in (
            ("db-1", "db-1", True),
            ("DB-1", "db-1", True),
            ("db-1.example.com", "db-1", True),
            ("db-1", "db-1.example.com", True),
            ("db-10", "db-1", False),
            ("db-1.example.com", "db-1.example.org", False),
        ):
            self.assertEqual(ring.same_host(host, name), same, (host, name))


class Joining(unittest.TestCase):
    def decide(self, views, started_on=None):
        return ring.joining(OWN, started_on, views)

    def test_a_whole_ring_lets_a_new_address_in(self):
        self.assertEqual(self.decide(whole_ring()), Decision(GO, ""))

    def test_an_address_that_the_ring_knows_is_refused_with_what_to_do(self):
        for status in ("NORMAL,-3", "shutdown,true", "hibernate,true", "LEAVING,3", "MOVING,3"):
            decision = self.decide(whole_ring((OWN, status, "s")))
            self.assertEqual(decision.what, REFUSE, status)
            self.assertIn(OWN, decision.reason)
            self.assertIn("nodetool removenode", decision.reason)

    def test_one_member_that_knows_the_address_is_enough(self):
        views = whole_ring()
        views["10.0.0.2"] = view(("10.0.0.1", "NORMAL", "s"), ("10.0.0.2", "NORMAL", "s"), (OWN, "shutdown,true", "s"))
        self.assertEqual(self.decide(views).what, REFUSE)

    def test_an_address_that_has_left_is_free(self):
        for status in ("LEFT,3,170", "removed,id,170", ""):
            self.assertEqual(self.decide(whole_ring((OWN, status, "s"))).what, GO, status)

    def test_an_address_whose_member_is_being_removed_is_waited_for(self):
        decision = self.decide(whole_ring((OWN, "removing,id", "s")))
        self.assertEqual(decision, Decision(WAIT, f"the member that had {OWN} is being removed"))

    def test_a_host_that_was_let_in_before_goes_on(self):
        for status in ("BOOT,3", "NORMAL,3", "shutdown,true"):
            self.assertEqual(self.decide(whole_ring((OWN, status, "s")), started_on=OWN).what, GO, status)

    def test_a_host_that_moved_to_a_taken_address_is_refused(self):
        self.assertEqual(self.decide(whole_ring((OWN, "NORMAL,3", "s")), started_on="10.0.0.9").what, REFUSE)

    def test_an_unfinished_join_of_the_address_is_waited_for(self):
        self.assertEqual(self.decide(whole_ring((OWN, "BOOT,3", "s"))).what, WAIT)

    def test_one_host_at_a_time(self):
        for status in ("BOOT,3", "BOOT_REPLACE,10.0.0.2", "LEAVING,3", "MOVING,3", "removing,id"):
            decision = self.decide(whole_ring(("10.0.0.3", status, "s")))
            self.assertEqual(decision.what, WAIT, status)
            self.assertIn("10.0.0.3", decision.reason)

    def test_a_member_that_is_down_is_waited_for(self):
        for status in ("NORMAL,3", "shutdown,true"):
            decision = self.decide(whole_ring(("10.0.0.3", status, "s")))
            self.assertEqual(
                decision, Decision(WAIT, "10.0.0.3 can't be reached; a host joins only when all members are up"), status
            )

    def test_schema_and_streams(self):
        views = whole_ring()
        views["10.0.0.2"] = view(("10.0.0.1", "NORMAL", "s"), ("10.0.0.2", "NORMAL", "other"))
        self.assertEqual(self.decide(views).what, WAIT)
        rows = [("10.0.0.1", "NORMAL", "s")]
        self.assertEqual(self.decide({"10.0.0.1": view(*rows, streaming=True)}).what, WAIT)


class Racks(unittest.TestCase):
    """Cassandra refuses to choose tokens for a host of a known rack where there are several racks, but fewer than copies."""

    def spread_for(self, rack, *racks, replication=3):
        rows = tuple(Gossip(f"10.0.0.{number}", "NORMAL,3", "s", "nyc3", of) for number, of in enumerate(racks, 1))
        # Of one that is no member yet, and of another datacentre.
        others = (Gossip("10.0.0.9", "BOOT,3", "s", "nyc3", "rack9"), Gossip("10.1.0.1", "NORMAL,3", "s", "fra1", "rack8"))
        views = {"10.0.0.1": MemberView(rows + others), "10.0.0.2": MemberView(rows)}
        return ring.copies_to_spread_for(views, {"datacenter": "nyc3", "rack": rack}, replication)

    def test_a_third_host_on_two_racks(self):
        self.assertEqual(self.spread_for("rack1", "rack1", "rack2"), 2)

    def test_a_second_host_of_a_rack_before_the_third_rack_has_one(self):
        self.assertEqual(self.spread_for("rack2", "rack1", "rack2"), 2)
        self.assertEqual(self.spread_for("rack2", "rack1", "rack2", "rack3", replication=5), 3)

    def test_where_cassandra_has_nothing_against_it_the_copies_are_those_of_the_settings(self):
        for rack, racks in (
            ("rack1", ["rack1"]),
            ("rack1", ["rack1", "rack1", "rack1"]),
            ("rack3", ["rack1", "rack2"]),
            ("rack1", ["rack1", "rack2", "rack3"]),
            ("rack1", ["rack1", "rack2", "rack3", "rack4"]),
        ):
            self.assertEqual(self.spread_for(rack, *racks), 3, (rack, racks))


class Reasons(unittest.TestCase):
    def test_neighbours_that_might_be_the_ones_waited_for_are_named(self):
        self.assertEqual(ring.with_failures("waiting for db-1", "TLS fails with", {}), "waiting for db-1")
        failures = {f"10.0.0.{number}": "expired" for number in (5, 4, 3, 2)}
        self.assertEqual(
            ring.with_failures("waiting for db-1", "TLS fails with", failures),
            "waiting for db-1; TLS fails with 10.0.0.2 (expired), 10.0.0.3 (expired), 10.0.0.4 (expired) and 1 more",
        )


class Afterwards(unittest.TestCase):
    def test_a_member_is_one_for_every_other(self):
        self.assertFalse(ring.is_member_everywhere(OWN, {}))
        self.assertTrue(ring.is_member_everywhere(OWN, whole_ring((OWN, "NORMAL,3", "s"))))
        views = whole_ring((OWN, "NORMAL,3", "s"))
        views["10.0.0.2"] = view((OWN, "BOOT,3", "s"))
        self.assertFalse(ring.is_member_everywhere(OWN, views))

    def test_copies_grow_with_the_ring_and_never_shrink(self):
        self.assertEqual([ring.replication_now(members, 3) for members in (1, 2, 3, 4)], [1, 2, 3, 3])
        self.assertEqual(ring.keyspaces_to_raise({"a": 1, "b": 3, "c": 2}, 3), ["a", "c"])
        self.assertEqual(ring.keyspaces_to_raise({"a": 3}, 2), [])

    def test_members_of_one_datacentre(self):
        rows = (Gossip("10.0.0.1", "NORMAL", "s", "nyc3"), Gossip("10.1.0.1", "NORMAL", "s", "fra1"), Gossip(OWN, "BOOT", "s", "nyc3"))
        self.assertEqual(ring.members_of(MemberView(rows), "nyc3"), ["10.0.0.1"])
        self.assertEqual(ring.members_of(MemberView(rows)), ["10.0.0.1", "10.1.0.1"])

    def test_seeds_are_claimed_in_order_and_one_a_host(self):
        names = ("seed-1", "seed-2")
        self.assertEqual(ring.seed_to_claim({}, OWN, names), "seed-1")
        self.assertEqual(ring.seed_to_claim({"seed-1": "10.0.0.1"}, OWN, names), "seed-2")
        self.assertIsNone(ring.seed_to_claim({"seed-1": OWN}, OWN, names))
        self.assertIsNone(ring.seed_to_claim({"seed-1": "10.0.0.1", "seed-2": "10.0.0.2"}, OWN, names))


if __name__ == "__main__":
    unittest.main()
