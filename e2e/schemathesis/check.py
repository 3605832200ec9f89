"""Schemathesis against the running API on SQLite: once open, without any key, and once with a key.

What counts as a test: each of its runs, each operation that has to reach a 2xx, and, of the server with keys, each operation that has
to refuse a request without one.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

import servers

HERE = pathlib.Path(__file__).resolve().parent
SCENARIOS_MIN = 200
# Schemathesis ends its sequences early when a replay meets other data than before, which a database is for: more runs
# begin anew, each for so many seconds, until there were enough sequences. About 10 a second here, 3 on a busy machine.
STATEFUL_SECS = 30
STATEFUL_RUNS_MAX = 4
RUN_SECS_MAX = 400


def call(url, method="GET", headers=None, body=None):
    """The status and the bytes of an answer, whatever the status."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def operations(document):
    """(method, path template) of every operation."""
    for template, methods in document["paths"].items():
        for method in methods:
            if method in ("get", "head", "put", "post", "patch", "delete", "options"):
                yield method.upper(), template


def succeeded(har):
    """(method, path) of every request in a recording that was answered with a 2xx."""
    for entry in json.loads(har.read_text())["log"]["entries"]:
        if 200 <= entry["response"]["status"] < 300:
            yield entry["request"]["method"], re.sub(r"^https?://[^/]+|[?#].*$", "", entry["request"]["url"])


def fill(address, headers):
    """A little to begin with: sequences start at what a list shows."""
    for collection in ("notes", "users"):
        url = f"{address}/v1/collections/{collection}"
        assert call(url, "PUT", headers, {})[0] == 201
        for number in range(3):
            assert call(f"{url}/documents/d{number}", "PUT", headers, {"data": {"number": number}})[0] == 201


class Run:
    """One server, open or with a key, and what was found out about it."""

    def __init__(self, title, address, headers, folder):
        self.title, self.address, self.headers = title, address, headers
        self.folder = pathlib.Path(folder)
        self.har = self.folder / "requests.har"
        self.document = json.loads(call(f"{address}/openapi.json")[1])
        self.passed = self.failed = self.scenarios = 0
        self.reached = set()

    def expect(self, holds, otherwise):
        if holds:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED, {self.title}: {otherwise}", flush=True)

    def attack(self, *options):
        program = pathlib.Path(sys.executable).parent / "schemathesis"
        command = [program, f"--config-file={HERE / 'schemathesis.toml'}", "--no-color", "run"]
        command += [f"{self.address}/openapi.json", "--checks=all", "--continue-on-failure", *options]
        command += ["--report=har", f"--report-har-path={self.har}"]
        for name, value in self.headers.items():
            command += ["--header", f"{name}: {value}"]
        title = f"===== {self.title} {' '.join(options)}"
        self.har.unlink(missing_ok=True)
        try:
            done = subprocess.run(
                command,
                timeout=RUN_SECS_MAX,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=self.folder,  # it keeps notes where it runs
            )
        except subprocess.TimeoutExpired as error:
            print(f"{title}\n{(error.stdout or b'').decode()}")
            self.expect(False, f"Schemathesis did not end within {RUN_SECS_MAX} s")
            return
        print(f"{title}\n{done.stdout}", flush=True)
        self.expect(done.returncode == 0, "Schemathesis found failures, see above")
        self.scenarios += sum(int(count) for count in re.findall(r"Scenarios:\s+(\d+)", done.stdout))
        self.reached |= set(succeeded(self.har))

    def check_reached(self):
        for method, template in operations(self.document):
            pattern = re.compile(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(template)))
            hit = any(verb == method and pattern.fullmatch(path) for verb, path in self.reached)
            self.expect(hit, f"no request brought {method} {template} to a 2xx")
        self.expect(self.scenarios >= SCENARIOS_MIN, f"only {self.scenarios} sequences of {SCENARIOS_MIN}")

    def check_refused(self):
        for method, template in operations(self.document):
            url = self.address + re.sub(r"\{[^}]*\}", "notes", template)
            for headers in ({}, {"Authorization": "Bearer tp_" + "x" * 32}):
                status, _ = call(url, method, headers)
                self.expect(status == 401, f"{method} {template} with {headers or 'no key'} answers {status}")


def examine(kind):
    """Both of Schemathesis' runs, and ours, against one server."""
    with tempfile.TemporaryDirectory(prefix="tidepool-schemathesis-") as folder:
        headers = {}
        if kind == "key":
            key = servers.create_key(f"sqlite:{folder}/tidepool.db", "schemathesis", "admin:*")
            headers["Authorization"] = f"Bearer {key}"
        with servers.api(folder) as api:
            run = Run(f"server '{kind}'", api.url, headers, folder)
            fill(api.url, headers)
            run.attack()
            for number in range(STATEFUL_RUNS_MAX):
                if run.scenarios < SCENARIOS_MIN:
                    run.attack("--phases=stateful", f"--max-time={STATEFUL_SECS}", f"--seed={number}")
            run.check_reached()
            if headers:
                run.check_refused()
            return run


def main():
    kinds = os.environ.get("SCHEMATHESIS_RUNS", "open,key").split(",")
    with concurrent.futures.ThreadPoolExecutor() as threads:
        runs = list(threads.map(examine, kinds))
    failed = sum(run.failed for run in runs)
    print(f"{sum(run.passed for run in runs)} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


sys.exit(main())
