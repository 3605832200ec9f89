"""What a monitoring host knows of others, and how they are told of it."""

import json

from cloud import until

# Where Metricbeat sends, as every image's README says it.
SETTINGS = "/etc/default/metricbeat"


def settings(monitor):
    return f"ELASTICSEARCH_URL=http://{monitor.private}:9200\n"


def ask(monitor, path, body=None):
    """Elasticsearch's answer; waits while it refuses, as it does for a moment after the first documents of an index."""
    given = "" if body is None else f" -H 'Content-Type: application/json' --data-binary @- <<'END'\n{json.dumps(body)}\nEND"

    def answer():
        said = monitor.try_ssh(f"curl --silent --fail-with-body 'http://127.0.0.1:9200/{path}'{given}")
        return json.loads(said.stdout) if said.returncode == 0 else None

    return until(f"Elasticsearch answers {path}", answer)


def senders(monitor):
    """Who has sent documents: name, droplet, image and Metricbeat's own id; every document must say them all."""
    fields = {"name": "host.name", "droplet": "tidepool.host.id", "image": "tidepool.image", "agent": "agent.id"}
    sources = [{key: {"terms": {"field": field}}} for key, field in fields.items()]
    body = {"size": 0, "track_total_hits": True, "aggs": {"senders": {"composite": {"size": 1000, "sources": sources}}}}
    answer = ask(monitor, "metricbeat-*/_search?ignore_unavailable=true&allow_no_indices=true", body)
    if "aggregations" not in answer:
        return []
    buckets = answer["aggregations"]["senders"]["buckets"]
    assert sum(bucket["doc_count"] for bucket in buckets) == answer["hits"]["total"]["value"]
    return [bucket["key"] for bucket in buckets]


def cpu(monitor, host, secs=25):
    """The host's CPU, 0 to 1, in the newest document of so many seconds that has it; None without one."""
    wanted = [
        {"term": {"host.name": host.name}},
        {"exists": {"field": "system.cpu.total.norm.pct"}},
        {"range": {"@timestamp": {"gte": f"now-{secs}s"}}},
    ]
    body = {"size": 1, "query": {"bool": {"filter": wanted}}, "sort": [{"@timestamp": "desc"}]}
    hits = ask(monitor, "metricbeat-*/_search", body)["hits"]["hits"]
    return hits[0]["_source"]["system"]["cpu"]["total"]["norm"]["pct"] if hits else None
