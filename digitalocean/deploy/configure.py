"""Runs the playbooks of digitalocean/configure on the fixed hosts: what they are told is in a file, and no secret is in that file."""

import json

from .needs import ansible_python
from .outcome import Stopped
from .settings import ROOT
from .ssh import control_arguments
from .tools import run

LINES_SHOWN = 40
SECS_MAX = 1800


def inventory(hosts):
    """Ansible's own form, from Terraform's output: a group for each role."""
    groups = {}
    for name, host in sorted(hosts.items()):
        variables = {"host_role": host["role"], "host_volume": host["volume"]}
        groups.setdefault(f"{host['role']}_hosts", {"hosts": {}})["hosts"][name] = variables
    return {"all": {"children": groups}}


def variables(settings, outputs):
    database, pool = outputs["database"], outputs["pool"]
    members = [host["private"] for _, host in sorted(outputs["hosts"].items()) if host["role"] == "db"]
    return {
        "host_names": outputs["names"],
        "host_elasticsearch_url": outputs["monitoring"]["url"],
        "monitoring_days": outputs["monitoring"]["days"],
        "monitoring_cluster": f"{database['cluster']}-monitoring",
        "database_secrets": str(settings.secrets),
        "database_cluster": database["cluster"],
        "database_founder": database["founder"],
        "database_count": database["count"],
        "database_replication": database["replication"],
        "database_heap": database["heap"],
        "database_peers": members,
        "autoscaler_secrets": str(settings.secrets),
        "autoscaler_config": outputs["autoscaler_config"],
        "autoscaler_seeds": database["seeds"],
        "autoscaler_datacenter": database["datacenter"],
        "autoscaler_replication": database["replication"],
        "autoscaler_public_port": pool["public_port"],
        "autoscaler_operations_port": pool["operations_port"],
        "autoscaler_elasticsearch_url": outputs["monitoring"]["url"],
    }


def play(settings, outputs, playbook, environment, pass_fds=()):
    """One playbook, to its end; its output is in the log."""
    folder = settings.folder
    (folder / "inventory.json").write_text(json.dumps(inventory(outputs["hosts"]), indent=2) + "\n", encoding="utf-8")
    (folder / "variables.json").write_text(json.dumps(variables(settings, outputs), indent=2) + "\n", encoding="utf-8")
    env = {
        **environment,
        "ANSIBLE_CONFIG": str(ROOT / "configure" / "ansible.cfg"),
        "ANSIBLE_HOME": str(folder / "ansible"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "ansible" / "tmp"),
        "ANSIBLE_SSH_ARGS": control_arguments(settings, environment),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_NOCOWS": "1",
        "AUTOSCALER_TOKEN": settings.autoscaler_token,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    program = ansible_python(environment).parent / "ansible-playbook"
    line = [program, "--inventory", folder / "inventory.json", "--extra-vars", f"@{folder / 'variables.json'}", ROOT / "configure" / f"{playbook}.yml"]
    path = settings.log(f"configure-{playbook}")
    with open(path, "w", encoding="utf-8") as log:
        status, _ = run(line, env=env, cwd=ROOT / "configure", log=log, secs=SECS_MAX, pass_fds=pass_fds)
    if status != 0:
        tail = "\n".join(path.read_text(encoding="utf-8").strip().splitlines()[-LINES_SHOWN:])
        raise Stopped("configuration-failed", f"the playbook {playbook} failed; all it said is in {path}:\n{tail}")
