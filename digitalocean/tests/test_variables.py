"""Variables that can't work are refused at plan, with what to do. The variables alone, without resources: no provider is needed."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest
from deploy.tools import terraform_program

ROOT = pathlib.Path(__file__).parents[1]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGdOZRkRzPqg2nXfX2Jt5x8hYv8WmQk0lJ2YtJ3nQ9aa test"
GIVEN = {"domain": "staging.example.com", "ssh_allowed_ranges": ["203.0.113.7/32"], "ssh_public_key": KEY, "manifests": "manifests"}
PROGRAM = terraform_program(os.environ)

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="neither tofu nor terraform is here")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("variables")
    for file in ("variables.tf", "catalogue.tf", "prices.json", "dev.tfvars", "staging.tfvars", "prod.tfvars"):
        shutil.copy(ROOT / file, made)
    (made / "manifests").mkdir()
    for image in ("api", "db", "monitoring", "autoscaler"):
        manifest = {"image": image, "version": "1.0.0", "id": "12", "region": "nyc3"}
        (made / "manifests" / f"{image}.json").write_text(json.dumps(manifest))
    run(made, "init", "-input=false")
    return made


def run(folder, *arguments):
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1", "TF_CLI_CONFIG_FILE": "/dev/null"}
    return subprocess.run([PROGRAM, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)


def plan(folder, given, file="staging"):
    """Status, and what is said, without its frame and line breaks."""
    (folder / "given.tfvars.json").write_text(json.dumps({**GIVEN, **given}))
    done = run(folder, "plan", "-no-color", "-input=false", f"-var-file={file}.tfvars", "-var-file=given.tfvars.json")
    return done.returncode, " ".join(re.sub(r"[│╷╵]", " ", done.stdout + done.stderr).split())


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_each_environments_own_values_are_taken(folder, environment):
    status, said = plan(folder, {}, environment)
    assert status == 0, said


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"region": "mars1"}, "There is no region mars1 with VPCs, volumes and load balancers. Choose one of: ams3"),
        ({"region": "fra1"}, "Images are in another region than fra1. Make them there"),
        ({"domain": "example"}, "domain must be a DNS name"),
        ({"domain": "Example.com."}, "domain must be a DNS name"),
        ({"environment": "Staging"}, "environment is part of names"),
        ({"environment": "prod-eu"}, "2 to 16 lower-case letters and digits, beginning with a letter"),
        ({"ip_range": "10.30.0.0/21"}, "ip_range 10.30.0.0/21 overlaps with one of other_ranges (10.30.0.0/22, 10.40.0.0/20)"),
        ({"ip_range": "10.30.2.0/24"}, "overlaps with one of other_ranges"),
        ({"ip_range": "10.244.16.0/20"}, "or with a range of DigitalOcean's own"),
        ({"ip_range": "10.20.1.0/20"}, "Write its first address: 10.20.0.0."),
        ({"ip_range": "10.0.0.0/8"}, "ip_range must be a /20 to a /26"),
        ({"ip_range": "8.8.0.0/20"}, "ip_range must be a private IPv4 range"),
        ({"ip_range": "nonsense"}, "ip_range must be a private IPv4 range"),
        ({"other_ranges": ["10.1"]}, "other_ranges must be IPv4 ranges"),
        ({"ssh_allowed_ranges": []}, "ssh_allowed_ranges must name at least one range"),
        ({"ssh_allowed_ranges": ["0.0.0.0/0"]}, "ssh_allowed_ranges must not be the whole internet"),
        ({"ssh_allowed_ranges": ["::/0"]}, "ssh_allowed_ranges must not be the whole internet"),
        ({"ssh_allowed_ranges": ["203.0.113.7"]}, "ssh_allowed_ranges must name at least one range"),
        ({"clients_allowed": ["all"]}, "clients_allowed must be ranges"),
        ({"ssh_public_key": "-----BEGIN OPENSSH PRIVATE KEY-----"}, "never the private half"),
        ({"ssh_key_ids": ["mine"]}, "ssh_key_ids are ids or MD5 fingerprints"),
        ({"pool": "pool:api"}, "pool must be 1 to 42 lower-case letters"),
        ({"pool_min": 0}, "pool_min must be a whole number of at least 1: without members nobody serves"),
        ({"pool_max": 1}, "pool_max (1) is below pool_min (2). Raise it."),
        ({"pool_max": 101}, "pool_max must be a whole number of at most 100"),
        ({"pool_size": "huge"}, "pool_size huge is not among the sizes of prices.json"),
        ({"pool_cpu_target": 1.5}, "pool_cpu_target is a share of a processor"),
        ({"database_count": 0}, "database_count must be 1 (no host may fail) or 3 to 9"),
        ({"database_count": 2}, "database_count must be 1 (no host may fail) or 3 to 9"),
        ({"database_replication": 4}, "database_replication (4) is more than database_count (3)"),
        ({"database_replication": 0}, "database_replication must be a whole number of at least 1"),
        ({"database_size": "s-1vcpu-1gb"}, "has less than 2 GB of memory, with which Cassandra does not run"),
        ({"database_volume_gib": 0}, "database_volume_gib is a whole number from 1 to 16384"),
        ({"monitoring_size": "s-1vcpu-1gb"}, "with which Elasticsearch does not run"),
        ({"monitoring_days": 0}, "monitoring_days is a whole number from 1 to 3650"),
        ({"autoscaler_size": "none"}, "autoscaler_size none is not among the sizes"),
        ({"load_balancer_units": 0}, "load_balancer_units is a whole number from 1 to 200"),
        ({"image_versions": {"api": "9.9.9"}}, "There is no image in manifests for: api. Make it: make images CLOUD=digitalocean"),
        ({"image_versions": {"web": "1"}}, "image_versions names an image that there is none of"),
        ({"manifests": "elsewhere"}, "There is no image in elsewhere for: api, db, monitoring, autoscaler"),
        ({"certificate_name": "a b"}, "certificate_name must be the name of a certificate"),
        ({"certificate_serial": 0}, "certificate_serial is a whole number from 1"),
        ({"service_name": "internal"}, "service_name is one label"),
        ({"api_url": "http://127.0.0.1:1/v2"}, "api_url must be http://HOST:PORT"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_what_to_do(folder, given, message):
    status, said = plan(folder, given)
    assert status == 1, said
    assert message in said


def test_all_that_is_wrong_is_said_at_once(folder):
    status, said = plan(folder, {"region": "mars1", "pool_min": 0, "database_count": 0, "domain": "x"})
    assert status == 1
    for part in ("There is no region mars1", "without members nobody serves", "database_count must be", "domain must be"):
        assert part in said


def test_the_name_of_the_pool_has_no_default(folder):
    """It is in tags, which are the account's: two environments that don't name it would share their members."""
    text = (folder / "staging.tfvars").read_text()
    (folder / "nameless.tfvars").write_text(re.sub(r"^pool\s*=.*\n", "", text, flags=re.M))
    status, said = plan(folder, {}, "nameless")
    assert status == 1
    assert 'The root module input variable "pool" is not set' in said


def test_environments_of_one_account_share_neither_names_nor_ranges(folder):
    """Tags, names of pools and ranges are the account's."""
    found = {}
    for environment in ("dev", "staging", "prod"):
        text = (folder / f"{environment}.tfvars").read_text()
        found[environment] = {name: re.search(rf'^{name}\s*= "(.*)"', text, re.M)[1] for name in ("environment", "ip_range", "pool")}
    for name in ("environment", "ip_range", "pool"):
        assert len({values[name] for values in found.values()}) == 3
