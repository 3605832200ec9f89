"""The image of tidepool-api."""

import pytest


def test_it_is_installed_and_starts_with_the_host(host):
    assert host.package("tidepool-api").is_installed
    assert host.service("tidepool-api.service").is_enabled


def test_its_unit_is_exposed_to_little(exposure):
    assert exposure("tidepool-api.service") <= 2.0


def test_its_unit_is_well_formed(said):
    assert said("systemd-analyze verify --man=no tidepool-api.service 2>&1") == ""


def test_it_waits_for_its_settings(said):
    assert "tidepool-host.service" in said("systemctl show --property=Requires --value tidepool-api.service").split()
    assert "tidepool-host.service" in said("systemctl show --property=After --value tidepool-api.service").split()


@pytest.mark.built
def test_it_has_not_run_yet(host, said):
    assert not host.service("tidepool-api.service").is_running
    assert said("find /var/lib/tidepool-api -mindepth 1") == ""


@pytest.mark.booted
def test_it_answers_on_both_ports(host):
    assert host.service("tidepool-api.service").is_running
    ask = "curl --silent --output /dev/null --write-out '%{http_code}' --max-time 20 "
    assert host.check_output(ask + "http://127.0.0.1:9090/readyz") == "200"
    assert host.check_output(ask + "http://127.0.0.1:8080/v1/collections") == "401"
