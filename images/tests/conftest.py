"""Tests of a host, by pytest-testinfra: `--state=built` while it becomes an image, `--state=booted` on a clone of the image."""

import re

import pytest
import testinfra


def pytest_addoption(parser):
    parser.addoption("--state", choices=["built", "booted"], default="booted")


def pytest_collection_modifyitems(config, items):
    state = config.getoption("--state")
    other = "booted" if state == "built" else "built"
    for item in items:
        if item.get_closest_marker(other):
            item.add_marker(pytest.mark.skip(reason=f"the host is only {state}"))


@pytest.fixture(scope="module")
def host(request):
    """The one host of `--hosts`. In the place of testinfra's own, which leaves `--ssh-extra-args` out (10.2.2)."""
    option = request.config.option
    arguments = {"ssh_identity_file": option.ssh_identity_file, "ssh_extra_args": option.ssh_extra_args, "sudo": option.sudo}
    return testinfra.get_host(option.hosts, **arguments)


@pytest.fixture(scope="module")
def said(host):
    """What a command writes to standard output; it must succeed."""

    def run(command, *arguments):
        return host.check_output(command, *arguments)

    return run


@pytest.fixture(scope="module")
def exposure(said):
    """What `systemd-analyze security` says of a unit: 0.0 is exposed to nothing, 10.0 to everything."""

    def of(unit):
        words = said("systemd-analyze security --no-pager %s", unit)
        return float(re.search(r"exposure level for .*: ([0-9.]+)", words)[1])

    return of
