"""The image of a database host."""

import re

import pytest

OURS = ["tidepool-db-configure.service", "tidepool-db.service"]


@pytest.mark.parametrize("unit", OURS)
def test_ours_start_with_the_host(host, unit):
    assert host.service(unit).is_enabled


def test_cassandra_is_started_by_ours_alone(said):
    # It has no [Install], so nothing but another unit can start it.
    assert said("systemctl is-enabled cassandra.service") == "static"


@pytest.mark.parametrize("unit", [*OURS, "cassandra.service"])
def test_units_are_well_formed(said, unit):
    assert said("systemd-analyze verify --man=no %s 2>&1", unit) == ""


# What stays open of Cassandra, and why, the README says.
@pytest.mark.parametrize("unit", [*OURS, "cassandra.service"])
def test_units_are_exposed_to_little(exposure, unit):
    assert exposure(unit) <= 2.0


def test_cassandra_is_started_as_often_as_it_takes(said):
    shown = said("systemctl show --property=Restart --property=StartLimitIntervalUSec cassandra.service").splitlines()
    assert sorted(shown) == ["Restart=always", "StartLimitIntervalUSec=0"]


def test_java_is_17(said):
    java = re.search(r"^exec (\S+)", said("cat /usr/local/lib/tidepool/db-cassandra"), re.MULTILINE)[1]
    assert 'version "17' in said("%s -version 2>&1", java)


def test_cassandra_is_5_0_and_brings_its_agent(said):
    assert re.search(r"cassandra-all-5\.0|apache-cassandra-5\.0", said("ls /usr/share/cassandra /usr/share/cassandra/lib"))
    assert "jamm-" in said("ls /usr/share/cassandra/lib")


def test_the_program_runs_on_this_python(host):
    assert host.run("/usr/local/lib/tidepool/tidepool-db").rc == 64


def test_members_and_clients_get_through_the_firewall(host):
    text = host.file("/etc/nftables.d/20-db.nft").content_string
    assert "tcp_private { 7000, 7010, 9042 }" in text
    assert "tcp_public" not in text


@pytest.mark.built
def test_there_is_no_database_yet(host, said):
    assert said("find /var/lib/cassandra -mindepth 1") == ""
    assert not host.file("/etc/tidepool/db.conf").exists
    assert not host.service("cassandra.service").is_running


@pytest.mark.booted
def test_it_is_a_member_if_it_was_told_of_a_ring(host):
    if not host.file("/etc/tidepool/db.conf").exists:
        assert not host.service("cassandra.service").is_running
        return
    assert host.run("tidepool-db status").rc == 0
    assert host.run("nodetool status").stdout.count("\nUN ") >= 1


@pytest.mark.booted
def test_secrets_are_for_root_and_the_service(host):
    for path in ("/etc/tidepool/db.conf", "/etc/cassandra/tls/node.pem"):
        if host.file(path).exists:
            assert host.file(path).user == "root"
            assert host.file(path).mode & 0o007 == 0
