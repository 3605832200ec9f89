"""What hosts are told is what their programs take: the database's settings by its own parser, the autoscaler's by its `check`."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml
from deploy import configure, keys, settings
from test_deploy import OUTPUTS
from test_variables import PROGRAM

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT.parent / "images" / "roles" / "db" / "files"))
from tidepool_db import settings as database_settings  # noqa: E402


def autoscaler_program():
    target = os.environ.get("TIDEPOOL_BIN_DIR") or os.path.join(os.environ.get("CARGO_TARGET_DIR", ROOT.parent / "target"), "debug")
    return shutil.which("tidepool-autoscaler", path=target)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    work = tmp_path_factory.mktemp("rendered")
    asked = settings.read("staging", {"HOME": str(work), "XDG_DATA_HOME": str(work / "data"), "DOMAIN": "staging.example.com"})
    settings.make_folder(asked)
    keys.make(asked.secrets)
    roles = ROOT / "configure" / "roles"
    values = configure.variables(asked, OUTPUTS) | {
        "source": str(roles), "destination": str(work), "volume_name": "tidepool-staging-db-1", "volume_path": "/var/lib/cassandra",
        "ansible_python_interpreter": sys.executable,
    }  # fmt: skip
    (work / "values.json").write_text(json.dumps(values))
    # As Ansible finds them for the role.
    environment = {**os.environ, "ANSIBLE_HOME": str(work / "ansible"), "ANSIBLE_LOCALHOST_WARNING": "False"}
    environment["PATH"] = f"{pathlib.Path(sys.executable).parent}:{environment['PATH']}"
    shutil.copy(roles / "autoscaler" / "templates" / "api.toml.j2", work)
    shutil.copy(ROOT / "tests" / "render.yml", work)
    line = ["ansible-playbook", "--inventory", "localhost,", "--extra-vars", f"@{work / 'values.json'}", work / "render.yml"]
    done = subprocess.run(line, env=environment, cwd=work, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return work, asked


def test_the_database_takes_its_settings(rendered):
    work, asked = rendered
    found = database_settings.parse((work / "db.conf").read_text())
    assert (found.name, found.founder, found.hosts_at_first, found.replication) == ("tidepool-staging", "tidepool-staging-db-1", 1, 1)
    assert found.peers == ("10.20.0.2",)
    assert found.must_be_mounted
    assert found.application.password == (asked.secrets / "database-password").read_text()
    assert found.superuser.password != found.application.password


def test_members_get_their_settings_and_secrets_and_root_alone_the_latter(rendered):
    work, asked = rendered
    text = (work / "member.yaml").read_text()
    assert text.startswith("#cloud-config\n")
    files = {file["path"]: file for file in yaml.safe_load(text)["write_files"]}
    api = tomllib.loads(files["/etc/tidepool-api/config.toml"]["content"])
    assert api["store"] == "cassandra://seed-1.internal.staging.example.com/tidepool"
    assert (api["listen"], api["ops_listen"]) == ("0.0.0.0:8080", "0.0.0.0:9090")
    assert (api["cassandra"]["datacenter"], api["cassandra"]["replication_factor"]) == ("nyc3", 1)
    password = files["/etc/tidepool-api/credentials/cassandra-password"]
    assert (password["content"], password["permissions"]) == ((asked.secrets / "database-password").read_text(), "0600")
    authority = files["/etc/tidepool-api/credentials/cluster-ca"]
    assert (authority["content"], authority["permissions"]) == ((asked.secrets / "ca.pem").read_text(), "0600")
    assert files["/etc/default/metricbeat"]["content"] == "ELASTICSEARCH_URL=http://monitoring.internal.staging.example.com:9200\n"
    # What must stay here.
    for name in ("ca.key", "node.key", "id_ed25519", "database-superuser-password"):
        assert (asked.secrets / name).read_text().strip() not in text


def test_a_volume_is_mounted_by_the_name_that_digitalocean_gives_it(rendered):
    text = (rendered[0] / "volume.mount").read_text()
    assert "What=/dev/disk/by-id/scsi-0DO_Volume_tidepool-staging-db-1\nWhere=/var/lib/cassandra\n" in text


@pytest.mark.skipif(PROGRAM is None, reason="neither tofu nor terraform is here")
@pytest.mark.parametrize("api_url", [None, "http://127.0.0.1:7780"])
def test_the_autoscaler_takes_its_configuration(tmp_path, api_url):
    program = autoscaler_program()
    if program is None:
        pytest.skip("tidepool-autoscaler is not built")
    shutil.copy(ROOT / "modules" / "autoscaler" / "autoscaler.toml.tftpl", tmp_path)
    pool = {"name": "api-staging", "min": 2, "max": 6, "image": "123", "size": "s-1vcpu-1gb", "cpu_target": 0.6, "in_secs": 300}
    values = {
        "elasticsearch_url": "http://monitoring.internal.staging.example.com:9200", "api_url": api_url, "region": "nyc3", "ops_port": 9090, "pool": pool,
        "vpc_id": "760e09ef-dc84-11e8-981e-3cfdfeaae000", "ssh_keys": ["512190", "3b:16:e4:bf:8b:00:8b:b8:59:8c:a9:d3:f0:19:fa:45"],
    }  # fmt: skip
    (tmp_path / "main.tf.json").write_text(json.dumps({"locals": {"values": values}, "output": {"config": {"value": '${templatefile("autoscaler.toml.tftpl", local.values)}'}}}))
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1", "TF_CLI_CONFIG_FILE": "/dev/null"}
    for words in (["init", "-input=false"], ["apply", "-auto-approve", "-input=false"]):
        subprocess.run([PROGRAM, *words], cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=True)
    text = subprocess.run([PROGRAM, "output", "-raw", "config"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout
    found = tomllib.loads(text)
    assert found["digitalocean"].get("base_url") == api_url
    assert found["pool"][0]["digitalocean"]["image"] == 123
    # On the host, the unit's credentials.
    (tmp_path / "secret_digitalocean-token").write_text("token")
    (tmp_path / "secret_member.yaml").write_text("#cloud-config\n")
    config = tmp_path / "config.toml"
    config.write_text(text.replace("/run/credentials/tidepool-autoscaler.service", str(tmp_path)).replace("/var/lib/tidepool-autoscaler", str(tmp_path)))
    done = subprocess.run([program, "check", "--config", config], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
