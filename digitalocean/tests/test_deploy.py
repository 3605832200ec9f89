"""The parts of deploy.sh that decide something, without a cloud."""

import datetime
import json
import os
import pathlib
import stat
import struct
import subprocess
import sys

import pytest
from deploy import configure, keys, leftovers, needs, outcome, pool, progress, settings, smoke, ssh, terraform, tools, versions
from deploy.locking import only_run

ROOT = pathlib.Path(__file__).parents[1]
RUNBOOKS = ROOT.parent / "docs" / "runbooks"


@pytest.fixture
def given(tmp_path):
    """Variables of a user who has said everything."""
    return {
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "PATH": os.environ["PATH"],
        "DIGITALOCEAN_TOKEN": "canary-token",
        "DOMAIN": "staging.example.com",
        "SSH_ALLOW": "203.0.113.7/32, 198.51.100.0/24",
        "MANIFESTS": str(tmp_path / "manifests"),
    }


def manifests(folder):
    folder.mkdir(parents=True)
    for image in needs.IMAGES:
        (folder / f"{image}.json").write_text("{}")


class TestSettings:
    def test_what_was_said_once_is_known_afterwards(self, given):
        first = settings.read("staging", given)
        settings.make_folder(first)
        settings.keep(first)
        again = settings.read("staging", {name: given[name] for name in ("HOME", "XDG_DATA_HOME")})
        assert (again.domain, again.ssh_allowed_ranges) == ("staging.example.com", ["203.0.113.7/32", "198.51.100.0/24"])
        kept = (first.folder / "settings.json").read_text()
        assert "canary" not in kept

    def test_folders_and_files_are_the_owners_alone(self, given):
        made = settings.read("staging", given)
        settings.make_folder(made)
        settings.keep(made)
        assert stat.S_IMODE(made.folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((made.folder / "settings.json").stat().st_mode) == 0o600

    @pytest.mark.parametrize("name", ["", "../prod", "Prod", "p", "a b", "x" * 17, "prod-eu", "prod-"])
    def test_names_that_are_none_are_refused(self, given, name):
        with pytest.raises(outcome.Usage, match="not the name of an environment"):
            settings.read(name, given)

    def test_an_environment_without_a_file_is_refused(self, given):
        with pytest.raises(outcome.Usage, match="there is no digitalocean/elsewhere.tfvars"):
            settings.read("elsewhere", given)

    def test_an_unknown_cloud_is_refused(self, given):
        with pytest.raises(outcome.Usage, match="there is no cloud 'gce'"):
            settings.read("staging", {**given, "CLOUD": "gce"})

    @pytest.mark.parametrize("url", ["127.0.0.1:7780", "localhost:7780", "https://", "ftp://127.0.0.1"])
    def test_an_address_that_is_none_is_refused(self, given, url):
        with pytest.raises(outcome.Usage, match="DIGITALOCEAN_API_URL=.* is not the address of an API"):
            settings.read("staging", {**given, "DIGITALOCEAN_API_URL": url})

    def test_secrets_never_go_into_the_repository(self, given):
        with pytest.raises(outcome.Usage, match="where secrets must not be"):
            settings.read("staging", {**given, "TIDEPOOL_DEPLOY_DIR": str(ROOT / "state")})

    def test_clouds_and_environments_are_apart(self, given):
        folders = {settings.read(name, {**given, "CLOUD": cloud}).folder for name in ("dev", "prod") for cloud in settings.CLOUDS}
        assert len(folders) == 4

    def test_tokens_are_not_shown(self, given):
        assert "canary" not in repr(settings.read("staging", given))


class TestNeeds:
    def test_all_that_is_missing_is_said_at_once(self, tmp_path):
        bare = {"HOME": str(tmp_path), "PATH": "/nonexistent", "TIDEPOOL_PYTHON": "/nonexistent/python", "MANIFESTS": str(tmp_path)}
        with pytest.raises(outcome.Stopped) as stopped:
            needs.check(settings.read("staging", bare), bare)
        for part in ("OpenTofu or Terraform", "Ansible", "DIGITALOCEAN_TOKEN", "DOMAIN", "SSH_ALLOW", "images of api, db, monitoring, autoscaler"):
            assert part in stopped.value.message
        assert (stopped.value.status, stopped.value.page) == (65, "docs/runbooks/missing-needs.md")

    def test_a_local_cloud_needs_its_address_and_nothing_of_an_account(self, tmp_path, given):
        del given["DIGITALOCEAN_TOKEN"], given["DOMAIN"], given["SSH_ALLOW"]
        asked = settings.read("staging", {**given, "CLOUD": "local"})
        manifests(asked.manifests)
        found = " ".join(needs.missing(asked, {"TIDEPOOL_PYTHON": "/nonexistent/python"}))
        assert "DIGITALOCEAN_API_URL" in found
        assert "TOKEN:" not in found and "DOMAIN" not in found and "images of" not in found

    @pytest.mark.parametrize(
        ("said", "version"),
        [
            ("Terraform v1.11.4\non linux_amd64\n", ("Terraform", (1, 11))),
            ("╷\n│ Warning: something\n╵\n\nOpenTofu v1.12.6\non linux_amd64\n", ("OpenTofu", (1, 12))),
            ("Terraform v2.0.0-alpha1\n", ("Terraform", (2, 0))),
            ("bash: no such program", None),
            ("", None),
        ],
    )
    def test_versions_are_read(self, said, version):
        assert needs.version_of(said) == version


class TestKeys:
    def test_they_are_made_once_and_are_the_owners_alone(self, tmp_path):
        made = keys.make(tmp_path)
        assert set(made) == {"id_ed25519", *keys.PASSWORDS, "ca.pem", "node.pem"}
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        assert set(before) == {"id_ed25519", "id_ed25519.pub", "ca.key", "ca.pem", "node.key", "node.pem", *keys.PASSWORDS}
        assert keys.make(tmp_path) == []
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
        assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}

    def test_the_authority_vouches_for_the_hosts(self, tmp_path):
        keys.make(tmp_path)
        line = ["openssl", "verify", "-CAfile", tmp_path / "ca.pem", tmp_path / "node.pem"]
        assert subprocess.run(line, capture_output=True, check=False).returncode == 0
        text = subprocess.run(["openssl", "x509", "-in", tmp_path / "node.pem", "-noout", "-text"], capture_output=True, text=True, check=True).stdout
        assert "Version: 3" in text and "TLS Web Server Authentication, TLS Web Client Authentication" in text
        # What Cassandra reads: PKCS #8.
        assert (tmp_path / "node.key").read_text().startswith("-----BEGIN PRIVATE KEY-----")

    def test_a_half_that_an_interrupt_left_is_made_whole(self, tmp_path):
        keys.make(tmp_path)
        authority = (tmp_path / "ca.pem").read_bytes()
        (tmp_path / "node.pem").unlink()
        assert keys.make(tmp_path) == ["node.pem"]
        assert (tmp_path / "ca.pem").read_bytes() == authority

    def test_the_public_half_of_an_ssh_key_is_made_of_its_private_one(self, tmp_path):
        """Hosts let the old key in."""
        keys.make(tmp_path)
        private, public = (tmp_path / "id_ed25519").read_bytes(), (tmp_path / "id_ed25519.pub").read_text().split()
        (tmp_path / "id_ed25519.pub").unlink()
        assert keys.make(tmp_path) == []
        assert (tmp_path / "id_ed25519").read_bytes() == private
        assert (tmp_path / "id_ed25519.pub").read_text().split()[:2] == public[:2]

    @pytest.mark.parametrize("gone", [["ca.pem"], ["ca.pem", "ca.key"]])
    def test_an_authority_that_has_signed_is_not_made_anew(self, tmp_path, gone):
        keys.make(tmp_path)
        for name in gone:
            (tmp_path / name).unlink()
        with pytest.raises(outcome.Stopped, match="ca.pem, to which node.pem belongs"):
            keys.make(tmp_path)

    @pytest.mark.parametrize(("private", "public"), keys.PAIRS)
    def test_a_private_half_that_is_gone_is_not_made_anew(self, tmp_path, private, public):
        """Hosts have the public one: they would not let the new key in, nor trust what it signs."""
        keys.make(tmp_path)
        (tmp_path / private).unlink()
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        with pytest.raises(outcome.Stopped, match=f"{private}, to which {public} belongs") as stopped:
            keys.make(tmp_path)
        assert stopped.value.status == 65
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


