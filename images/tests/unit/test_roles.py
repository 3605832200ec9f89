"""Roles by themselves, by Ansible on this machine, as far as they change nothing on it."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

IMAGES = pathlib.Path(__file__).parents[2]
# A host that Ansible has asked who it is.
TRIXIE = {"distribution": "Debian", "distribution_version": "13.1", "distribution_release": "trixie", "architecture": "x86_64"}
# As apt's own: what it does not know ends with 100.
APT_CACHE = '#!/bin/sh\n[ "$3" = openjdk-21-jre-headless ] || { echo "E: No packages found" >&2; exit 100; }\n'


def run(folder, *tasks, **variables):
    """Does the tasks with the roles at hand and `folder` first on the PATH."""
    facts = {"name": "Know who the host is", "ansible.builtin.set_fact": TRIXIE | {"cacheable": True}}
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": variables, "tasks": [facts, *tasks]}
    play["environment"] = {"PATH": f"{folder}:{os.environ['PATH']}"}
    # JSON is YAML.
    folder.joinpath("play.yml").write_text(json.dumps([play]))
    environment = os.environ | {"ANSIBLE_CONFIG": str(IMAGES / "ansible.cfg"), "ANSIBLE_ROLES_PATH": str(IMAGES / "roles"), "ANSIBLE_NOCOLOR": "1"}
    environment |= {"ANSIBLE_HOME": str(folder / "ansible"), "ANSIBLE_REMOTE_TEMP": str(folder / "remote")}
    program = pathlib.Path(sys.executable).with_name("ansible-playbook")
    line = [program, "--inventory", "localhost,", folder / "play.yml"]
    return subprocess.run(line, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300, check=False)


# What needs Java 17, by which role's tasks, and how that role is told where it is.
JAVA = [
    ("db", "main", "Cassandra 5.0", "db_java_home", {"db_cassandra_source": "apt"}),
    ("monitoring", "jars", "Elasticsearch from jars", "monitoring_java_home", {"monitoring_elasticsearch_source": "/jars"}),
]


@pytest.mark.parametrize(("role", "tasks", "program", "home", "variables"), JAVA)
def test_a_system_without_java_17_is_refused_with_what_to_do(tmp_path, role, tasks, program, home, variables):
    # The second one ends a role that goes on, before it installs anything on this machine.
    for name, script in {"apt-cache": APT_CACHE, "dpkg-query": "#!/bin/sh\nexit 1\n"}.items():
        tmp_path.joinpath(name).write_text(script)
        tmp_path.joinpath(name).chmod(0o755)
    include = {"name": "Make the host", "ansible.builtin.include_role": {"name": role, "tasks_from": tasks}}
    done = run(tmp_path, include, **variables, **{home: "/nonexistent"})
    said = " ".join(done.stdout.split())
    sentence = (
        f"{program} needs Java 17, and Debian 13.1 (trixie) has no package openjdk-17-jre-headless: build this image on Debian 12 (bookworm), "
        f"or put a Java 17 onto the host and say where in {home}"
    )
    assert done.returncode == 2, said
    assert sentence in said
    assert "Make a place for its manual" not in said


# Scripts that Ansible fills in; what a role's tasks say beside its defaults.
SCRIPTS = {
    "db": {"db_class_path": ["/usr/share/cassandra", "/usr/share/cassandra/lib"]},
    "monitoring": {},
}


def is_script(template):
    return template.read_text().startswith(("#!/usr/bin/env bash", "#!/bin/bash", "#!/bin/sh"))


def test_no_role_with_scripts_to_fill_in_is_left_out():
    assert {template.parts[-3] for template in IMAGES.glob("roles/*/templates/*.j2") if is_script(template)} == set(SCRIPTS)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed (Debian: apt-get install shellcheck)")
@pytest.mark.parametrize("role", SCRIPTS)
def test_scripts_are_in_order_once_they_are_filled_in(tmp_path, role):
    templates = [template for template in (IMAGES / "roles" / role / "templates").glob("*.j2") if is_script(template)]
    filled = tmp_path / "filled"
    filled.mkdir()
    tasks = [{"name": "Read the defaults", "ansible.builtin.include_vars": str(IMAGES / "roles" / role / "defaults" / "main.yml")}]
    for template in templates:
        fill = {"src": str(template), "dest": str(filled / template.stem), "mode": "0755"}
        tasks.append({"name": f"Fill in {template.name}", "ansible.builtin.template": fill})
    done = run(tmp_path, *tasks, **SCRIPTS[role])
    assert done.returncode == 0, done.stdout
    scripts = sorted(filled.iterdir())
    assert len(scripts) == len(templates)
    checked = subprocess.run(["shellcheck", "--", *scripts], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
