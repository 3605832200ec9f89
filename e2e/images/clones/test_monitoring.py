"""The monitoring host's image takes documents from Metricbeat of all others."""

import re

import pytest
from cloud import until
from conftest import needs
from monitor import SETTINGS, ask, senders, settings

pytestmark = needs("monitoring")


@pytest.fixture(scope="module")
def monitor(pairs):
    return pairs["monitoring"][0]


def test_it_keeps_documents_as_long_as_its_user_data_say(monitor):
    said = monitor.ssh("journalctl --no-pager --boot --output=cat --unit=tidepool-monitoring-configure")
    assert "indices are kept for 3 days" in said


def test_elasticsearch_is_exposed_no_more_than_is_documented(monitor):
    words = monitor.ssh("systemd-analyze security --no-pager elasticsearch.service")
    assert float(re.search(r"exposure level for .*: ([0-9.]+)", words)[1]) <= 2.0


def test_every_document_names_a_droplet_and_no_two_hosts_share_an_id(pairs, monitor):
    hosts = [host for pair in pairs.values() for host in pair]
    for host in hosts:
        host.ssh(f"install -m 600 /dev/stdin {SETTINGS} <<<'{settings(monitor).strip()}'; systemctl start metricbeat")
    expected = {(host.name, str(host.id), name) for name, pair in pairs.items() for host in pair}

    def all_have_sent():
        found = senders(monitor)
        return found if len({sender["name"] for sender in found}) >= len(expected) else None

    found = until("every host has sent", all_have_sent)
    assert {(sender["name"], sender["droplet"], sender["image"]) for sender in found} == expected
    assert len({sender["agent"] for sender in found}) == len(expected)


def test_shares_are_numbers_with_a_fraction(monitor):
    said = ask(monitor, "metricbeat-*/_mapping/field/system.cpu.total.norm.pct?allow_no_indices=false")
    types = {found["mappings"]["system.cpu.total.norm.pct"]["mapping"]["pct"]["type"] for found in said.values()}
    assert types == {"double"}