class TestLock:
    def test_two_runs_of_one_environment_are_refused(self, tmp_path):
        with only_run(tmp_path), pytest.raises(outcome.Stopped, match="another run of this environment") as stopped, only_run(tmp_path):
            pass
        assert stopped.value.status == 75
        with only_run(tmp_path):
            pass

    def test_what_a_killed_run_had_started_is_waited_for(self, tmp_path):
        """A run that is killed leaves a program behind, which has the lock; the next run goes on when that is done."""
        code = (
            "import os, pathlib, subprocess, sys\n"
            "from deploy.locking import only_run\n"
            "with only_run(pathlib.Path(sys.argv[1])) as lock:\n"
            "    subprocess.Popen(['sleep', '2'], pass_fds=[lock])\n"
            "    os.kill(os.getpid(), 9)\n"
        )
        subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, check=False)
        with pytest.raises(outcome.Stopped, match="not done within 0 s"), only_run(tmp_path, orphans_secs=0):
            pass
        with only_run(tmp_path, orphans_secs=60):
            pass


def change(address, kind, *actions):
    return {"address": address, "type": kind, "change": {"actions": list(actions)}}


class TestPlans:
    PLAN = {
        "resource_changes": [
            change("a", "digitalocean_droplet", "no-op"),
            change("b", "digitalocean_tag", "create"),
            change("c", "digitalocean_droplet", "delete", "create"),
            change("d", "digitalocean_certificate", "create", "delete"),
            change("e", "digitalocean_volume", "delete"),
            change("f", "digitalocean_domain", "read"),
            change("g", "digitalocean_record", "update"),
        ]
    }

    def test_changes_are_read(self):
        assert [(change.address, change.verb) for change in terraform.changes_of(self.PLAN)] == [
            ("b", "create"), ("c", "replace"), ("d", "replace"), ("e", "delete"), ("g", "update"),
        ]  # fmt: skip

    def test_only_what_has_data_or_a_known_address_is_a_loss(self):
        assert terraform.losses(terraform.changes_of(self.PLAN)) == [("c", "replace"), ("e", "delete")]

    def test_a_summary_counts(self):
        assert terraform.summary(terraform.changes_of(self.PLAN)) == "1 to create, 1 to update, 2 to replace, 1 to delete"
        assert terraform.summary([]) == "nothing to change"

    def test_resources_of_all_modules_are_found_by_the_id_that_the_api_has(self):
        resource = {"address": "a", "mode": "managed", "type": "digitalocean_vpc", "values": {"id": "1"}}
        certificate = {"address": "module.b.c", "mode": "managed", "type": "digitalocean_certificate", "values": {"id": "its name", "uuid": "2"}}
        data = {"address": "data.d", "mode": "data", "type": "digitalocean_domain", "values": {"id": "3"}}
        state = {"values": {"root_module": {"resources": [resource], "child_modules": [{"resources": [certificate, data]}]}}}
        assert terraform.resources_of(state) == [("a", "digitalocean_vpc", "1"), ("module.b.c", "digitalocean_certificate", "2")]
        assert terraform.resources_of({}) == []

    def test_no_trace_of_calls_is_asked_for(self, given):
        """TF_LOG=trace would write user data and tokens."""
        made = terraform.environment_of(settings.read("staging", given), {"TF_LOG": "trace", "TF_LOG_PATH": "x", "TF_CLI_ARGS_plan": "-y", "HOME": "h"})
        assert not [name for name in made if name.startswith(("TF_LOG", "TF_CLI_ARGS"))]


