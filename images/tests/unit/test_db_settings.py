"""What user data may say, and what is refused with every problem named."""

import datetime
import tempfile
import types
import unittest

import db_context
from db_context import SETTINGS
from tidepool_db import configure, identity, render, settings

HOST = {
    "HOST_PROVIDER": "digitalocean",
    "HOST_ID": "10000001",
    "HOST_NAME": "db-1",
    "HOST_REGION": "nyc3",
    "HOST_PRIVATE_IP": "10.132.0.2",
    "HOST_PRIVATE_NETMASK": "255.255.240.0",
}


class Settings(unittest.TestCase):
    def problems(self, text):
        with self.assertRaises(settings.Invalid) as caught:
            settings.parse(text)
        return caught.exception.problems

    def test_the_shortest_file(self):
        given = settings.parse(SETTINGS)
        self.assertEqual((given.hosts_at_first, given.replication, given.peers), (3, 3, ("auto",)))
        self.assertIsNone(given.reader)
        self.assertNotIn("horse", repr(given))

    def test_every_problem_is_named_at_once(self):
        text = SETTINGS.replace("founder = db-1", "hosts_at_first = 0\nsize = 3").replace("correct horse battery", "short")
        self.assertEqual(
            self.problems(text + "[reader]\nkeyspaces = Big\n[extra]\n"),
            [
                "cluster.size is unknown",
                "[extra] is unknown; the sections are " + ", ".join(settings.KNOWN),
                "cluster.founder is missing",
                "cluster.hosts_at_first is '0'; it must be a number from 1 to 9",
                "superuser.password has 5 bytes; it must have 12 to 72",
                "reader.keyspaces: 'Big' must match [a-z][a-z0-9_]{0,47}",
                "reader.keyspaces is given, and reader.name is not",
            ],
        )

    def test_what_is_not_even_ini(self):
        self.assertIn("no section headers", self.problems("name = tidepool")[0])

    def test_the_default_superuser_is_no_name_for_ours(self):
        self.assertIn("dropped", self.problems(SETTINGS.replace("keeper", "cassandra"))[0])

    def test_one_role_for_two_purposes_is_refused(self):
        logins = "[application]\nname = {}\npassword = correct horse battery\n[reader]\nname = {}\npassword = correct horse battery\n"
        for application, reader, wrong in (
            ("app", "keeper", "reader.name is 'keeper', and so is superuser.name"),
            ("keeper", "reader", "application.name is 'keeper', and so is superuser.name"),
            ("app", "app", "reader.name is 'app', and so is application.name"),
        ):
            problems = self.problems(SETTINGS + logins.format(application, reader))
            self.assertEqual(problems, [f"{wrong}: each needs a role of its own"])
        settings.parse(SETTINGS + logins.format("view", "token"))

    def test_a_datacentre_has_a_name_beside_the_options_of_replication(self):
        for name in ("class", "replication_factor"):
            text = SETTINGS.replace("founder = db-1", f"founder = db-1\ndatacenter = {name}")
            self.assertIn("an option of a keyspace's replication", self.problems(text)[0])

    def test_peers(self):
        for peers, wrong in (("10.0.0.0/8", "more than 4094"), ("10.0.0.0/33", "not an IPv4 range"), ("auto, db-2", "must be auto")):
            self.assertIn(wrong, self.problems(SETTINGS.replace("founder = db-1", f"founder = db-1\npeers = {peers}"))[0])

    def test_a_percent_sign_in_a_password_is_one(self):
        self.assertEqual(settings.parse(SETTINGS.replace("correct horse", "100%(x)s")).superuser.password, "100%(x)s battery")


class Facts(unittest.TestCase):
    def test_datacentre_and_rack_of_each_provider(self):
        given = settings.parse(SETTINGS)
        facts = configure.facts_of(given, HOST)
        self.assertEqual((facts.datacenter, facts.rack, facts.network), ("nyc3", "rack1", "10.132.0.0/20"))
        self.assertEqual(facts.machine, "digitalocean 10000001")
        google = {**HOST, "HOST_PROVIDER": "google", "HOST_REGION": "europe-west3-a"}
        facts = configure.facts_of(given, google)
        self.assertEqual((facts.datacenter, facts.rack), ("europe-west3", "europe-west3-a"))

    def test_a_host_without_a_private_address_is_refused(self):
        with self.assertRaisesRegex(configure.Refused, "private address"):
            configure.facts_of(settings.parse(SETTINGS), {**HOST, "HOST_PRIVATE_IP": "", "HOST_PRIVATE_NETMASK": ""})

    def test_a_network_too_large_to_search_is_refused(self):
        with self.assertRaisesRegex(configure.Refused, "name them in cluster.peers"):
            configure.facts_of(settings.parse(SETTINGS), {**HOST, "HOST_PRIVATE_NETMASK": "255.255.0.0"})


