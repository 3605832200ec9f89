"""Which image versions an environment is to have, and which it was last seen green with."""

import datetime
import json

from .outcome import Stopped
from .settings import write_private


def wanted(folder):
    """By image; what is not named is the newest."""
    return read(folder / "images.json").get("image_versions", {})


def want(folder, versions):
    write_private(folder / "images.json", json.dumps({"image_versions": versions}, indent=2) + "\n")


def note_green(folder, images):
    """After a whole run."""
    noted = {
        "at": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "image_versions": {image: found["version"] for image, found in images.items()},
    }
    write_private(folder / "green.json", json.dumps(noted, indent=2) + "\n")


def forget_green(folder):
    """Before anything is changed."""
    (folder / "green.json").unlink(missing_ok=True)


def green(folder, name):
    found = read(folder / "green.json")
    if not found:
        raise Stopped("promotion-refused", f"{name} is not green: its last run did not end well, or there was none. make deploy ENV={name}")
    return found["image_versions"]


def read(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
