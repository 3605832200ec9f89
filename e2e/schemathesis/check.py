"""Schemathesis against the running API on SQLite: once open, without any key, and once with a key.

Each run counts as one test, and so does each operation that has to reach a 2xx in it.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.request

import servers

HERE = pathlib.Path(__file__).resolve().parent
RUN_SECS_MAX = 400


def operations(document):
    """(method, path template, pattern) of every operation."""
    for template, methods in document["paths"].items():
        base = document.get("servers", [{"url": ""}])[0]["url"]
        path = re.sub(r"^https?://[^/]+", "", base).rstrip("/") + template
        pattern = re.compile(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(path)))
        for method in methods:
            if method in ("get", "head", "put", "post", "patch", "delete", "options"):
                yield method.upper(), path, pattern


def reached(document, har):
    """The operations of `document` that some request in the recording brought to a 2xx."""
    entries = json.loads(har.read_text())["log"]["entries"]
    succeeded = set()
    for entry in entries:
        if 200 <= entry["response"]["status"] < 300:
            path = re.sub(r"^https?://[^/]+|[?#].*$", "", entry["request"]["url"])
            succeeded.add((entry["request"]["method"], path))
    for method, template, pattern in operations(document):
        if any(verb == method and pattern.fullmatch(path) for verb, path in succeeded):
            yield method, template


def attack(title, address, headers, folder):
    """One run; returns how many tests passed and how many failed."""
    with urllib.request.urlopen(f"{address}/openapi.json", timeout=10) as answer:
        document = json.load(answer)
    har = pathlib.Path(folder) / "requests.har"
    command = [
        pathlib.Path(sys.executable).parent / "schemathesis",
        f"--config-file={HERE / 'schemathesis.toml'}",
        "--no-color",
        "run",
        f"{address}/openapi.json",
        "--checks=all",
        "--report=har",
        f"--report-har-path={har}",
        "--continue-on-failure",
    ]
    for name, value in headers.items():
        command += ["--header", f"{name}: {value}"]
    print(f"===== {title}", flush=True)
    try:
        passed = subprocess.run(command, timeout=RUN_SECS_MAX).returncode == 0
    except subprocess.TimeoutExpired:
        print(f"{title}: did not end within {RUN_SECS_MAX} s")
        return 0, 1
    expected = {(method, path) for method, path, _ in operations(document)}
    missed = expected - set(reached(document, har))
    for method, path in sorted(missed):
        print(f"{title}: no request brought {method} {path} to a 2xx")
    return int(passed) + len(expected) - len(missed), int(not passed) + len(missed)


def main():
    passed = failed = 0
    wanted = os.environ.get("SCHEMATHESIS_RUNS", "open,key").split(",")
    for run in wanted:
        with tempfile.TemporaryDirectory(prefix="tidepool-schemathesis-") as folder:
            headers = {}
            if run == "key":
                key = servers.create_key(f"sqlite:{folder}/tidepool.db", "schemathesis", "admin:*")
                headers["Authorization"] = f"Bearer {key}"
            with servers.api(folder) as api:
                more = attack(f"run '{run}'", api.url, headers, folder)
                passed, failed = passed + more[0], failed + more[1]
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


sys.exit(main())
