"""Services take new settings also when the run that wrote them was killed before it restarted them."""

import datetime
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Says when the unit began, and notes what else it is asked for.
SYSTEMCTL = """#!/bin/sh
case "$*" in
*ExecMainStartTimestamp*) cat "$0.began" ;;
"show "*) printf 'LoadState=loaded\\nActiveState=active\\n' ;;
*) echo "$*" >>"$0.log" ;;
esac
"""


@pytest.fixture
def host(tmp_path):
    made = tmp_path / "systemctl"
    made.write_text(SYSTEMCTL)
    made.chmod(0o755)
    (tmp_path / "config").write_text("new\n")
    return tmp_path


def restarted(host, began):
    """Which units are restarted where the first of them began then, counted from when the file was written; None: it never did."""
    written = (host / "config").stat().st_ctime
    text = "" if began is None else datetime.datetime.fromtimestamp(written + began, datetime.timezone.utc).strftime("%a %Y-%m-%d %H:%M:%S.%f UTC")
    (host / "systemctl.began").write_text(text + "\n")
    values = {"restart_files": [str(host / "config")], "restart_units": ["first.service", "second.service"], "ansible_python_interpreter": sys.executable}
    environment = {
        **os.environ, "ANSIBLE_HOME": str(host / "ansible"), "ANSIBLE_ROLES_PATH": str(ROOT / "configure" / "roles"), "ANSIBLE_LOCALHOST_WARNING": "False",
        "PATH": f"{host}:{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    line = ["ansible-playbook", "--inventory", "localhost,", "--extra-vars", json.dumps(values), ROOT / "tests" / "restart.yml"]
    done = subprocess.run(line, env=environment, cwd=host, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    log = host / "systemctl.log"
    return log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize(("began", "due"), [(-0.2, True), (0.2, False), (None, True)], ids=["before the file", "after it", "never"])
def test_a_service_that_began_before_its_settings_were_written_is_restarted(host, began, due):
    """Whoever wrote them: this run has not."""
    assert restarted(host, began) == (["restart first.service", "restart second.service"] if due else [])
