"""The image of a monitoring host."""

import json
import re

import pytest

OURS = ["tidepool-monitoring-configure.service", "tidepool-monitoring-prepare.service"]


@pytest.mark.parametrize("unit", [*OURS, "elasticsearch.service", "tidepool-monitoring-retain.timer"])
def test_it_starts_with_the_host(host, unit):
    assert host.service(unit).is_enabled


@pytest.mark.parametrize("unit", [*OURS, "tidepool-monitoring-retain.service", "tidepool-monitoring-retain.timer"])
def test_units_are_well_formed(said, unit):
    assert said("systemd-analyze verify --man=no %s 2>&1", unit) == ""


# The package's own unit of Elasticsearch is as its makers have it.
@pytest.mark.parametrize("unit", [*OURS, "tidepool-monitoring-retain.service", "elasticsearch.service"])
def test_units_are_hardened(host, said, unit):
    if unit == "elasticsearch.service" and host.package("elasticsearch").is_installed:
        pytest.skip("its makers' own unit")
    last = said("systemd-analyze security --no-pager %s", unit).splitlines()[-1]
    assert float(re.search(r": ([0-9.]+) ", last)[1]) <= 2.0


def test_private_addresses_alone_get_in(host):
    text = host.file("/etc/nftables.d/20-monitoring.nft").content_string
    assert "9200" in text
    assert "tcp_public" not in text


@pytest.mark.built
def test_there_are_no_documents_yet(host, said):
    assert said("find /var/lib/elasticsearch -mindepth 1") == ""
    assert not host.service("elasticsearch.service").is_running


@pytest.mark.booted
def test_the_template_is_there(said):
    answer = json.loads(said("curl --silent --fail --noproxy '*' http://127.0.0.1:9200/_index_template/metricbeat"))
    assert answer["index_templates"][0]["index_template"]["index_patterns"] == ["metricbeat-*"]


@pytest.mark.booted
def test_the_heap_is_bounded_by_the_memory(said):
    heap = int(re.search(r"-Xmx(\d+)m", said("cat /etc/elasticsearch/jvm.options.d/heap.options"))[1])
    memory = int(re.search(r"MemTotal: +(\d+)", said("cat /proc/meminfo"))[1]) // 1024
    assert 256 <= heap <= max(256, memory // 2)
