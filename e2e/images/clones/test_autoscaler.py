"""The autoscaler's image."""

import re

import pytest
from conftest import playbook

USER_DATA = """#cloud-config
write_files:
- path: /etc/tidepool-autoscaler/config.toml
  content: |
    state_dir = "/var/lib/tidepool-autoscaler"
    metrics = "scrape"
    pool = []
    [status]
    token_file = "/run/credentials/tidepool-autoscaler.service/secret_status-token"
- path: /etc/tidepool-autoscaler/credentials/status-token
  permissions: "0600"
  content: a-token-for-the-test
"""


@pytest.fixture(scope="module")
def clone(autoscaler):
    host = autoscaler.clone(USER_DATA).wait_for_boot()
    yield host
    host.destroy()


def test_it_runs_with_the_settings_and_secrets_of_its_user_data(clone):
    ask = "curl --silent --output /dev/null --write-out '%{http_code}' http://127.0.0.1:7071/api/status"
    assert clone.ssh(ask) == "401"
    assert clone.ssh(ask + " -H 'Authorization: Bearer a-token-for-the-test'") == "200"


def test_the_second_run_changes_nothing(clone):
    assert re.search(r"\bchanged=0\b.*\bfailed=0\b", playbook("autoscaler", clone))
