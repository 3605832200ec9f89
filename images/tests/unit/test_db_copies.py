"""Data that another machine had: taken over once nothing is heard of that one, and left alone while it runs."""

import unittest

import db_context  # noqa: F401
from tidepool_db import copies, identity
from tidepool_db.ring import GO, REFUSE, WAIT, Gossip, MemberView, Peer

MACHINE, FORMER = "digitalocean 2", "digitalocean 1"


def data(**changes):
    """Of a member of three, which ran on another machine."""
    values = {"joined": True, "started_on": "10.0.0.3", "machine": FORMER, "host_id": "host-3", "members": 3, **changes}
    return identity.Identity(cluster="tidepool", datacenter="nyc3", rack="rack1", id="own", **values)


def twin(state, moved=False):
    return Peer("10.0.0.3", "own", "db-3", state, moved)


def seen(heartbeat, generation=170, host_id="host-3", address="10.0.0.3"):
    """What db-1 has heard of that member, and of itself."""
    rows = (Gossip("10.0.0.1", "NORMAL,1", host_id="host-1", generation=170, heartbeat=heartbeat * 7),)
    return {"10.0.0.1": MemberView((*rows, Gossip(address, "NORMAL,3", host_id=host_id, generation=generation, heartbeat=heartbeat)))}


class Copies(unittest.TestCase):
    def test_one_whose_twin_answers_stays_out_and_says_of_what_it_is_a_copy(self):
        for state in copies.RUNNING:
            decision = copies.Watch(MACHINE).decide(data(), [twin(state)], seen(1), 0.0)
            self.assertEqual(decision.what, REFUSE, state)
            self.assertIn("a copy of what db-3 at 10.0.0.3 uses", decision.reason)
            self.assertIn("tidepool-db adopt", decision.reason)

    def test_one_of_whose_twin_members_hear_stays_out(self):
        watch, kept = copies.Watch(MACHINE), data()
        answers = [watch.decide(kept, [], seen(beat), float(beat)).what for beat in (1, 2, 3)]
        self.assertEqual(answers, [WAIT, WAIT, REFUSE])

    def test_before_a_host_was_a_member_it_is_known_by_its_address(self):
        watch, kept = copies.Watch(MACHINE), data(joined=False, host_id=None)
        answers = [watch.decide(kept, [], seen(beat, host_id="host-9"), float(beat)).what for beat in (1, 2, 3)]
        self.assertEqual(answers, [WAIT, WAIT, REFUSE])

    def test_another_host_at_the_former_address_is_not_the_twin(self):
        watch, kept = copies.Watch(MACHINE), data()
        answers = [watch.decide(kept, [], seen(beat, host_id="host-9"), float(beat)).what for beat in (1, 2, 3, 61)]
        self.assertEqual(answers, [WAIT, WAIT, WAIT, GO])

    def test_a_known_copy_stays_one_while_its_twin_is_away(self):
        self.assertEqual(copies.Watch(MACHINE).decide(data(copy_on=MACHINE), [], seen(1), 999.0).what, REFUSE)

    def test_two_copies_wait_for_a_person(self):
        decision = copies.Watch(MACHINE).decide(data(), [twin("returning", moved=True)], seen(1), 0.0)
        self.assertEqual(decision.what, WAIT)
        self.assertIn("db-3 at 10.0.0.3 has a copy of the same data", decision.reason)

    def test_one_that_finds_its_data_in_use_elsewhere_after_its_own_boot_stays_out(self):
        self.assertEqual(copies.Watch(FORMER).decide(data(), [twin("member")], {}, 0.0).what, REFUSE)
        self.assertEqual(copies.Watch(FORMER).decide(data(), [twin("refused")], {}, 0.0).what, GO)
        self.assertEqual(copies.Watch(FORMER).decide(data(), [], {}, 0.0).what, GO)


class Volumes(unittest.TestCase):
    def test_one_that_moved_is_taken_over_after_a_while_without_news(self):
        watch, kept = copies.Watch(MACHINE), data()
        answers = [(now, watch.decide(kept, [], seen(5), now).what) for now in (100.0, 159.0, 160.0)]
        self.assertEqual(answers, [(100.0, WAIT), (159.0, WAIT), (160.0, GO)])

    def test_a_member_that_is_just_starting_again_is_not_gone(self):
        watch, kept = copies.Watch(MACHINE), data()
        looks = [(0.0, seen(5)), (50.0, seen(1, generation=171)), (70.0, seen(1, generation=171)), (72.0, seen(2, generation=171))]
        self.assertEqual([watch.decide(kept, [], views, now).what for now, views in looks], [WAIT, WAIT, WAIT, REFUSE])

    def test_old_news_that_come_late_only_make_it_wait_longer(self):
        watch, kept = copies.Watch(MACHINE), data()
        looks = [(0.0, seen(5)), (50.0, seen(9)), (70.0, seen(9)), (110.0, seen(9))]
        self.assertEqual([watch.decide(kept, [], views, now).what for now, views in looks], [WAIT, WAIT, WAIT, GO])

    def test_without_a_member_to_ask_it_waits_for_a_person(self):
        watch, kept = copies.Watch(MACHINE), data()
        self.assertEqual([watch.decide(kept, [], {}, now).what for now in (0.0, 600.0)], [WAIT, WAIT])
        decision = watch.decide(kept, [], {}, 601.0)
        self.assertIn(FORMER, decision.reason)
        self.assertIn("tidepool-db adopt", decision.reason)
        # From the first answer on it listens, not from the first question.
        self.assertEqual([watch.decide(kept, [], seen(5), now).what for now in (610.0, 669.0, 670.0)], [WAIT, WAIT, GO])

    def test_of_a_ring_of_one_there_is_nobody_to_ask(self):
        for kept in (data(members=1), data(joined=False, founds=True, members=0)):
            watch = copies.Watch(MACHINE)
            self.assertEqual([watch.decide(kept, [], {}, now).what for now in (0.0, 59.0, 60.0)], [WAIT, WAIT, GO])


if __name__ == "__main__":
    unittest.main()