SINCE = datetime.datetime(2026, 11, 30, 12, 0, tzinfo=datetime.timezone.utc)


class TestLeftovers:
    @pytest.mark.parametrize(
        ("found", "is_one"),
        [
            ({"name": "tidepool-staging", "id": "1", "created_at": "2026-11-30T12:00:05Z"}, True),
            ({"name": "tidepool-staging-db-1", "id": 7, "created_at": "2026-11-30T12:00:05Z"}, True),
            ({"name": "tidepool-staging-deploy", "id": 8}, True),
            ({"name": "tidepool-staging", "id": "known", "created_at": "2026-11-30T12:00:05Z"}, False),
            ({"name": "tidepool-staging2", "id": "1", "created_at": "2026-11-30T12:00:05Z"}, False),
            ({"name": "tidepool-prod", "id": "1", "created_at": "2026-11-30T12:00:05Z"}, False),
            ({"name": "tidepool-staging", "id": "1", "created_at": "2026-11-30T11:00:00Z"}, False),
        ],
    )
    def test_only_what_that_apply_made_and_nobody_noted_is_one(self, found, is_one):
        assert leftovers.is_leftover(found, "tidepool-staging", {"known"}, SINCE) is is_one

    def test_a_volume_that_nobody_noted_stops_the_run(self, given):
        class Account:
            def list(self, path, _key):
                return [{"name": "tidepool-staging-db-1", "id": "v"}] if path == "/v2/volumes" else []

        with pytest.raises(outcome.Stopped, match="it may hold data") as stopped:
            leftovers.remove(Account(), settings.read("staging", given), [], leftovers.Apply(SINCE, (), (), ()), print)
        assert stopped.value.status == 68


