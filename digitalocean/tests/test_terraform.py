"""What deploy.sh does with Terraform, on an account in which nothing runs: second plans, kept volumes, killed applies, secrets."""

import datetime
import json
import os
import pathlib

import pytest
from account import Account
from deploy import commands, keys, leftovers, settings, tools
from deploy.cloud import Cloud
from deploy.outcome import Stopped
from deploy.terraform import Change

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
NOW = datetime.datetime(2026, 11, 30, 12, 0, tzinfo=datetime.timezone.utc)
CANARY = "canary-dop-v1-5c1f"


@pytest.fixture(scope="session")
def programs():
    found = tools.with_provider(dict(os.environ), REPOSITORY / "e2e" / "terraform" / "tofu")
    if found is None:
        pytest.skip("e2e/terraform/tofu has no provider")
    return found


@pytest.fixture
def account():
    made = Account()
    yield made
    made.close()


@pytest.fixture
def asked(tmp_path, account):
    return asked_of(tmp_path, account)


def asked_of(tmp_path, account, **options):
    manifests = tmp_path / "manifests" / "local"
    manifests.mkdir(parents=True, exist_ok=True)
    for image in ("api", "db", "monitoring", "autoscaler"):
        (manifests / f"{image}.json").write_text(json.dumps({"image": image, "version": "1.0.0", "id": "12", "region": "nyc3"}))
    given = {
        "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data"), "CLOUD": "local", "DIGITALOCEAN_TOKEN": CANARY,
        "DIGITALOCEAN_API_URL": account.url, "MANIFESTS": str(tmp_path / "manifests"), "DOMAIN": "staging.tidepool.test",
    }  # fmt: skip
    found = settings.read("staging", given, **options)
    settings.make_folder(found)
    keys.make(found.secrets)
    return found


def provision(asked, programs):
    run = commands.Run(asked, programs, None)
    return run, run.provision()


def test_an_environment_is_made_planned_again_without_change_and_removed_but_for_its_volumes(asked, programs, account, tmp_path, capsys):
    run, outputs = provision(asked, programs)
    assert account.names("droplets") == [f"tidepool-staging-{name}" for name in ("autoscaler", "db-1", "db-2", "db-3", "monitoring")]
    assert outputs["service"] == {"name": "api.staging.tidepool.test", "url": "https://api.staging.tidepool.test", "address": "198.18.1.2"}
    assert set(outputs["hosts"]) == {"db-1", "db-2", "db-3", "monitoring", "autoscaler"}
    run.settled()

    # Members that the autoscaler makes are none of Terraform's business.
    vpc = next(iter(account.things["vpcs"]))
    for number in range(3):
        account.make("droplets", {"name": f"api-staging-{number}", "size": "s-1vcpu-1gb", "tags": ["pool:api-staging", "serving:api-staging"], "vpc_uuid": vpc})
    run.settled()

    # A new image replaces no fixed host.
    (asked.manifests / "db.json").write_text(json.dumps({"image": "db", "version": "1.0.1", "id": "13", "region": "nyc3"}))
    run.terraform.given({})
    assert run.terraform.plan() == []

    # All is gone, also when the images are gone already, members first, and the volumes are there. A droplet of another VPC has the tag by chance.
    account.make("droplets", {"name": "api-elsewhere", "size": "s-1vcpu-1gb", "tags": ["pool:api-staging"], "vpc_uuid": "another"})
    for file in asked.manifests.iterdir():
        file.unlink()
    commands.destroy(asked, programs)
    assert account.names("droplets") == ["api-elsewhere"]
    assert account.names("vpcs") == account.names("load_balancers") == account.names("firewalls") == []
    assert account.names("domains") == account.names("certificates") == account.names("tags") == account.names("account/keys") == []
    assert account.names("projects") == ["first"]
    volumes = [f"tidepool-staging-{name}" for name in ("db-1", "db-2", "db-3", "monitoring")]
    assert account.names("volumes") == volumes
    assert (asked.secrets / "database-password").exists()

    # The next deploy takes the same volumes again.
    asked = asked_of(tmp_path, account)
    before = {volume["id"] for volume in account.things["volumes"].values()}
    run, _ = provision(asked, programs)
    assert {volume["id"] for volume in account.things["volumes"].values()} == before
    run.settled()

    # And with the volumes nothing is left, here or there, but what somebody made by hand under such a name.
    account.make("volumes", {"name": "tidepool-staging-photos", "size_gigabytes": 1})
    commands.destroy(asked_of(tmp_path, account, remove_volumes=True), programs)
    assert account.names("volumes") == ["tidepool-staging-photos"]
    assert "left alone: tidepool-staging-photos, volumes that the state does not know" in capsys.readouterr().err
    assert account.names("droplets") == ["api-elsewhere"]
    assert not asked.folder.exists()


