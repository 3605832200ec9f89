"""What the daemon remembers between two looks around."""

import types
import unittest

import db_context
from tidepool_db import daemon, identity, settings
from tidepool_db.ring import GO, REFUSE, WAIT, Gossip, MemberView

OWN = "10.0.0.4"


def ring_with(own_status):
    rows = [("10.0.0.1", "NORMAL,-1"), (OWN, own_status)]
    return {"10.0.0.1": MemberView(tuple(Gossip(address, status, "s", "nyc3") for address, status in rows if status))}


class FreedAddresses(unittest.TestCase):
    """Members take no notice of an address for twice the ring delay after its member was removed."""

    def daemon(self, started_on=None):
        kept = identity.Identity(cluster="tidepool", datacenter="nyc3", rack="rack1", id="own", started_on=started_on)
        facts = {"host": "db-4", "address": OWN, "network": "10.0.0.0/29"}
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


if __name__ == "__main__":
    unittest.main()