HOSTS = {
    "db-1": {"role": "db", "id": "11", "name": "tidepool-staging-db-1", "private": "10.20.0.2", "public": "", "volume": "tidepool-staging-db-1"},
    "monitoring": {"role": "monitoring", "id": "12", "name": "m", "private": "10.20.0.3", "public": "", "volume": "tidepool-staging-monitoring"},
    "autoscaler": {"role": "autoscaler", "id": "13", "name": "a", "private": "10.20.0.4", "public": "198.18.0.9", "volume": None},
}
OUTPUTS = {
    "hosts": HOSTS,
    "names": {"db-1.internal.staging.example.com": "10.20.0.2"},
    "monitoring": {"url": "http://monitoring.internal.staging.example.com:9200", "days": 7},
    "database": {
        "cluster": "tidepool-staging", "founder": "tidepool-staging-db-1", "count": 1, "replication": 1, "heap": "auto",
        "seeds": ["seed-1.internal.staging.example.com"], "datacenter": "nyc3",
    },
    "pool": {"name": "api", "min": 1, "max": 2, "image": "9", "public_port": 8080, "operations_port": 9090},
    "autoscaler_config": "tick_secs = 5\n",
}  # fmt: skip


class TestHosts:
    def test_the_way_leads_over_the_one_with_a_public_address(self, given):
        text = ssh.config(settings.read("staging", given), HOSTS)
        assert "Host autoscaler\n  HostKeyAlias droplet-13\n  HostName 198.18.0.9\n" in text
        assert "Host db-1\n  HostKeyAlias droplet-11\n  HostName 10.20.0.2\n  ProxyJump autoscaler\n" in text

    def test_sockets_of_shared_connections_are_in_a_folder_of_the_users_own(self, tmp_path):
        runtime = {"XDG_RUNTIME_DIR": str(tmp_path)}
        folder = tmp_path / "tidepool"
        if len(str(folder)) > ssh.SOCKETS_PATH_MAX:
            runtime, folder = {}, tmp_path / f"tidepool-{os.getuid()}"
        for _ in range(2):
            assert ssh.sockets_folder(runtime, tmp_path) == folder
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    def test_a_runtime_folder_that_is_gone_or_too_long_is_not_taken(self, tmp_path):
        long = tmp_path / ("x" * ssh.SOCKETS_PATH_MAX)
        long.mkdir()
        for runtime in (tmp_path / "gone", long):
            assert ssh.sockets_folder({"XDG_RUNTIME_DIR": str(runtime)}, tmp_path) == tmp_path / f"tidepool-{os.getuid()}"

    @pytest.mark.parametrize("kind", ["writable", "readable", "file", "link"])
    def test_a_place_for_sockets_that_others_may_use_stops_the_run(self, tmp_path, kind):
        """Anybody can make it before, in a folder that is everybody's."""
        folder = tmp_path / f"tidepool-{os.getuid()}"
        if kind == "file":
            folder.touch(mode=0o600)
        elif kind == "link":
            (tmp_path / "elsewhere").mkdir(mode=0o700)
            folder.symlink_to(tmp_path / "elsewhere")
        else:
            folder.mkdir()
            folder.chmod(0o722 if kind == "writable" else 0o750)
        with pytest.raises(outcome.Stopped) as stopped:
            ssh.sockets_folder({}, tmp_path)
        assert stopped.value.status == 65

    @pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to somebody else")
    def test_a_place_for_sockets_that_is_somebody_elses_stops_the_run(self, tmp_path):
        folder = tmp_path / "tidepool-0"
        folder.mkdir(mode=0o700)
        os.chown(folder, 65534, 65534)
        with pytest.raises(outcome.Stopped, match="remove it, or set XDG_RUNTIME_DIR"):
            ssh.sockets_folder({}, tmp_path)

    def test_the_inventory_has_a_group_for_each_role(self):
        found = configure.inventory(HOSTS)["all"]["children"]
        assert set(found) == {"db_hosts", "monitoring_hosts", "autoscaler_hosts"}
        assert found["db_hosts"]["hosts"]["db-1"] == {"host_role": "db", "host_volume": "tidepool-staging-db-1"}

    def test_variables_of_the_playbooks_hold_no_secret(self, given):
        asked = settings.read("staging", given)
        settings.make_folder(asked)
        keys.make(asked.secrets)
        text = json.dumps(configure.variables(asked, OUTPUTS))
        assert "canary" not in text
        for name in keys.PASSWORDS:
            assert (asked.secrets / name).read_text() not in text


