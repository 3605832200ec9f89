"""What a run is asked for: from the command line, from variables, and from what an earlier run of the same environment was told."""

import dataclasses
import json
import os
import pathlib
import re

from .outcome import Usage

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
ROOT = REPOSITORY / "digitalocean"
# Without a dash: all names of prod begin with tidepool-prod-, and those of an environment prod-eu would, too.
NAME = re.compile(r"[a-z][a-z0-9]{1,15}")
CLOUDS = ("digitalocean", "local")
# Where the API of a local cloud is, as the autoscaler's host sees it: at the end of a tunnel.
LOCAL_API_PORT = 7780
# All addresses of a local cloud, the machine's own among them.
LOCAL_RANGES = ["198.18.0.0/15"]


@dataclasses.dataclass
class Settings:
    environment: str
    cloud: str
    folder: pathlib.Path
    token: str = dataclasses.field(repr=False)
    autoscaler_token: str = dataclasses.field(repr=False)
    # Where the API is; None: DigitalOcean's own.
    api_url: str | None
    domain: str | None
    ssh_allowed_ranges: list
    manifests: pathlib.Path
    # A further file of variables.
    variables: pathlib.Path | None
    # Who answers for names, and who signs certificates, where the system does not know: a local cloud.
    name_server: str | None
    authority: str | None
    may_destroy: bool
    remove_volumes: bool

    @property
    def secrets(self):
        return self.folder / "secrets"

    @property
    def tfvars(self):
        return ROOT / f"{self.environment}.tfvars"

    def log(self, name):
        return self.folder / "logs" / f"{name}.log"


def data_folder(environment):
    """Outside the repository: the user's own data directory."""
    base = environment.get("TIDEPOOL_DEPLOY_DIR")
    if base:
        return pathlib.Path(base)
    data = environment.get("XDG_DATA_HOME") or os.path.join(environment.get("HOME", "/root"), ".local", "share")
    return pathlib.Path(data) / "tidepool"


def read(name, environment, *, may_destroy=False, remove_volumes=False):
    """Settings of the environment `name`; raises Usage for what can't be meant."""
    if not NAME.fullmatch(name or ""):
        raise Usage(f"ENV={name or ''} is not the name of an environment: dev, staging, prod, or another one of 2 to 16 lower-case letters and digits that has a file digitalocean/<name>.tfvars")
    cloud = environment.get("CLOUD") or "digitalocean"
    if cloud not in CLOUDS:
        raise Usage(f"there is no cloud '{cloud}'; CLOUD is {' or '.join(CLOUDS)}")
    folder = data_folder(environment) / cloud / name
    if folder.resolve().is_relative_to(REPOSITORY):
        raise Usage(f"{folder} is in the repository, where secrets must not be: set TIDEPOOL_DEPLOY_DIR to another place")
    if not (ROOT / f"{name}.tfvars").is_file():
        raise Usage(f"there is no digitalocean/{name}.tfvars: copy staging.tfvars and give it a range, a pool and a name of its own")
    known = kept(folder)
    local = cloud == "local"
    token = environment.get("DIGITALOCEAN_TOKEN") or environment.get("DIGITALOCEAN_ACCESS_TOKEN") or ("local" if local else "")
    variables = environment.get("VARIABLES") or known.get("variables")
    api_url = environment.get("DIGITALOCEAN_API_URL") or environment.get("LOCAL_CLOUD_URL") or None
    if api_url and not re.match(r"https?://[^/\s]+", api_url):
        raise Usage(f"DIGITALOCEAN_API_URL={api_url} is not the address of an API: it begins with https://, or http:// for a local cloud")
    return Settings(
        environment=name,
        cloud=cloud,
        folder=folder,
        token=token,
        autoscaler_token=environment.get("AUTOSCALER_TOKEN") or token,
        api_url=api_url,
        domain=environment.get("DOMAIN") or known.get("domain") or (f"{name}.tidepool.test" if local else None),
        ssh_allowed_ranges=ranges(environment.get("SSH_ALLOW")) or known.get("ssh_allowed_ranges") or (LOCAL_RANGES if local else []),
        manifests=pathlib.Path(environment.get("MANIFESTS") or REPOSITORY / "packer" / "manifests").absolute() / cloud,
        variables=pathlib.Path(variables).absolute() if variables else None,
        name_server=environment.get("NAME_SERVER") or None,
        authority=environment.get("AUTHORITY") or None,
        may_destroy=may_destroy,
        remove_volumes=remove_volumes,
    )


def ranges(text):
    return [word for word in re.split(r"[\s,]+", text or "") if word]


def kept(folder):
    """What an earlier run was told."""
    try:
        return json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def keep(settings):
    """For the next run, which then needs to be told nothing."""
    values = {
        "domain": settings.domain,
        "ssh_allowed_ranges": settings.ssh_allowed_ranges,
        "variables": str(settings.variables) if settings.variables else None,
    }
    write_private(settings.folder / "settings.json", json.dumps(values, indent=2) + "\n")


def write_private(path, text):
    """Whole or not at all, and for its owner alone."""
    draft = path.with_name(path.name + ".part")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def make_folder(settings):
    for folder in (settings.folder, settings.secrets, settings.folder / "logs"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
