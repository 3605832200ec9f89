"""Real Metricbeat beside a real tidepool-api, into a real Elasticsearch: the documents that the autoscaler reads arrive.

Each kind of document counts as one test.
"""

import json
import os
import pathlib
import sys
import tempfile
import urllib.error
import urllib.request
import uuid

import servers

HERE = pathlib.Path(__file__).resolve().parent
ARRIVE_SECS_MAX = 60


def newest(elasticsearch, index, metricset, field):
    """The newest document of a metricset that has `field`, or None."""
    query = {
        "size": 1,
        "sort": [{"@timestamp": "desc"}],
        "query": {
            "bool": {"filter": [{"term": {"metricset.name.keyword": metricset}}, {"exists": {"field": field}}]}
        },
    }
    request = urllib.request.Request(
        f"{elasticsearch}/{index}/_search", json.dumps(query).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            hits = json.load(answer)["hits"]["hits"]
    except urllib.error.HTTPError as error:
        # No such index yet, no such field in it yet, or its shard is still being made; the wait for it has an end.
        if error.code in (400, 404, 503):
            return None
        raise
    return hits[0]["_source"] if hits else None


def value(document, field):
    for part in field.split("."):
        document = document[part]
    return document


# metricset, field, what a value of it must fulfil
EXPECTED = [
    ("cpu", "system.cpu.total.norm.pct", lambda ratio: 0 <= ratio <= 1),
    ("memory", "system.memory.actual.used.pct", lambda ratio: 0 < ratio < 1),
    ("load", "system.load.norm.1", lambda load: load >= 0),
    ("network", "system.network.in.bytes", lambda count: count >= 0),
    ("collector", "prometheus.metrics.process_cpu_seconds_total", lambda seconds: seconds >= 0),
    ("collector", "prometheus.metrics.tidepool_http_requests_total", lambda count: count >= 1),
]


def main():
    elasticsearch = os.environ["TIDEPOOL_TEST_ELASTICSEARCH"]
    member, index = f"member-{uuid.uuid4()}", f"metricbeat-{uuid.uuid4()}"
    failed = 0
    with tempfile.TemporaryDirectory(prefix="tidepool-metricbeat-") as folder, servers.api(folder) as api:
        command = [os.environ["TIDEPOOL_TEST_METRICBEAT"], "-e", "--strict.perms=false"]
        command += ["-c", str(HERE / "metricbeat.yml"), "--path.home", folder]
        environment = os.environ | {
            "MEMBER": member,
            "OPERATIONS": api.operations,
            "ELASTICSEARCH": elasticsearch,
            "INDEX": index,
        }
        with servers.running(command, f"{folder}/metricbeat.log", env=environment) as metricbeat:
            urllib.request.urlopen(f"{api.url}/v1/collections", timeout=10).close()
            for metricset, field, holds in EXPECTED:
                try:
                    document = servers.wait_until(
                        f"a document with {field}",
                        lambda: metricbeat.poll() is not None or newest(elasticsearch, index, metricset, field),
                        ARRIVE_SECS_MAX,
                    )
                    good = document is not True and holds(value(document, field)) and document["host"]["name"] == member
                    print(f"{field}: {value(document, field)}" if good else f"{field}: wrong in {document}")
                except TimeoutError as error:
                    good = False
                    print(error)
                failed += not good
        if failed:
            print(pathlib.Path(folder, "metricbeat.log").read_text()[-4000:])
    urllib.request.urlopen(urllib.request.Request(f"{elasticsearch}/{index}", method="DELETE"), timeout=30).close()
    print(f"{len(EXPECTED) - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


sys.exit(main())