class Hosts:
    """What ssh would say, one answer after the other, the last one again and again."""

    def __init__(self, answers):
        self.answers, self.asked = answers, []

    def run(self, _host, command, address=None, secs=None):
        self.asked.append(command)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class TestPool:
    POOL = {"min": 2, "members": [{"name": "a", "state": "serving", "image": "9"}, {"name": "b", "state": "booting", "image": "8"}]}

    def test_members_of_another_image_are_found(self):
        assert pool.outdated(self.POOL, 9) == ["b"]
        assert pool.outdated(self.POOL, "8") == ["a"]

    @pytest.mark.parametrize(
        ("said", "message"),
        [
            ((0, "", ""), None),
            ((1, "", "there is no image 9"), "the rollout was not taken: there is no image 9"),
        ],
    )
    def test_a_rollout_is_ordered_and_waited_for(self, said, message):
        done = {"min": 1, "members": [{"name": "c", "state": "serving", "image": "9"}], "rollout": {"back": False}}
        ssh_of = Hosts([said, *[(0, json.dumps({"pools": [{"name": "api", **pool_status}]}), "") for pool_status in (self.POOL, done)]])
        if message is None:
            pool.roll_out(ssh_of, "api", "9", pause=0)
        else:
            with pytest.raises(outcome.Stopped, match=message):
                pool.roll_out(ssh_of, "api", "9", pause=0)
        assert ssh_of.asked[0] == "tidepool-autoscaler rollout api --image 9 --config /etc/tidepool-autoscaler/config.toml"

    def test_a_rollout_that_goes_back_is_a_failure_with_its_cause(self):
        back = {"name": "api", **self.POOL, "rollout": {"back": True, "cause": "2 of 2 new members failed"}}
        ssh_of = Hosts([(0, "", ""), (0, json.dumps({"pools": [back]}), "")])
        with pytest.raises(outcome.Stopped, match="went back: 2 of 2 new members failed") as stopped:
            pool.roll_out(ssh_of, "api", "9", pause=0)
        assert stopped.value.status == 72

    def test_the_first_key_is_kept_before_it_is_removed_and_asked_for_once(self, given):
        asked = settings.read("staging", given)
        settings.make_folder(asked)
        serving = {"members": [{"name": "a", "state": "serving", "address": "10.0.0.2"}]}
        ssh_of = Hosts([(0, "tp_abc_DEF-1\n", ""), (0, "", "")])
        assert pool.ensure_key(ssh_of, asked, serving) == "tp_abc_DEF-1"
        assert ssh_of.asked[1] == "rm -f /var/lib/tidepool-api/first-key"
        assert stat.S_IMODE((asked.secrets / "api-key").stat().st_mode) == 0o600
        assert pool.ensure_key(Hosts([]), asked, serving) == "tp_abc_DEF-1"

    def test_a_store_whose_first_key_is_gone_gets_another(self, given):
        asked = settings.read("staging", given)
        settings.make_folder(asked)
        ssh_of = Hosts([(1, "", ""), (0, "tp_other\n", "")])
        assert pool.ensure_key(ssh_of, asked, {"members": [{"name": "a", "state": "serving", "address": "10.0.0.2"}]}) == "tp_other"
        assert "tidepool-api keys create" in ssh_of.asked[1]

    def test_it_is_described_for_people(self):
        assert pool.describe(self.POOL) == "1 of 2 serve (a serving, b booting)"
        assert "says nothing" in pool.describe(None)


