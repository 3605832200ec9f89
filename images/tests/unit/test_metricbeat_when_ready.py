"""metricbeat-when-ready with the real curl, an Elasticsearch of the test's own, and a Metricbeat that writes down its variables."""

import base64
import http.server
import json
import os
import pathlib
import re
import subprocess
import threading

import pytest

PROGRAM = pathlib.Path(__file__).parents[2] / "roles/metricbeat/files/metricbeat-when-ready"
FAKE = """#!/usr/bin/env python3
import json, os, sys
print(json.dumps([sys.argv[1:], dict(os.environ)]))
"""
VALUES = ["plain", "abc,123", "0123456", "'q", "[x", 'a"b\\c', "ends\\", '\\"', "on", "1e3", "{a: b}", " spaced ", "$HOME ${HOME} `id` $(id)", "ä", "#x", "null"]


@pytest.fixture
def elasticsearch():
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            seen.append((self.path, self.headers["Authorization"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(tmp_path, elasticsearch):
    fake = tmp_path / "metricbeat"
    fake.write_text(FAKE)
    fake.chmod(0o755)

    def start(**more):
        variables = {"PATH": os.environ["PATH"], "METRICBEAT": str(fake), "INDEX_TEMPLATE": "metricbeat", "ELASTICSEARCH_URL": elasticsearch[0] + "/"}
        done = subprocess.run([PROGRAM, "--flag", "two words"], env=variables | more, capture_output=True, text=True, timeout=60, check=True)
        arguments, found = json.loads(done.stdout)
        assert arguments == ["run", "--flag", "two words"]
        return found

    return start


def unquoted(value):
    """As Metricbeat reads it (go-ucfg's parseStringDQuote, then Go's strconv.Unquote): no quote or backslash but in an escape by number."""
    assert re.fullmatch(r'"([^"\\\n]|\\x[0-9a-f]{2})*"', value), value
    return re.sub(r"\\x(..)", lambda found: chr(int(found[1], 16)), value[1:-1])


@pytest.mark.parametrize("value", VALUES)
def test_a_password_reaches_both_as_it_is(run, elasticsearch, value):
    found = run(ELASTICSEARCH_USERNAME="u", ELASTICSEARCH_PASSWORD=value)
    assert unquoted(found["ELASTICSEARCH_PASSWORD"]) == value
    path, authorization = elasticsearch[1][-1]
    assert path == "/_index_template/metricbeat"
    assert base64.b64decode(authorization.removeprefix("Basic ")).decode() == f"u:{value}"


@pytest.mark.parametrize("name", ["007", "1e3", "0x10", "on", "t", "inf", "web-1"])
def test_a_name_stays_a_name(run, name):
    found = run(HOST_NAME=name, HOST_ID=name, HOST_PROVIDER="digitalocean", HOST_REGION="")
    assert [unquoted(found[key]) for key in ("HOST_NAME", "HOST_ID", "HOST_PROVIDER")] == [name, name, "digitalocean"]


def test_what_is_not_given_stays_empty(run):
    found = run()
    assert (found["ELASTICSEARCH_USERNAME"], found["ELASTICSEARCH_PASSWORD"], found["ELASTICSEARCH_CA"], found["HOST_REGION"]) == ("", "", "", "")