def test_a_state_that_cannot_be_read_stops_a_destroy_before_anything_goes(asked, programs, account, tmp_path):
    provision(asked, programs)
    before = {kind: set(things) for kind, things in account.things.items()}
    broken = tmp_path / "terraform"
    broken.write_text(f'#!/bin/sh\ncase "$2" in show | state) echo "Failed to load state" >&2; exit 1 ;; esac\nexec {programs["TERRAFORM"]} "$@"\n')
    broken.chmod(0o755)
    with pytest.raises(Stopped, match="Failed to load state") as stopped:
        commands.destroy(asked_of(tmp_path, account, remove_volumes=True), {**programs, "TERRAFORM": str(broken)})
    assert stopped.value.way == "plan-failed"
    assert {kind: set(things) for kind, things in account.things.items()} == before
    assert (asked.folder / "terraform.tfstate").exists() and (asked.secrets / "database-password").exists()


def test_without_a_state_or_with_an_empty_one_there_is_nothing(asked, programs):
    run = commands.Run(asked, programs, None)
    run.terraform.prepare()
    assert run.terraform.resources() == []
    (asked.folder / "terraform.tfstate").write_text('{"version": 4, "terraform_version": "1.11.0", "serial": 1, "lineage": "x", "outputs": {}, "resources": []}')
    assert run.terraform.resources() == []


def test_no_secret_is_in_state_plan_or_log(asked, programs):
    provision(asked, programs)
    secrets = {file.name: file.read_text().strip() for file in asked.secrets.iterdir() if file.name not in ("id_ed25519.pub", "ca.pem", "node.pem")}
    secrets["token"] = CANARY
    looked_at = 0
    for file in asked.folder.rglob("*"):
        if not file.is_file() or file.is_relative_to(asked.secrets) or ".terraform/" in str(file):
            continue
        looked_at += 1
        text = file.read_bytes()
        for name, secret in secrets.items():
            assert secret.encode() not in text, f"{name} is in {file}"
    assert looked_at > 20


def test_what_a_killed_apply_made_and_nobody_noted_is_removed_before_the_next_plan(asked, programs, account):
    run = commands.Run(asked, programs, None)
    # The answer to one create is lost, as when the machine dies: the firewall is there, and the state does not know it.
    account.cut.add(("POST", "firewalls"))
    run.terraform.environment["DIGITALOCEAN_HTTP_RETRY_MAX"] = "0"
    with pytest.raises(Stopped) as stopped:
        run.provision()
    assert (stopped.value.way, (asked.folder / commands.APPLYING).exists()) == ("apply-failed", True)
    assert account.names("firewalls")
    account.cut.clear()
    run, _ = provision(asked, programs)
    assert account.names("firewalls") == [f"tidepool-staging-{name}" for name in ("autoscaler", "db", "members", "monitoring")]
    assert not (asked.folder / commands.APPLYING).exists()
    run.settled()


ZONE = "staging.tidepool.test"


def test_of_a_zones_records_only_those_go_that_a_killed_apply_would_have_made(asked, programs, account, tmp_path):
    """Records have no time and none of our names: whose they are is known by the plan alone."""
    asked.variables = tmp_path / "www.tfvars"
    asked.variables.write_text('service_name = "www"\n')
    run = commands.Run(asked, programs, None)
    account.cut.add(("POST", f"domains/{ZONE}/records"))
    run.terraform.environment["DIGITALOCEAN_HTTP_RETRY_MAX"] = "0"
    with pytest.raises(Stopped) as stopped:
        run.provision()
    assert stopped.value.way == "apply-failed"
    left = set(account.records[ZONE])
    assert "www" in {record["name"] for record in account.records[ZONE].values()}
    account.cut.clear()
    for number, name in ((1, "api"), (2, "printer.internal")):
        account.records[ZONE][str(number)] = {"id": number, "type": "A", "name": name, "data": "192.0.2.7", "ttl": 60}
    run, _ = provision(asked, programs)
    now = account.records[ZONE]
    assert now["1"]["name"] == "api" and now["2"]["name"] == "printer.internal"
    assert not left & set(now)
    assert [record["name"] for record in now.values()].count("www") == 1
    run.settled()


