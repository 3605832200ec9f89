"""The image of tidepool-autoscaler."""

import pytest


def test_it_is_installed_and_starts_with_the_host(host):
    assert host.package("tidepool-autoscaler").is_installed
    assert host.service("tidepool-autoscaler.service").is_enabled


def test_its_unit_is_exposed_to_little(exposure):
    assert exposure("tidepool-autoscaler.service") <= 2.0


def test_its_unit_is_well_formed(said):
    assert said("systemd-analyze verify --man=no tidepool-autoscaler.service 2>&1") == ""


def test_it_waits_for_its_settings(said):
    assert "tidepool-host.service" in said("systemctl show --property=Requires --value tidepool-autoscaler.service").split()


@pytest.mark.built
def test_it_has_not_run_yet(host, said):
    assert not host.service("tidepool-autoscaler.service").is_running
    assert said("find /var/lib/tidepool-autoscaler -mindepth 1") == ""


@pytest.mark.booted
def test_its_status_port_answers(host):
    assert host.service("tidepool-autoscaler.service").is_running
    ask = "curl --silent --output /dev/null --write-out '%{http_code}' --max-time 20 http://127.0.0.1:7071/api/status"
    assert host.check_output(ask) in ("200", "401")
