"""What a run needs: everything that is missing is found before anything is changed, and said at once."""

import os
import pathlib
import re
import shutil
import subprocess

from .outcome import Stopped
from .settings import REPOSITORY
from .tools import run, terraform_program

IMAGES = ("api", "db", "monitoring", "autoscaler")
TERRAFORM_MIN = {"Terraform": (1, 11), "OpenTofu": (1, 10)}
TOKENS = "https://cloud.digitalocean.com/account/api/tokens"


def version_of(said):
    """("Terraform", (1, 11)) of what `terraform version` writes; None of anything else."""
    found = re.search(r"^(Terraform|OpenTofu) v(\d+)\.(\d+)\.", said, re.M)
    return (found[1], (int(found[2]), int(found[3]))) if found else None


def terraform_problem(environment):
    program = terraform_program(environment)
    if program is None:
        return "OpenTofu or Terraform: install OpenTofu 1.10 or Terraform 1.11, or set TERRAFORM to where it is"
    status, said = run([program, "version"], env={**environment, "CHECKPOINT_DISABLE": "1"}, secs=60)
    found = version_of(said)
    if status != 0 or found is None:
        return f"{program} does not say its version: {said.strip()[:200]}"
    kind, version = found
    if version < TERRAFORM_MIN[kind]:
        wanted = ".".join(map(str, TERRAFORM_MIN[kind]))
        return f"{kind} {wanted} or later: {program} is {'.'.join(map(str, version))}"
    return None


def ansible_python(environment):
    """The Python that has Ansible: TIDEPOOL_PYTHON's, or of the environment that the images' pins make."""
    given = environment.get("TIDEPOOL_PYTHON")
    if given:
        return pathlib.Path(given)
    done = subprocess.run([REPOSITORY / "e2e" / "venv", "images"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return pathlib.Path(done.stdout.strip()) if done.returncode == 0 else None


def ansible_problem(environment):
    python = ansible_python(environment)
    if python is None or not (python.parent / "ansible-playbook").exists():
        return "Ansible: e2e/venv images makes it, with Python 3.11 and its module venv (Debian: apt-get install python3-venv)"
    return None


def missing(settings, environment, images=True):
    """Sentences about all that is missing; without `images`, for what needs none any more."""
    found = [terraform_problem(environment), ansible_problem(environment)]
    for program, package in (("ssh", "openssh-client"), ("ssh-keygen", "openssh-client"), ("openssl", "openssl")):
        if shutil.which(program, path=environment.get("PATH")) is None:
            found.append(f"{program} (Debian: apt-get install {package})")
    if not settings.token:
        found.append(f"DIGITALOCEAN_TOKEN: make a token that may read and write everything of {TOKENS}")
    if settings.cloud == "local" and not settings.api_url:
        found.append("DIGITALOCEAN_API_URL: where the local cloud listens, as `tidepool-local-cloud serve --hosts systemd` prints it")
    if not settings.domain:
        found.append("DOMAIN: the zone of this environment, such as DOMAIN=staging.example.com, delegated to ns1, ns2 and ns3.digitalocean.com")
    if not settings.ssh_allowed_ranges:
        found.append("SSH_ALLOW: from where ssh is let in, your own address first, such as SSH_ALLOW=203.0.113.7/32")
    if settings.variables and not settings.variables.is_file():
        found.append(f"VARIABLES: there is no file {settings.variables}")
    lacking = [image for image in IMAGES if images and not (settings.manifests / f"{image}.json").is_file()]
    if lacking:
        found.append(f"images of {', '.join(lacking)}: make images CLOUD={settings.cloud} (their manifests are looked for in {settings.manifests})")
    for file in (settings.authority,):
        if file and not os.path.isfile(file):
            found.append(f"AUTHORITY: there is no file {file}")
    return [problem for problem in found if problem]


def check(settings, environment, images=True):
    found = missing(settings, environment, images)
    if found:
        raise Stopped("missing-needs", "\n".join(["this is missing:", *(f"  - {problem}" for problem in found)]))