class Certificates(unittest.TestCase):
    def given(self, folder, **more):
        ca, certificate, key = db_context.certificates(folder, **more)
        return types.SimpleNamespace(ca=ca, certificate=certificate, key=key)

    def refused(self, **changes):
        """Why these files are, whose certificate is made with `changes`."""
        with tempfile.TemporaryDirectory() as folder, self.assertRaises(configure.Refused) as caught:
            configure.check_tls(self.given(folder, **changes))
        return str(caught.exception).replace(folder, "")

    def test_one_for_servers_or_clients_alone_is_refused(self):
        # Of public CAs, no certificate is for clients any more.
        self.assertIn("/node.pem is not for clientAuth", self.refused(extensions="extendedKeyUsage = serverAuth\n"))
        self.assertIn("/node.pem is not for serverAuth", self.refused(extensions="extendedKeyUsage = clientAuth\n"))
        self.assertIn("/node.pem is not for", self.refused(extensions="extendedKeyUsage = codeSigning\n"))

    def test_one_that_names_no_use_is_for_all(self):
        with tempfile.TemporaryDirectory() as folder:
            configure.check_tls(self.given(folder, extensions="subjectAltName = DNS:db\n"))

    def test_one_that_is_out_of_date_is_refused_with_both_times(self):
        reason = self.refused(valid=("20200101000000Z", "20210203040500Z"))
        self.assertRegex(reason, r"/node.pem has expired: it was valid until 2021-02-03 04:05 UTC, and this host's clock says 2\d{3}-")
        # Years from 2050 on are written with four digits.
        reason = self.refused(valid=("20980101000000Z", "20990101000000Z"))
        self.assertRegex(reason, r"/node.pem is not valid before 2098-01-01 00:00 UTC, and this host's clock says 2\d{3}-")

    def test_one_that_was_made_a_moment_ago_by_a_clock_that_is_ahead_is_taken(self):
        now = datetime.datetime.now(datetime.timezone.utc)
        begins, ends = (f"{now + datetime.timedelta(**more):%Y%m%d%H%M%SZ}" for more in ({"minutes": 5}, {"days": 1}))
        with tempfile.TemporaryDirectory() as folder:
            configure.check_tls(self.given(folder, valid=(begins, ends)))

    def test_a_certificate_a_key_and_a_ca_of_different_sets_are_refused(self):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            given, other = self.given(one), self.given(two)
            for changed, wrong in (
                ({"ca": other.ca}, "node.pem is not signed by the CA in .*ca.pem"),
                ({"key": other.key}, "node.key is not the key of .*node.pem"),
                ({"ca": given.key}, "tls.ca: .*node.key holds no certificate"),
                # What a CA is asked with is not what it answers with.
                ({"certificate": f"{one}/node.csr"}, "tls.certificate: .*node.csr holds no certificate"),
                # The CA's own serves nobody.
                ({"certificate": given.certificate, "ca": given.certificate}, "not signed by the CA"),
            ):
                mixed = types.SimpleNamespace(**{**vars(given), **changed})
                with self.subTest(changed=changed), self.assertRaisesRegex(configure.Refused, wrong):
                    configure.check_tls(mixed)

    def test_a_certificate_that_clients_of_ours_refuse_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaisesRegex(configure.Refused, "version 1.*-extfile"):
                configure.check_tls(self.given(folder, extensions=""))

    def test_what_cassandra_is_given(self):
        with tempfile.TemporaryDirectory() as folder:
            given = self.given(folder)
            node, ca = configure.check_tls(given)
            self.assertEqual((node.count("BEGIN CERTIFICATE"), node.count("BEGIN PRIVATE KEY"), ca.count("BEGIN")), (1, 1, 1))


