"""deploy.sh: from an empty account to the running, scaling service, and back.

  deploy.sh deploy ENV [--may-destroy]    makes it, or brings it to what digitalocean/ and the images are now; safe to run again
  deploy.sh promote [SOURCE] [TARGET]     the image versions that SOURCE (staging) runs, into TARGET (prod); refused unless it is green
  deploy.sh smoke ENV                     the smoke test alone
  deploy.sh replace ENV HOST              a new host of the newest image: monitoring, autoscaler, db-1 …; its volume is kept
  deploy.sh db-upgrade ENV                that for each host of the database, one after the other, while the ring is whole
  deploy.sh destroy ENV [--volumes]       removes it; volumes are kept unless --volumes is given, images always

Variables:
  CLOUD                 digitalocean (default), or local: a running `tidepool-local-cloud serve --hosts systemd`
  DIGITALOCEAN_TOKEN    reads and writes the account; AUTOSCALER_TOKEN, if given, is what the autoscaler's host gets
  DIGITALOCEAN_API_URL  another endpoint; where the local cloud listens
  DOMAIN                zone of the environment, kept after the first run
  SSH_ALLOW             ranges from which ssh is let in, with commas, kept after the first run
  VARIABLES             a file of further variables of the root (*.tfvars), kept after the first run
  MANIFESTS             directory of the images' manifests (packer/manifests)
  NAME_SERVER           who answers for the zone, HOST:PORT, where this machine does not know; a local cloud says so itself
  AUTHORITY             file with the authority that signed the service's certificate, if the system does not trust it; a local cloud says so itself
  TERRAFORM             program (default: tofu, else terraform)
  TIDEPOOL_DEPLOY_DIR   where keys, state and logs are ($XDG_DATA_HOME/tidepool)

Exit status: 0 done; 64 bad usage; 130 interrupted; 1 a fault of this program; else the way in which it stopped, each with a page:
"""

import argparse
import os
import signal
import sys

from . import commands, settings
from .outcome import INTERRUPTED, USAGE, WAYS, Stopped, Usage
from .progress import say
from .tools import with_provider


def parser():
    epilogue = "\n".join(f"  {status}  docs/runbooks/{way}.md" for way, status in WAYS.items())
    made = argparse.ArgumentParser(prog="deploy.sh", description=__doc__ + epilogue, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    deploy = kinds.add_parser("deploy")
    deploy.add_argument("environment")
    deploy.add_argument("--may-destroy", action="store_true")
    promote = kinds.add_parser("promote")
    promote.add_argument("source", nargs="?", default="staging")
    promote.add_argument("environment", nargs="?", default="prod")
    for name in ("smoke", "db-upgrade"):
        kinds.add_parser(name).add_argument("environment")
    replace = kinds.add_parser("replace")
    replace.add_argument("environment")
    replace.add_argument("host")
    destroy = kinds.add_parser("destroy")
    destroy.add_argument("environment")
    destroy.add_argument("--volumes", action="store_true")
    return made


def carry_out(arguments, environment):
    options = {"may_destroy": getattr(arguments, "may_destroy", False), "remove_volumes": getattr(arguments, "volumes", False)}
    asked = settings.read(arguments.environment, environment, **options)
    if asked.cloud == "local":
        environment = with_provider(environment, settings.REPOSITORY / "e2e" / "terraform" / "tofu") or environment
    match arguments.command:
        case "deploy":
            commands.deploy(asked, environment)
        case "promote":
            # What is said of one environment's zone is not meant for the other's.
            plain = {name: value for name, value in environment.items() if name not in ("DOMAIN", "VARIABLES")}
            commands.promote(asked, settings.read(arguments.source, plain), environment)
        case "smoke":
            commands.smoke_alone(asked, environment)
        case "replace":
            commands.replace(asked, environment, arguments.host)
        case "db-upgrade":
            commands.upgrade_database(asked, environment)
        case "destroy":
            commands.destroy(asked, environment)


def interrupt(*_):
    raise KeyboardInterrupt


def main(words, environment):
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)
    try:
        carry_out(parser().parse_args(words), environment)
    except Usage as usage:
        say(f"deploy.sh: {usage}")
        return USAGE
    except Stopped as stopped:
        say(f"deploy.sh: {stopped.message}")
        say(f"What to do: {stopped.page} (exit status {stopped.status})")
        return stopped.status
    except KeyboardInterrupt:
        say("deploy.sh: interrupted; run it again to go on")
        return INTERRUPTED
    return 0


def status_of_usage(code):
    """argparse ends with 2 where this repository ends with 64."""
    return USAGE if code == 2 else code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:], dict(os.environ)))
    except SystemExit as ended:
        sys.exit(status_of_usage(ended.code))