def test_a_record_that_was_there_before_an_apply_stays_whatever_its_name_is(asked, account):
    account.make("domains", {"name": ZONE})
    account.records[ZONE]["1"] = {"id": 1, "type": "A", "name": "www", "data": "192.0.2.7", "ttl": 60}
    after = {"domain": ZONE, "name": "www"}
    apply = leftovers.begun(Cloud(asked, "plan-failed"), [Change("r", "digitalocean_record", "create", after)], NOW)
    account.records[ZONE]["2"] = {**account.records[ZONE]["1"], "id": 2}
    leftovers.remove(Cloud(asked, "plan-failed"), asked, [], apply, print)
    assert set(account.records[ZONE]) == {"1"}


@pytest.mark.parametrize(("there_before", "changes", "left"), [
    (True, [Change("d", "digitalocean_domain", "create", {"name": ZONE})], [ZONE]),
    (True, [], [ZONE]),
    (False, [Change("d", "digitalocean_domain", "create", {"name": ZONE})], []),
])  # fmt: skip
def test_an_empty_zone_goes_only_if_a_killed_apply_has_made_it(asked, account, tmp_path, there_before, changes, left):
    if there_before:
        account.make("domains", {"name": ZONE})
    (tmp_path / "applying.json").write_text(leftovers.written(leftovers.begun(Cloud(asked, "plan-failed"), changes, NOW)))
    if not there_before:
        account.make("domains", {"name": ZONE})
    leftovers.remove(Cloud(asked, "plan-failed"), asked, [], leftovers.read(tmp_path / "applying.json"), print)
    assert account.names("domains") == left


def test_what_a_plan_would_destroy_is_refused_and_a_volume_whatever_is_said(asked, programs, account, tmp_path):
    provision(asked, programs)
    before = {kind: set(things) for kind, things in account.things.items()}
    # A host of another region is another host.
    smaller = tmp_path / "other.tfvars"
    smaller.write_text('ip_range = "10.50.0.0/20"\n')
    asked.variables = smaller
    with pytest.raises(Stopped) as stopped:
        provision(asked, programs)
    assert stopped.value.way == "plan-would-destroy"
    assert "replace module.network.digitalocean_vpc.main" in stopped.value.message
    smaller.write_text("database_count = 1\ndatabase_replication = 1\n")
    asked.may_destroy = True
    with pytest.raises(Stopped) as stopped:
        provision(asked, programs)
    assert stopped.value.way == "plan-failed"
    assert "prevent_destroy" in stopped.value.message
    assert {kind: set(things) for kind, things in account.things.items()} == before


def test_members_are_removed_by_their_tag_and_no_others(asked, account):
    """Tags are the account's: what has the same tag in another VPC is another environment's, or nobody's."""
    for name, tag, vpc in (("api-1", "pool:api-staging", "ours"), ("web-1", "pool:web", "ours"), ("api-2", "pool:api-staging", "another")):
        account.make("droplets", {"name": name, "size": "s-1vcpu-1gb", "tags": [tag], "vpc_uuid": vpc})
    assert Cloud(asked, "destroy-incomplete").remove_droplets("pool:api-staging", "ours") == 1
    assert account.names("droplets") == ["api-2", "web-1"]


def test_an_account_that_refuses_the_token_stops_a_run_in_its_own_way(asked, programs, account, tmp_path, monkeypatch):
    provision(asked, programs)
    (asked.folder / commands.APPLYING).write_text(leftovers.written(leftovers.Apply(NOW, (), (), ())))
    monkeypatch.setattr(account, "answer", lambda *_: (401, {"id": "Unauthorized", "message": "Unable to authenticate you"}))
    with pytest.raises(Stopped, match="refuses the token .401.: Unable to authenticate you") as stopped:
        provision(asked, programs)
    assert stopped.value.way == "plan-failed"
    with pytest.raises(Stopped, match="refuses the token") as stopped:
        commands.destroy(asked_of(tmp_path, account), programs)
    assert stopped.value.way == "destroy-incomplete"


