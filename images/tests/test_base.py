"""What every host has."""

import json

import pytest

NEEDRESTART = "/etc/needrestart/conf.d/50-tidepool.conf"
UNITS = ["chrony.service", "nftables.service", "ssh.service", "tidepool-host-keys.service", "tidepool-host.service"]


@pytest.mark.parametrize("unit", UNITS)
def test_units_start_with_the_host(host, unit):
    assert host.service(unit).is_enabled


@pytest.mark.parametrize("unit", ["tidepool-host.service", "tidepool-host-keys.service"])
def test_our_units_are_well_formed(said, unit):
    assert said("systemd-analyze verify --man=no %s 2>&1", unit) == ""


@pytest.mark.parametrize("unit", ["tidepool-host.service", "tidepool-host-keys.service"])
def test_our_units_are_exposed_to_little(exposure, unit):
    assert exposure(unit) <= 2.0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("passwordauthentication", "no"),
        ("kbdinteractiveauthentication", "no"),
        ("permitemptypasswords", "no"),
        ("permitrootlogin", "without-password"),
        ("x11forwarding", "no"),
    ],
)
def test_people_get_in_by_keys_alone(said, setting, value):
    # Older ones write names in small letters, and prohibit-password by its first name.
    written = [line.split(" ", 1) for line in said("/usr/sbin/sshd -T").splitlines() if " " in line]
    effective = {name.lower(): word for name, word in written}
    assert effective[setting].replace("prohibit-password", "without-password") == value


def test_the_firewall_is_well_formed(host):
    assert host.run("/usr/sbin/nft --check --file /etc/nftables.conf").rc == 0


@pytest.mark.booted
def test_only_intended_ports_are_open(said):
    ruleset = json.loads(said("/usr/sbin/nft --json list table inet host"))["nftables"]
    policies = {entry["chain"]["name"]: entry["chain"]["policy"] for entry in ruleset if "chain" in entry}
    assert policies == {"input": "drop", "forward": "drop", "output": "accept"}
    sets = {entry["set"]["name"]: entry["set"].get("elem", []) for entry in ruleset if "set" in entry}
    assert 22 in sets["tcp_public"]
    assert not set(sets["tcp_public"]) & set(sets["tcp_private"])


@pytest.mark.booted
def test_root_alone_reaches_the_metadata(host):
    ask = "curl --silent --output /dev/null --max-time 3 --write-out '%{http_code}' http://169.254.169.254/"
    assert host.run(ask).stdout != "000"
    other = host.run("setpriv --reuid=nobody --regid=nogroup --clear-groups " + ask)
    assert (other.stdout, other.rc) == ("000", 28)  # curl: timed out


def test_the_journal_is_bounded(said):
    settings = said("systemd-analyze cat-config systemd/journald.conf")
    for setting in ["Storage=persistent", "SystemMaxUse=", "MaxRetentionSec="]:
        assert f"\n{setting}" in settings


def test_upgrades_leave_the_database_alone(said):
    settings = said("apt-config dump")
    assert 'APT::Periodic::Unattended-Upgrade "1";' in settings
    assert 'Unattended-Upgrade::Automatic-Reboot "false";' in settings
    for package in ["cassandra", "elasticsearch", "openjdk-", "metricbeat", "tidepool-"]:
        assert f'Unattended-Upgrade::Package-Blacklist:: "{package}";' in settings


def test_upgrades_are_not_held_back_by_settings_that_were_changed(said):
    """unattended-upgrades looks for exactly this word among apt's own settings."""
    settings = said("apt-config dump DPkg::Options").splitlines()
    assert {line.split(" ", 1)[1] for line in settings} >= {'"--force-confdef";', '"--force-confold";'}


def test_needrestart_leaves_the_database_alone(said):
    program = "our %nrconf; do shift or die $@; print join ' ', sort keys %{$nrconf{override_rc}}"
    left_alone = said(f"perl -e %s {NEEDRESTART}", program)
    for unit in ["cassandra", "elasticsearch", "metricbeat", "tidepool-"]:
        assert f"(?^:^{unit})" in left_alone.split(" ")


@pytest.mark.built
def test_nothing_upgrades_while_it_is_built(host):
    for unit in ["apt-daily.timer", "apt-daily-upgrade.timer", "apt-daily.service", "apt-daily-upgrade.service"]:
        assert host.service(unit).is_masked


@pytest.mark.built
def test_a_list_that_cannot_be_fetched_is_an_error_while_it_is_built(said):
    assert said("apt-config dump APT::Update::Error-Mode") == 'APT::Update::Error-Mode "any";'


@pytest.mark.booted
def test_upgrades_come_back_on_a_clone(host):
    for unit in ["apt-daily.timer", "apt-daily-upgrade.timer"]:
        assert host.service(unit).is_enabled
    assert not host.file("/usr/sbin/policy-rc.d").exists
    assert not host.file("/etc/apt/apt.conf.d/90tidepool-lock").exists
    assert not host.file("/etc/dpkg/dpkg.cfg.d/tidepool-build").exists


@pytest.mark.booted
def test_the_host_knows_who_it_is(host, said):
    facts = json.loads(said("cat /run/tidepool/host.json"))
    assert facts["HOST_NAME"] == said("hostname")
    assert facts["HOST_ID"]
    assert facts["HOST_PRIVATE_IP"] in said("ip -4 -oneline address")
    assert host.service("tidepool-host.service").is_running


@pytest.mark.booted
def test_the_image_says_what_it_is(said):
    mark = json.loads(said("cat /etc/tidepool-image.json"))
    assert set(mark) == {"image", "version", "commit", "built", "system"}


@pytest.mark.booted
def test_the_host_has_an_id_of_its_own(said):
    assert len(said("cat /etc/machine-id")) == 32
    assert "ssh_host_" in said("ls /etc/ssh")


@pytest.mark.booted
def test_nothing_failed_at_the_boot(said):
    # In a container the kernel's own settings can't be changed.
    failed = said("systemctl list-units --failed --plain --no-legend").splitlines()
    assert [line.split()[0] for line in failed if not line.startswith("systemd-sysctl.service")] == []


@pytest.mark.booted
def test_the_host_knows_its_own_name(said):
    assert said("getent hosts $(hostname)")
