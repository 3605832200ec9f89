"""Terraform, or OpenTofu, on a copy of the root in the environment's own folder, where its lock of providers and its state are."""

import json
import os
import shutil
import typing

from .needs import IMAGES
from .outcome import Stopped
from .settings import LOCAL_API_PORT, ROOT
from .tools import run, terraform_program

# What of a plan is a loss: the data, or the address that clients know.
PRECIOUS = ("digitalocean_droplet", "digitalocean_volume", "digitalocean_loadbalancer", "digitalocean_domain", "digitalocean_vpc")
NOTHING_TO_DO, FAILED, SOMETHING_TO_DO = 0, 1, 2
LINES_SHOWN = 40


class Change(typing.NamedTuple):
    """What a plan does to one thing: create, update, replace or delete; `after` is what it has then, as far as that is known."""

    address: str
    kind: str
    verb: str
    after: dict


class Resource(typing.NamedTuple):
    """What the state knows of one thing; `id` is the one that the API has."""

    address: str
    kind: str
    id: str


class Terraform:
    def __init__(self, settings, environment, lock=None):
        self.settings = settings
        self.program = terraform_program(environment)
        self.root = settings.folder / "root"
        self.state = settings.folder / "terraform.tfstate"
        self.pass_fds = () if lock is None else (lock,)
        self.environment = environment_of(settings, environment)

    def prepare(self):
        """Copies the root as it is now, and gets its providers."""
        for path in self.root.glob("*.tf*"):
            if path.is_file():
                path.unlink()
        shutil.rmtree(self.root / "modules", ignore_errors=True)
        self.root.mkdir(mode=0o700, exist_ok=True)
        if self.settings.cloud == "local":
            # The stand-in has one version, however often it is built; what the lock remembers of it is of the build before.
            (self.root / ".terraform.lock.hcl").unlink(missing_ok=True)
        for file in [*ROOT.glob("*.tf"), ROOT / "prices.json", self.settings.tfvars]:
            shutil.copy(file, self.root)
        shutil.copytree(ROOT / "modules", self.root / "modules")
        self.must("plan-failed", "init", "-input=false", "-reconfigure", f"-backend-config=path={self.state}")

    def images_of_no_account(self, region):
        """A folder of manifests for a destroy: variables are checked then, too, and images may be gone by that time."""
        folder = self.root / "manifests"
        folder.mkdir(exist_ok=True)
        for image in IMAGES:
            manifest = {"image": image, "version": "gone", "id": "0", "region": region}
            (folder / f"{image}.json").write_text(json.dumps(manifest), encoding="utf-8")
        return folder

    def given(self, image_versions, manifests=None):
        """Writes down what the variables of this run are beside those of the environment's own file."""
        settings = self.settings
        values = {
            "domain": settings.domain,
            "ssh_allowed_ranges": settings.ssh_allowed_ranges,
            "ssh_public_key": (settings.secrets / "id_ed25519.pub").read_text(encoding="ascii"),
            "manifests": str(manifests or settings.manifests),
            "image_versions": image_versions,
        }
        if settings.cloud == "local":
            values["api_url"] = f"http://127.0.0.1:{LOCAL_API_PORT}"
        (self.root / "given.tfvars.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    def variable_files(self):
        files = [self.settings.tfvars.name, "given.tfvars.json"]
        if self.settings.variables:
            files.append(str(self.settings.variables))
        return [f"-var-file={file}" for file in files]

    def plan(self, *arguments):
        """The changes that there are to make, by what they do to each resource; the plan itself is kept for apply."""
        status, said = self.run("plan", "-input=false", "-detailed-exitcode", "-out=plan", *self.variable_files(), *arguments)
        if status not in (NOTHING_TO_DO, SOMETHING_TO_DO):
            raise Stopped("plan-failed", self.failure("plan", said))
        return self.changes() if status == SOMETHING_TO_DO else []

    def changes(self):
        _, said = self.must("plan-failed", "show", "-json", "plan")
        return changes_of(json.loads(said))

    def apply(self):
        self.must("apply-failed", "apply", "-input=false", "-auto-approve", "plan")

    def outputs(self):
        _, said = self.must("plan-failed", "output", "-json")
        return {name: output["value"] for name, output in json.loads(said).items()}

    def resources(self):
        """All that the state knows; nothing where there is no state, or an empty one. One that can't be read stops the run."""
        _, said = self.must("plan-failed", "show", "-json")
        return resources_of(json.loads(said))

    def destroy(self, targets):
        lines = [f"-target={address}" for address in targets]
        self.must("destroy-incomplete", "destroy", "-input=false", "-auto-approve", *self.variable_files(), *lines)

    def forget(self, address):
        self.must("destroy-incomplete", "state", "rm", address)

    def must(self, way, *arguments):
        status, said = self.run(*arguments)
        if status != 0:
            raise Stopped(way, self.failure(arguments[0], said))
        return status, said

    def failure(self, what, said):
        tail = "\n".join(said.strip().splitlines()[-LINES_SHOWN:])
        return f"{os.path.basename(self.program)} {what} failed; all it said is in {self.settings.log(what)}:\n{tail}"

    def run(self, *arguments):
        env = self.environment
        asked = arguments[0] in ("output", "show", "state")
        if not asked:
            arguments = (arguments[0], "-no-color", *arguments[1:])
        status, said = run([self.program, f"-chdir={self.root}", *arguments], env=env, pass_fds=self.pass_fds, apart=asked)
        # What is asked for as JSON is not for people.
        if not asked or status != 0:
            self.settings.log(arguments[0]).write_text(said, encoding="utf-8")
        return status, said


def environment_of(settings, environment):
    found = {name: value for name, value in environment.items() if not name.startswith("TF_LOG") and not name.startswith("TF_CLI_ARGS")}
    found |= {"DIGITALOCEAN_TOKEN": settings.token, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
    if settings.api_url:
        found["DIGITALOCEAN_API_URL"] = settings.api_url
    return found


def changes_of(plan):
    """Changes of a plan as JSON."""
    verbs = {("create",): "create", ("update",): "update", ("delete",): "delete"}
    found = []
    for change in plan.get("resource_changes", []):
        actions = tuple(change["change"]["actions"])
        if actions in (("no-op",), ("read",)):
            continue
        found.append(Change(change["address"], change["type"], verbs.get(actions, "replace"), change["change"].get("after") or {}))
    return found


def losses(changes):
    """Those that remove or replace what has data, or an address that others know."""
    return [(change.address, change.verb) for change in changes if change.verb in ("delete", "replace") and change.kind in PRECIOUS]


def summary(changes):
    counts = {}
    for change in changes:
        counts[change.verb] = counts.get(change.verb, 0) + 1
    order = ("create", "update", "replace", "delete")
    return ", ".join(f"{counts[verb]} to {verb}" for verb in order if verb in counts) or "nothing to change"


def resources_of(state):
    """Resources of a state as JSON, of all modules."""
    found = []

    def walk(module):
        for resource in module.get("resources", []):
            if resource.get("mode") == "managed":
                values = resource["values"]
                found.append(Resource(resource["address"], resource["type"], str(values.get("uuid") or values.get("id"))))
        for child in module.get("child_modules", []):
            walk(child)

    walk(state.get("values", {}).get("root_module", {}))
    return found