class Kept(unittest.TestCase):
    def test_a_new_volume_gets_an_identity(self):
        made = identity.agree(None, {"cluster": "a", "datacenter": "b", "rack": "c"})
        self.assertTrue(made.fresh)
        self.assertEqual(len(made.id), 36)

    def test_what_has_not_run_yet_is_another_host_on_another_machine(self):
        made = identity.agree(None, {"cluster": "a", "datacenter": "b", "rack": "c"})
        first = identity.bound(made, "digitalocean 1")
        self.assertEqual((first.id, first.machine), (made.id, "digitalocean 1"))
        first.vote = "founder"
        self.assertIs(identity.bound(first, "digitalocean 1"), first)
        copy = identity.bound(first, "digitalocean 2")
        self.assertNotEqual(copy.id, first.id)
        self.assertEqual((copy.vote, copy.machine), ("founder", "digitalocean 2"))

    def test_what_has_run_stays_bound_to_its_machine(self):
        made = identity.agree(None, {"cluster": "a", "datacenter": "b", "rack": "c"})
        made.machine, made.started_on = "digitalocean 1", "10.0.0.4"
        self.assertIs(identity.bound(made, "digitalocean 2"), made)
        self.assertTrue(made.moved_to("digitalocean 2"))
        self.assertFalse(made.moved_to("digitalocean 1"))

    def test_a_changed_value_is_refused(self):
        kept = identity.agree(None, {"cluster": "a", "datacenter": "b", "rack": "c"})
        self.assertIs(identity.agree(kept, {"cluster": "a", "datacenter": "b", "rack": "c"}), kept)
        with self.assertRaises(identity.Changed) as caught:
            identity.agree(kept, {"cluster": "a", "datacenter": "x", "rack": "y"})
        self.assertIn("the datacenter of this data is 'b', and the host is now given 'x'", str(caught.exception))
        self.assertIn("the rack of this data is 'c'", str(caught.exception))


class Rendering(unittest.TestCase):
    def test_the_first_start_is_for_this_host_alone(self):
        given = settings.parse(SETTINGS)
        self.assertIn("\nrpc_address: 127.0.0.1\n", render.yaml(given, "10.0.0.4", False))
        self.assertIn("\nrpc_address: 10.0.0.4\n", render.yaml(given, "10.0.0.4", True))

    def test_nothing_goes_in_plain_text(self):
        text = render.yaml(settings.parse(SETTINGS), "10.0.0.4", True)
        for line in ("  internode_encryption: all", "  optional: false", "authenticator: PasswordAuthenticator", "commitlog_sync: batch"):
            self.assertIn(f"\n{line}\n", text)
        self.assertEqual(text.count("PEMBasedSslContextFactory"), 2)
        self.assertNotIn("horse", text)

    def test_a_joining_host_is_told_for_how_many_copies_it_chooses_its_tokens(self):
        text = render.yaml(settings.parse(SETTINGS), "10.0.0.4", True)
        self.assertEqual(render.spread_for(text, 3), text)
        changed = set(render.spread_for(text, "2").splitlines()) ^ set(text.splitlines())
        self.assertEqual({line.split(": ")[0] for line in changed}, {"allocate_tokens_for_local_replication_factor"})
        self.assertIn("allocate_tokens_for_local_replication_factor: 2", changed)

    def test_only_published_seeds_have_names(self):
        self.assertEqual(
            render.hosts({"seed-1": "10.0.0.1", "other": "10.0.0.9"}, "10.0.0.4", "db-4"),
            "127.0.0.1 localhost\n10.0.0.4 db-4\n10.0.0.1 seed-1\n",
        )

    def test_heap_by_memory(self):
        gibibyte = 1 << 30
        for memory, given, heap in ((gibibyte // 2, "auto", 256), (4 * gibibyte, "auto", 1024), (256 * gibibyte, "auto", 8192), (gibibyte, "400m", 400)):
            self.assertEqual(render.heap_mebibytes(memory, given), heap)
        options = render.java_options(settings.parse(SETTINGS), 16 * gibibyte)
        self.assertIn("-Xmx4096m\n", options)
        self.assertIn("-XX:+UseG1GC\n", options)


if __name__ == "__main__":
    unittest.main()
