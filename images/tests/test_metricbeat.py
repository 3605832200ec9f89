"""Metricbeat is there, and does nothing before it is told where to send."""

import pytest


def test_it_is_enabled(host):
    assert host.service("metricbeat.service").is_enabled


def test_its_unit_is_exposed_to_little(exposure):
    assert exposure("metricbeat.service") <= 2.0


def test_its_unit_is_well_formed(said):
    assert said("systemd-analyze verify --man=no metricbeat.service 2>&1") == ""


def test_it_can_read_its_settings(host, said):
    settings = "HOST_NAME=name HOST_ID=1 HOST_PROVIDER=digitalocean HOST_REGION=nyc3 ELASTICSEARCH_URL=http://127.0.0.1:9200"
    flags = "--path.home /usr/share/metricbeat --path.config /etc/metricbeat --path.data /tmp/test --path.logs /tmp/test"
    tested = host.run(f"env {settings} /usr/share/metricbeat/bin/metricbeat test config --strict.perms=true {flags}")
    host.run("rm -rf /tmp/test")
    assert (tested.rc, tested.stdout) == (0, "Config OK\n"), tested.stderr


def test_its_account_has_no_login(host):
    assert host.user("metricbeat").shell == "/usr/sbin/nologin"


@pytest.mark.booted
def test_it_runs_if_it_was_told_where_to_send(host):
    told = host.file("/etc/default/metricbeat").exists
    assert host.service("metricbeat.service").is_running == told


@pytest.mark.booted
def test_it_sees_the_processors_that_the_host_has(host, said):
    """In a container /proc of the service could be the whole machine's."""
    if not host.service("metricbeat.service").is_running:
        return
    inside = "nsenter --target $(systemctl show --property=MainPID --value metricbeat.service) --mount "
    for ask in ["grep -c '^cpu' /proc/stat", "grep MemTotal /proc/meminfo"]:
        assert said(inside + ask) == said(ask)