def answer(number, records, flags=0x8180):
    """An answer of DNS to a question for a.test."""
    text = smoke.question(number, "a.test")
    text = struct.pack(">6H", number, flags, 1, len(records), 0, 0) + text[12:]
    for kind, data in records:
        text += b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 30, len(data)) + data
    return text


class TestNames:
    def test_the_first_address_is_taken_past_other_records(self):
        text = answer(7, [(5, b"\x01b\xc0\x0e"), (1, bytes([198, 18, 1, 2]))])
        assert smoke.first_address(text, 7, "a.test") == "198.18.1.2"

    @pytest.mark.parametrize(
        "text",
        [answer(7, [], flags=0x8183), answer(7, []), answer(8, [(1, b"abcd")]), b"", b"\x00" * 12, answer(7, [(1, b"abcd")])[:-3]],
        ids=["NXDOMAIN", "no record", "of another question", "empty", "zeros", "cut"],
    )
    def test_an_answer_without_one_says_so(self, text):
        with pytest.raises(smoke.NotYet):
            smoke.first_address(text, 7, "a.test")


class TestVersions:
    def test_only_a_green_environment_is_promoted(self, tmp_path):
        with pytest.raises(outcome.Stopped, match="staging is not green") as stopped:
            versions.green(tmp_path, "staging")
        assert stopped.value.status == 77
        versions.note_green(tmp_path, {"api": {"version": "1.2.3", "id": "9"}})
        assert versions.green(tmp_path, "staging") == {"api": "1.2.3"}
        versions.forget_green(tmp_path)
        with pytest.raises(outcome.Stopped):
            versions.green(tmp_path, "staging")

    def test_what_is_wanted_is_kept(self, tmp_path):
        assert versions.wanted(tmp_path) == {}
        versions.want(tmp_path, {"api": "1.2.3"})
        assert versions.wanted(tmp_path) == {"api": "1.2.3"}


class TestProgress:
    def test_each_part_has_its_seconds_also_when_it_fails(self):
        now, said = iter([0, 3, 10, 14]), []
        shown = progress.Progress(clock=lambda: next(now), write=said.append)
        with shown.part("plan"):
            pass
        with pytest.raises(ValueError), shown.part("apply"):
            raise ValueError
        assert said == ["[1] plan …", "[1] plan: done after 3 s", "[2] apply …", "[2] apply: stopped after 4 s"]
        assert shown.table().splitlines()[-1] == "       7 s  all"

    def test_waiting_ends_with_its_deadline(self):
        now = iter(range(100))
        assert progress.until(lambda: None, 5, clock=lambda: next(now), sleep=lambda _: None) is None
        assert progress.until(lambda: "there", 5) == "there"


