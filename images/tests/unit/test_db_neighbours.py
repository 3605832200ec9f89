"""Hosts that look for each other, over real TLS on this machine, and the votes that they keep on the disk."""

import pathlib
import socket
import ssl
import tempfile
import unittest

import db_context
from tidepool_db import daemon, identity, neighbours


class Candidates(unittest.TestCase):
    def test_the_nearest_first_and_never_oneself(self):
        found = neighbours.candidates(("auto",), "10.0.0.5", "10.0.0.0/28")
        self.assertEqual(found[:4], ["10.0.0.4", "10.0.0.6", "10.0.0.3", "10.0.0.7"])
        self.assertEqual(len(found), 13)

    def test_names_addresses_and_ranges(self):
        found = neighbours.candidates(("localhost", "10.0.0.9", "10.0.0.8/30"), "10.0.0.10", "10.0.0.0/8")
        self.assertEqual(found, ["127.0.0.1", "10.0.0.9"])
        self.assertEqual(neighbours.candidates(("no-such-host.invalid",), "10.0.0.10", "10.0.0.0/8"), [])


class Answers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.files = db_context.certificates(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def host(self, name):
        """A fresh host, its file, and the port it answers on."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        file = identity.IdentityFile(str(pathlib.Path(folder.name, "identity.json")))
        file.save(identity.agree(None, {"cluster": "tidepool", "datacenter": "nyc3", "rack": "rack1"}))
        host = daemon.Host({"host": name, "address": "127.0.0.1", "machine": f"machine of {name}"}, file.load(), file)
        return host, file, self.serve(host.answer, self.files)

    def serve(self, answer, files):
        """The port where `answer` is asked, over TLS with these files."""
        server = neighbours.Server("127.0.0.1", neighbours.server_context(*files), answer, port=0)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        server.start()
        return server.server_address[1]

    def ask(self, port, **question):
        return neighbours.ask("127.0.0.1", neighbours.client_context(*self.files), question, port)

    def test_a_state_and_a_vote_that_outlives_the_program(self):
        host, file, port = self.host("db-2")
        self.assertEqual(self.ask(port, ask="state")["host"], "db-2")
        self.assertEqual(self.ask(port, ask="vote", founder="a", cluster="tidepool"), {"granted": True, "reason": ""})
        again = daemon.Host(host.facts, file.load(), file)
        self.assertFalse(again.answer({"ask": "vote", "founder": "b", "cluster": "tidepool"})["granted"])
        self.assertTrue(again.answer({"ask": "vote", "founder": "a", "cluster": "tidepool"})["granted"])

    def test_another_cluster_gets_no_vote(self):
        _, file, port = self.host("db-2")
        self.assertFalse(self.ask(port, ask="vote", founder="a", cluster="other")["granted"])
        self.assertIsNone(file.load().vote)

    def test_without_a_certificate_of_the_cluster_nobody_is_answered(self):
        _, _, port = self.host("db-2")
        stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
        with self.assertRaisesRegex(neighbours.TlsFailed, "it refuses this host: certificate required"):
            neighbours.ask("127.0.0.1", stranger, {"ask": "state"}, port)

    def test_why_two_refuse_each_other_reaches_both(self):
        for changes, of_this_host, of_the_other in (
            ({"valid": ("20200101000000Z", "20210101000000Z")}, "certificate expired", "certificate has expired"),
            ({"valid": ("20980101000000Z", "20990101000000Z")}, "bad certificate", "certificate is not yet valid"),
            ({"extensions": "extendedKeyUsage = clientAuth\n"}, None, "unsuitable certificate purpose"),
            ({"extensions": "extendedKeyUsage = serverAuth\n"}, "unsupported certificate", None),
        ):
            with self.subTest(changes=changes), tempfile.TemporaryDirectory() as folder:
                # Of a CA that both trust.
                files = db_context.certificates(folder, **changes)
                trusting = self.trusting_also(folder, files[0])
                if of_this_host:
                    context = neighbours.client_context(self.files[0], *files[1:])
                    context.load_verify_locations(files[0])
                    failures = neighbours.ask_all(["127.0.0.1"], context, {}, self.serve(dict, (trusting, *self.files[1:])))[1]
                    self.assertEqual(failures, {"127.0.0.1": f"it refuses this host: {of_this_host}"})
                if of_the_other:
                    context = neighbours.client_context(trusting, *self.files[1:])
                    port = self.serve(dict, (self.files[0], *files[1:]))
                    failures = neighbours.ask_all(["127.0.0.1"], context, {}, port)[1]
                    self.assertEqual(failures, {"127.0.0.1": f"its certificate is refused here: {of_the_other}"})

    def trusting_also(self, folder, ca):
        """A file with that CA and ours."""
        path = pathlib.Path(folder, "both.pem")
        path.write_text(pathlib.Path(ca).read_text(encoding="ascii") + pathlib.Path(self.files[0]).read_text(encoding="ascii"), encoding="ascii")
        return str(path)

    def test_hosts_of_two_authorities_say_so(self):
        _, _, port = self.host("db-2")
        with tempfile.TemporaryDirectory() as folder:
            other = neighbours.client_context(*db_context.certificates(folder))
            answers, failures = neighbours.ask_all(["127.0.0.1"], other, {"ask": "state"}, port)
        self.assertEqual(answers, {})
        self.assertIn("its certificate is refused here: ", failures["127.0.0.1"])

    def test_nonsense_and_silence_are_no_answer_and_harm_nobody(self):
        _, _, port = self.host("db-2")
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(self.ask(port, ask="state")["host"], "db-2")
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            self.assertIsNone(self.ask(closed.getsockname()[1], ask="state"))

    def test_three_hosts_made_at_once_have_one_founder(self):
        hosts = [self.host(f"db-{number}") for number in (1, 2, 3)]
        for founder in (hosts[0], hosts[1]):
            votes = [self.ask(port, ask="vote", founder=founder[0].identity.id, cluster="tidepool") for _, _, port in hosts]
            granted = sum(vote["granted"] for vote in votes)
            self.assertEqual(granted, 3 if founder is hosts[0] else 0)


if __name__ == "__main__":
    unittest.main()