def test_the_state_knows_volumes_by_address_and_id(asked, programs, account):
    run, _ = provision(asked, programs)
    found = [resource for resource in run.terraform.resources() if resource.kind == "digitalocean_volume"]
    assert {resource.id for resource in found} == set(account.things["volumes"])
    databases = [f'module.database.digitalocean_volume.data["db-{number}"]' for number in (1, 2, 3)]
    assert sorted(resource.address for resource in found) == [*databases, "module.monitoring.digitalocean_volume.data"]


@pytest.mark.parametrize("command", [
    commands.smoke_alone, commands.upgrade_database,
    lambda *given: commands.replace(*given, "monitoring"), lambda *given: commands.replace(*given, "db-1"),
], ids=["smoke", "db-upgrade", "replace monitoring", "replace db-1"])  # fmt: skip
def test_what_was_never_made_is_neither_tested_nor_replaced(asked, programs, account, monkeypatch, command):
    monkeypatch.setattr(commands.needs, "check", lambda *_, **__: None)
    for _ in ("no state", "an empty state"):
        with pytest.raises(Stopped, match="staging was never made to its end .* make deploy ENV=staging") as stopped:
            command(asked, programs)
        assert stopped.value.way == "plan-failed"
        run = commands.Run(asked, programs, None)
        run.terraform.prepare()
        (asked.folder / "terraform.tfstate").write_text('{"version": 4, "terraform_version": "1.11.0", "serial": 1, "lineage": "x", "outputs": {}, "resources": []}')
    assert account.names("droplets") == []


def test_a_smoke_test_without_a_key_says_where_it_comes_from(asked, programs, monkeypatch):
    monkeypatch.setattr(commands.needs, "check", lambda *_, **__: None)
    provision(asked, programs)
    with pytest.raises(Stopped, match="there is no key in .*api-key") as stopped:
        commands.smoke_alone(asked, programs)
    assert stopped.value.way == "smoke-test-failed"


def test_promotion_takes_what_was_seen_green_and_nothing_newer(asked, programs, account, tmp_path, monkeypatch):
    _, outputs = provision(asked, programs)
    pool_status = {"name": "api-staging", "min": 2, "members": [{"name": name, "state": "serving", "image": "12"} for name in "ab"]}
    monkeypatch.setattr(commands.pool, "status", lambda *_: pool_status)
    monkeypatch.setattr(commands.pool, "ensure_key", lambda *_: "key")
    monkeypatch.setattr(commands, "smoke_test", lambda *_, **__: None)
    deployed = []
    monkeypatch.setattr(commands, "deploy", lambda target, _: deployed.append(target.environment))
    given = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data"), "CLOUD": "local", "DIGITALOCEAN_API_URL": account.url, "MANIFESTS": str(tmp_path / "manifests")}
    prod = settings.read("prod", given)

    # It was not deployed to its end.
    with pytest.raises(Stopped, match="staging is not green"):
        commands.promote(prod, asked, programs)

    # What was made since is not what staging runs.
    commands.versions.note_green(asked.folder, outputs["images"])
    (asked.manifests / "api-1.0.0.json").write_text((asked.manifests / "api.json").read_text())
    for image in ("db", "monitoring", "autoscaler"):
        (asked.manifests / f"{image}-1.0.0.json").write_text((asked.manifests / f"{image}.json").read_text())
    (asked.manifests / "api.json").write_text(json.dumps({"image": "api", "version": "2.0.0", "id": "99", "region": "nyc3"}))
    commands.promote(prod, asked, programs)
    assert deployed == ["prod"]
    assert commands.versions.wanted(prod.folder) == dict.fromkeys(("api", "db", "monitoring", "autoscaler"), "1.0.0")

    # Half of it was replaced.
    pool_status["members"][0]["image"] = "99"
    with pytest.raises(Stopped, match="the pool of staging is not as it should be"):
        commands.promote(prod, asked, programs)

    # Somebody has changed it by hand.
    pool_status["members"][0]["image"] = "12"
    next(iter(account.things["load_balancers"].values()))["redirect_http_to_https"] = False
    with pytest.raises(Stopped, match="staging is not as it is written: 1 to update"):
        commands.promote(prod, asked, programs)
    assert deployed == ["prod"]
