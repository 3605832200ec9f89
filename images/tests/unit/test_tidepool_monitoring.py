"""What a monitoring host does around Elasticsearch: settings, heap, which indices end; against a server that only remembers."""

import datetime
import http.server
import importlib.machinery
import importlib.util
import json
import pathlib
import threading
import unittest

PROGRAM = pathlib.Path(__file__).resolve().parents[2] / "roles" / "monitoring" / "files" / "tidepool-monitoring"
LOADER = importlib.machinery.SourceFileLoader("tidepool_monitoring", str(PROGRAM))
monitoring = importlib.util.module_from_spec(importlib.util.spec_from_loader("tidepool_monitoring", LOADER))
LOADER.exec_module(monitoring)
TODAY = datetime.date(2026, 3, 2)


class Settings(unittest.TestCase):
    def test_nothing_is_everything(self):
        self.assertEqual(monitoring.settings("{}"), monitoring.DEFAULTS)

    def test_every_problem_is_named(self):
        with self.assertRaises(monitoring.Refused) as caught:
            monitoring.settings('{"day": 3, "days": true, "heap": "2g", "indices": ["*"], "cluster": "a b"}')
        for word in ("day is unknown", "days is True", "heap is '2g'", "indices is ['*']", "cluster is 'a b'"):
            self.assertIn(word, str(caught.exception))

    def test_what_is_not_json(self):
        for text in ("", "[]", "days: 3"):
            with self.assertRaises(monitoring.Refused):
                monitoring.settings(text)

    def test_heap_by_memory(self):
        for memory, given, heap in ((256, "auto", 256), (2048, "auto", 1024), (262144, "auto", 31744), (1024, "300m", 300)):
            self.assertEqual(monitoring.heap_mebibytes(memory << 20, given), heap)

    def test_x_pack_settings_only_where_there_is_x_pack(self):
        host = {"HOST_NAME": "monitoring-1", "HOST_PRIVATE_IP": "10.0.0.7"}
        text = monitoring.elasticsearch_yml(monitoring.DEFAULTS, host, False)
        self.assertIn('network.host: ["127.0.0.1", "10.0.0.7"]', text)
        self.assertNotIn("xpack", text)
        self.assertIn("xpack.security.enabled", monitoring.elasticsearch_yml(monitoring.DEFAULTS, host, True))


class Age(unittest.TestCase):
    def test_only_what_is_dated_and_older_ends(self):
        names = ["metricbeat-7.17.27-2026.02.22", "metricbeat-7.17.27-2026.02.23", "metricbeat-2026.01.31", "metricbeat-2026.03.02"]
        names += ["metricbeat-2026.02.31", "metricbeat-kept", "metricbeat-2026.01", "metricbeat-2030.01.01"]
        self.assertEqual(monitoring.too_old(names, 7, TODAY), ["metricbeat-2026.01.31", "metricbeat-7.17.27-2026.02.22"])


class Server(http.server.ThreadingHTTPServer):
    """Remembers requests; knows policies or not."""

    def __init__(self, policies, indices=()):
        self.policies, self.indices, self.asked = policies, indices, []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.asked.append((self.command, self.path, body))
        found = self.server.policies or not self.path.startswith("/_ilm")
        text = json.dumps({name: {} for name in self.server.indices} if "/_alias" in self.path else {}).encode()
        self.send_response(200 if found else 400)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_PUT = do_DELETE = answer

    def log_message(self, *_):
        pass


class Talking(unittest.TestCase):
    def server(self, policies, indices=()):
        server = Server(policies, indices)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server, monitoring.Elasticsearch(f"http://127.0.0.1:{server.server_address[1]}")

    def template(self):
        return json.loads((PROGRAM.parent / "metricbeat-template.json").read_text())

    def test_without_policies_old_indices_are_deleted_by_name(self):
        server, client = self.server(False, ["metricbeat-2026.01.01", "metricbeat-2026.03.01"])
        self.assertEqual(monitoring.retain(client, monitoring.DEFAULTS, TODAY), ["metricbeat-2026.01.01"])
        self.assertEqual([(method, path) for method, path, _ in server.asked if method == "DELETE"], [("DELETE", "/metricbeat-2026.01.01")])

    def test_with_policies_nothing_is_deleted_here(self):
        server, client = self.server(True, ["metricbeat-2026.01.01"])
        self.assertEqual(monitoring.retain(client, monitoring.DEFAULTS, TODAY), [])
        self.assertNotIn("DELETE", [method for method, _, _ in server.asked])

    def test_the_policy_comes_before_the_template_that_names_it(self):
        server, client = self.server(True)
        monitoring.prepare(client, monitoring.DEFAULTS, self.template())
        puts = [(path, body) for method, path, body in server.asked if method == "PUT"]
        self.assertEqual([path for path, _ in puts], ["/_ilm/policy/tidepool-metricbeat", "/_index_template/metricbeat"])
        self.assertEqual(puts[0][1]["policy"]["phases"]["delete"]["min_age"], "7d")
        self.assertEqual(puts[1][1]["template"]["settings"]["index.lifecycle.name"], "tidepool-metricbeat")

    def test_without_policies_the_template_names_none(self):
        server, client = self.server(False)
        monitoring.prepare(client, monitoring.DEFAULTS, self.template())
        body = server.asked[-1][2]
        self.assertNotIn("index.lifecycle.name", body["template"]["settings"])
        self.assertEqual(body["index_patterns"], ["metricbeat-*"])

    def test_a_server_that_never_answers_is_waited_for_within_a_bound(self):
        client = monitoring.Elasticsearch("http://127.0.0.1:1")
        times = iter(range(0, 1000, 100))
        with self.assertRaisesRegex(monitoring.Refused, "not ready after 300 s"):
            client.wait(300, clock=lambda: next(times), sleep=lambda _: None)


if __name__ == "__main__":
    unittest.main()
