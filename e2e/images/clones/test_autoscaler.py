"""The autoscaler's image."""

from conftest import STATUS_TOKEN, needs

pytestmark = needs("autoscaler")


def test_it_runs_with_the_settings_and_secrets_of_its_user_data(pairs):
    clone = pairs["autoscaler"][0]
    ask = "curl --silent --output /dev/null --write-out '%{http_code}' http://127.0.0.1:7071/api/status"
    assert clone.ssh(ask) == "401"
    assert clone.ssh(ask + f" -H 'Authorization: Bearer {STATUS_TOKEN}'") == "200"
