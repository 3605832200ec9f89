"""A root that Terraform (or OpenTofu) is run in, in a directory of its own, against an API at an address."""

import json
import os
import pathlib
import shutil
import subprocess

# The longest that one command may take: an apply that makes hosts.
COMMAND_SECS_MAX = 600
WARNING = "This is Tidepool's stand-in for digitalocean/digitalocean"


class Failed(AssertionError):
    """A command that ended otherwise than expected, with all that it said."""


class Root:
    """`variables` become TF_VAR_…, and `directory` holds the state."""

    def __init__(self, source, directory, endpoint, **variables):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True)
        for file in pathlib.Path(source).glob("*.tf"):
            shutil.copy(file, self.directory)
        self.variables = {}
        self.environment = dict(
            os.environ,
            DIGITALOCEAN_TOKEN="stand-in-test",
            DIGITALOCEAN_API_URL=endpoint,
            TF_IN_AUTOMATION="1",
            CHECKPOINT_DISABLE="1",
        )
        self.set(**variables)
        self.run("init")

    def set(self, **variables):
        self.variables.update({f"TF_VAR_{name}": str(value) for name, value in variables.items()})

    def run(self, *arguments, status=0, output=None):
        """What the command says; it has to end with `status`."""
        name, *rest = arguments
        always = ["-input=false", "-no-color"] if name in ("init", "plan", "apply", "destroy") else []
        command = [os.environ["TOFU"], name, *always, *rest]
        done = subprocess.run(
            command,
            cwd=self.directory,
            env={**self.environment, **self.variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if output is None else subprocess.PIPE,
            text=True,
            timeout=COMMAND_SECS_MAX,
            check=False,
        )
        if done.returncode != status:
            raise Failed(f"{' '.join(command)} ended with {done.returncode}, not {status}:\n{done.stdout}{done.stderr or ''}")
        return done.stdout

    def apply(self):
        return self.run("apply", "-auto-approve")

    def plan_is_empty(self):
        return self.run("plan", "-detailed-exitcode")

    def destroy(self):
        return self.run("destroy", "-auto-approve")

    def planned(self):
        """The changes of a plan by address, and the plan's file."""
        self.run("plan", "-out=plan")
        return json.loads(self.run("show", "-json", "plan", output="json"))["resource_changes"]

    def state(self):
        """The attributes of each resource in the state, by address."""
        state = json.loads(self.run("state", "pull", output="json"))
        found = {}
        for resource in state["resources"]:
            prefix = "data." if resource["mode"] == "data" else ""
            for instance in resource["instances"]:
                key = f"[{instance['index_key']}]" if "index_key" in instance else ""
                found[f"{prefix}{resource['type']}.{resource['name']}{key}"] = instance
        return found
