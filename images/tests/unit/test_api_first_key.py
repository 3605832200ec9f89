"""api-first-key with a tidepool-api of the test's own, which keeps its keys in a file."""

import os
import pathlib
import subprocess

import pytest

PROGRAM = pathlib.Path(__file__).parents[2] / "roles/api/files/api-first-key"
# `keys list` fails where there is no store, `keys create` where the name is taken, and both where STORE is `down`, or
# the configuration `wrong`.
FAKE = """#!/bin/sh
if [ "$STORE" = wrong ]; then echo 'config.toml: Permission denied' >&2; exit 64; fi
if [ "$STORE" = down ]; then echo 'no answer' >&2; exit 1; fi
case "$1 $2" in
  'keys list') [ -e "$STORE" ] || { echo 'no store' >&2; exit 1; }; cat "$STORE" ;;
  'keys create') if [ -n "$FASTER" ]; then echo '[{"name":"first"}]' >"$STORE"; echo tp_useless; exit 1; fi
    echo '[{"name":"first"}]' >"$STORE"; echo tp_secret ;;
esac
"""


@pytest.fixture
def run(tmp_path):
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    fake = bin_dir / "tidepool-api"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    (tmp_path / "state").mkdir()

    def start(**more):
        variables = {"PATH": f"{bin_dir}:{os.environ['PATH']}", "STATE_DIRECTORY": str(tmp_path / "state"), "STORE": str(tmp_path / "store")}
        return subprocess.run([PROGRAM], env=variables | {"FASTER": ""} | more, capture_output=True, text=True, check=False)

    return start


def left(tmp_path):
    return sorted(path.name for path in (tmp_path / "state").iterdir())


@pytest.mark.parametrize("store", [None, "[]"])
def test_a_store_without_keys_gets_one(run, tmp_path, store):
    if store:
        (tmp_path / "store").write_text(store)
    assert run().returncode == 0
    assert (tmp_path / "state/first-key").read_text() == "tp_secret\n"
    assert left(tmp_path) == ["first-key", "first-key-asked"]


def test_why_a_store_can_not_be_looked_into_is_said(run):
    """A cluster that isn't there is waited for, for a minute or more."""
    assert run().stderr == "no store\n"


def test_a_store_with_keys_is_left_alone(run, tmp_path):
    (tmp_path / "store").write_text('[{"name":"web"}]')
    assert run().returncode == 0
    assert left(tmp_path) == ["first-key-asked"]


def test_it_asks_once_for_each_disk(run, tmp_path):
    assert run().returncode == 0
    (tmp_path / "state/first-key").unlink()
    (tmp_path / "store").write_text("[]")
    assert run().returncode == 0
    assert left(tmp_path) == ["first-key-asked"]


def test_a_key_that_another_host_made_meanwhile_counts(run, tmp_path):
    assert run(FASTER="yes").returncode == 0
    assert left(tmp_path) == ["first-key-asked"]


def test_a_store_that_is_away_is_asked_again_at_the_next_start(run, tmp_path):
    assert run(STORE="down").returncode != 0
    assert left(tmp_path) == []


def test_a_configuration_that_is_wrong_is_left_to_the_service_to_refuse(run, tmp_path):
    """Which systemd does not start again, as it would this program."""
    assert run(STORE="wrong").returncode == 0
    assert left(tmp_path) == []


def test_who_does_not_want_it_says_so(run, tmp_path):
    assert run(FIRST_KEY="no").returncode == 0
    assert left(tmp_path) == []
