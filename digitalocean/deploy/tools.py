"""Programs of this machine: which of them there are, and how they are run."""

import os
import shlex
import shutil
import signal
import subprocess

from .progress import say


def terraform_program(environment):
    """TERRAFORM's, else tofu or terraform of the path; None without any."""
    path, wanted = environment.get("PATH"), environment.get("TERRAFORM")
    if wanted:
        return shutil.which(wanted, path=path)
    return shutil.which("tofu", path=path) or shutil.which("terraform", path=path)


def with_provider(environment, helper):
    """The environment with what `helper` (e2e/terraform/tofu) found or built: for a local cloud, where the registry may be out of reach.
    What the user has said himself stays. None when it could build nothing."""
    if environment.get("TERRAFORM") or os.path.isfile(environment.get("TF_CLI_CONFIG_FILE", "")):
        return environment
    done = subprocess.run([helper], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        return None
    found = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    values = {name: shlex.split(value)[0] for name, value in found.items() if value}
    return {**environment, "TERRAFORM": values["TOFU"], "TF_CLI_CONFIG_FILE": values["TF_CLI_CONFIG_FILE"]}


def run(line, *, env=None, cwd=None, secs=None, log=None, pass_fds=(), apart=False):
    """Runs a program to its end; (status, what it wrote). With `log`, an open file, its output goes there as it comes. With `apart`
    warnings are not mixed into what it wrote, unless it failed.

    In a session of its own: an interrupt is passed on once, and the program is waited for, so that Terraform can note what it has made;
    a second one would have it end without that.
    """
    process = subprocess.Popen(
        [str(word) for word in line],
        env=env, cwd=cwd, pass_fds=pass_fds, start_new_session=True, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if log is None else log, stderr=subprocess.PIPE if apart else subprocess.STDOUT,
    )  # fmt: skip
    interrupted, passed_on = None, False
    while True:
        try:
            if interrupted and not passed_on:
                passed_on = True
                process.send_signal(signal.SIGINT)
                say(f"interrupted: waiting for {os.path.basename(line[0])} to note what it has done")
            said, warnings = process.communicate(timeout=secs)
            break
        except KeyboardInterrupt as interrupt:
            interrupted = interrupt
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            return 124, (said or "") + f"\nit took longer than {secs} s"
    if interrupted:
        raise interrupted
    if apart and process.returncode != 0:
        said += warnings
    return process.returncode, said or ""