class TestPrograms:
    def test_output_and_status_come_back(self):
        assert tools.run(["sh", "-c", "echo out; echo err >&2; exit 3"]) == (3, "out\nerr\n")

    def test_warnings_stay_apart_where_json_is_asked_for(self):
        assert tools.run(["sh", "-c", "echo '{}'; echo warning >&2"], apart=True) == (0, "{}\n")
        assert tools.run(["sh", "-c", "echo error >&2; exit 1"], apart=True) == (1, "error\n")

    def test_an_interrupt_is_passed_on_and_what_runs_may_end_in_order(self, tmp_path):
        """Terraform writes down what it has made when it is asked to stop, and must not be killed instead."""
        code = (
            "import signal, sys\n"
            "from deploy.__main__ import interrupt\n"
            "from deploy.tools import run\n"
            "signal.signal(signal.SIGTERM, interrupt)\n"
            "run(['sh', '-c', 'trap \"echo >noted; exit 0\" INT; echo >begun; while :; do sleep 0.1; done'], cwd=sys.argv[1])\n"
        )
        process = subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=ROOT, stderr=subprocess.PIPE)
        assert progress.until((tmp_path / "begun").exists, 30, pause=0.05)
        process.terminate()
        _, error = process.communicate(timeout=30)
        assert (tmp_path / "noted").exists()
        assert b"KeyboardInterrupt" in error

    def test_a_second_interrupt_is_not_passed_on(self, tmp_path):
        """Terraform takes a second one for the wish to be ended at once, and then notes nothing."""
        child = "trap 'echo >>noted' INT; echo >begun; until [ -e finish ]; do sleep 0.1; done; sleep 1"
        code = (
            "import signal, sys\n"
            "from deploy.__main__ import interrupt\n"
            "from deploy.tools import run\n"
            "def taken(*_):\n"
            "    print('taken', flush=True)\n"
            "    interrupt()\n"
            "signal.signal(signal.SIGTERM, taken)\n"
            "run(['sh', '-c', sys.argv[2]], cwd=sys.argv[1])\n"
        )
        line = [sys.executable, "-c", code, tmp_path, child]
        process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert progress.until((tmp_path / "begun").exists, 30, pause=0.05)
        process.terminate()
        assert progress.until((tmp_path / "noted").exists, 30, pause=0.05)
        process.terminate()
        assert [process.stdout.readline() for _ in range(2)] == ["taken\n"] * 2
        (tmp_path / "finish").touch()
        _, error = process.communicate(timeout=30)
        assert (tmp_path / "noted").read_text() == "\n"
        assert "KeyboardInterrupt" in error


class TestRunbooks:
    @pytest.mark.parametrize("way", outcome.WAYS)
    def test_each_way_to_stop_has_a_page_that_names_its_status(self, way):
        text = (RUNBOOKS / f"{way}.md").read_text()
        assert f"exit status {outcome.WAYS[way]}" in text

    def test_statuses_are_different(self):
        assert len(set(outcome.WAYS.values())) == len(outcome.WAYS)


def test_bad_usage_ends_with_64():
    for words in ([], ["deploy"], ["fly", "staging"], ["deploy", "../x"]):
        done = subprocess.run([ROOT / "deploy.sh", *words], capture_output=True, text=True, check=False)
        assert (words, done.returncode) == (words, 64)


class TestProvider:
    @pytest.fixture
    def helper(self, tmp_path):
        file = tmp_path / "tofu"
        file.write_text("#!/bin/sh\necho said on the side >&2\nprintf 'TOFU=%s\\nTF_CLI_CONFIG_FILE=%s\\nPROVIDER=stand-in\\n' /some/tofu '/a\\ b/c.tfrc'\n")
        file.chmod(0o755)
        return file

    def test_what_the_helper_says_is_taken(self, helper):
        found = tools.with_provider({"PATH": os.environ["PATH"]}, helper)
        assert (found["TERRAFORM"], found["TF_CLI_CONFIG_FILE"]) == ("/some/tofu", "/a b/c.tfrc")

    def test_what_the_user_says_stays(self, helper):
        assert tools.with_provider({"TERRAFORM": "mine"}, helper) == {"TERRAFORM": "mine"}

    def test_a_helper_that_fails_changes_nothing(self):
        assert tools.with_provider({"PATH": ""}, "/bin/false") is None
