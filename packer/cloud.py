"""What packer/build and packer/sweep ask a provider beside what Packer asks itself: whether an image is there, and the removal of
what a build has left. Python's own library alone. Where the provider is and who asks comes from the environment:

    CLOUD=digitalocean   DIGITALOCEAN_TOKEN, and DIGITALOCEAN_API_URL for another endpoint (a local cloud)
    CLOUD=gce            GOOGLE_ACCESS_TOKEN, GOOGLE_PROJECT, GOOGLE_ZONE, and GOOGLE_ENDPOINT for another endpoint

    cloud.py find NAME                         the image's id, or nothing
    cloud.py clean --build ID --name NAME [--fingerprint MD5]   removes what one run has left
    cloud.py sweep --older-than-secs N         removes what builders have left that are older
    cloud.py record …                          writes an image's manifest from Packer's

Exit status: 0 done, 1 failed.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

CALL_SECS_MAX = 60
# A provider that is busy or limits the rate is asked again: after 1, 2, 4, 8, 16 s, or as it says itself, up to half a minute.
TRIES_MAX = 6
WAIT_SECS_MAX = 30
# How long a machine may take to be gone once its removal is taken.
GONE_SECS_MAX = 180
PAGE_SIZE = 200

# Of a build's own names: packer-plugin-sdk begins its keys' names with the time in seconds, in hexadecimal.
TEMPORARY_KEY = re.compile(r"packer-([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
IMAGE_NAME = re.compile(r"tidepool-(api|db|monitoring|autoscaler)-[0-9][0-9A-Za-z.+~]*")
BUILDER = "tidepool-builder"
# The tag that an image gets last.
WHOLE = "tidepool-image"


class Failed(Exception):
    """What the user is told."""


def say(text):
    print(text, file=sys.stderr, flush=True)


class Endpoint:
    """JSON over HTTP with a bearer token."""

    def __init__(self, url, token):
        self.url = url.rstrip("/")
        self.token = token

    def call(self, method, path, absent_is_fine=False):
        """The answer's object; None for an empty one, or for 404 where that is fine."""
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        for attempt in range(TRIES_MAX):
            last = attempt == TRIES_MAX - 1
            wait = 2**attempt
            try:
                with urllib.request.urlopen(request, timeout=CALL_SECS_MAX) as answer:
                    body = answer.read()
                    return json.loads(body) if body else None
            except urllib.error.HTTPError as error:
                if error.code == 404 and absent_is_fine:
                    return None
                if error.code in (401, 403):
                    raise Failed(f"{self.url} refuses the token ({error.code}): {reason_of(error)}") from error
                # 422 is how DigitalOcean says that something else is under way.
                if last or error.code not in (409, 422, 429, 500, 502, 503, 504):
                    raise Failed(f"{method} {self.url}{path}: {error.code} {reason_of(error)}") from error
                wait = retry_after(error) or wait
            except (OSError, ValueError) as error:
                if last:
                    raise Failed(f"{method} {self.url}{path}: {error}") from error
            time.sleep(min(wait, WAIT_SECS_MAX))
        return None


def reason_of(error):
    try:
        body = json.loads(error.read())
    except (OSError, ValueError):
        return error.reason
    found = body.get("message") or body.get("error") or error.reason
    return found.get("message", found) if isinstance(found, dict) else found


def retry_after(error):
    text = error.headers.get("Retry-After", "")
    return int(text) if text.isdigit() else None


def age_secs(text):
    """Of a time as both providers write it, 2026-11-29T17:00:00Z or with a zone's offset."""
    then = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return time.time() - then.timestamp()


class DigitalOcean:
    def __init__(self):
        token = os.environ.get("DIGITALOCEAN_TOKEN")
        if not token:
            raise Failed("DIGITALOCEAN_TOKEN is not set")
        url = os.environ.get("DIGITALOCEAN_API_URL") or "https://api.digitalocean.com"
        self.endpoint = Endpoint(url, token)

    def list(self, path, key):
        """All pages."""
        page = 1
        while True:
            separator = "&" if "?" in path else "?"
            answer = self.endpoint.call("GET", f"{path}{separator}per_page={PAGE_SIZE}&page={page}")
            yield from answer[key]
            if not answer.get("links", {}).get("pages", {}).get("next"):
                return
            page += 1

    def snapshots(self):
        return self.list("/v2/snapshots?resource_type=droplet", "snapshots")

    def find(self, name):
        return next((found["id"] for found in self.snapshots() if found["name"] == name), None)

    def builders(self):
        return self.list(f"/v2/droplets?tag_name={BUILDER}", "droplets")

    def clean(self, build, name, fingerprint, since):
        self.remove_droplets([found for found in self.builders() if found["name"].endswith(f"-{build}")])
        if fingerprint:
            path = f"/v2/account/keys/{fingerprint}"
            if self.endpoint.call("GET", path, absent_is_fine=True):
                self.endpoint.call("DELETE", path, absent_is_fine=True)
                say("removed the build's ssh key")
        for found in list(self.snapshots()):
            if found["name"] == name and WHOLE not in found["tags"] and age_secs(found["created_at"]) < time.time() - since + 1:
                self.remove_snapshot(found)

    def sweep(self, secs):
        old = [found for found in self.builders() if age_secs(found["created_at"]) >= secs]
        self.remove_droplets(old)
        for found in list(self.list("/v2/account/keys", "ssh_keys")):
            temporary = TEMPORARY_KEY.fullmatch(found["name"])
            if temporary and time.time() - int(temporary[1], 16) >= secs:
                self.endpoint.call("DELETE", f"/v2/account/keys/{found['id']}", absent_is_fine=True)
                say(f"removed ssh key {found['name']}")
        for found in list(self.snapshots()):
            unfinished = IMAGE_NAME.fullmatch(found["name"]) and WHOLE not in found["tags"]
            if unfinished and age_secs(found["created_at"]) >= secs:
                self.remove_snapshot(found)

    def remove_droplets(self, droplets):
        for found in droplets:
            self.endpoint.call("DELETE", f"/v2/droplets/{found['id']}", absent_is_fine=True)
            say(f"removed droplet {found['name']} ({found['id']}, of {found['created_at']})")
        deadline = time.monotonic() + GONE_SECS_MAX
        for found in droplets:
            while self.endpoint.call("GET", f"/v2/droplets/{found['id']}", absent_is_fine=True):
                if time.monotonic() > deadline:
                    raise Failed(f"droplet {found['id']} is still there {GONE_SECS_MAX} s after its removal")
                time.sleep(1)

    def remove_snapshot(self, found):
        self.endpoint.call("DELETE", f"/v2/snapshots/{found['id']}", absent_is_fine=True)
        say(f"removed snapshot {found['name']} ({found['id']}), which a build has left unfinished")


class Gce:
    def __init__(self):
        project, zone = os.environ.get("GOOGLE_PROJECT"), os.environ.get("GOOGLE_ZONE")
        token = os.environ.get("GOOGLE_ACCESS_TOKEN")
        for name, value in (("GOOGLE_PROJECT", project), ("GOOGLE_ZONE", zone), ("GOOGLE_ACCESS_TOKEN", token)):
            if not value:
                raise Failed(f"{name} is not set")
        base = os.environ.get("GOOGLE_ENDPOINT") or "https://compute.googleapis.com/compute/v1/"
        self.endpoint = Endpoint(f"{base.rstrip('/')}/projects/{project}", token)
        self.zone = f"/zones/{zone}"

    def list(self, path, condition):
        token = ""
        while True:
            query = urllib.parse.urlencode({"filter": condition, "maxResults": PAGE_SIZE, "pageToken": token})
            answer = self.endpoint.call("GET", f"{path}?{query}")
            yield from answer.get("items", [])
            token = answer.get("nextPageToken", "")
            if not token:
                return

    def find(self, name):
        found = self.endpoint.call("GET", f"/global/images/{name}", absent_is_fine=True)
        return found and found["name"]

    def clean(self, build, name, _fingerprint, _since):
        self.remove_machines(lambda found: found["name"].endswith(f"-{build}"))
        self.remove_failed(lambda found: found["name"] == name)

    def sweep(self, secs):
        def old(found):
            return age_secs(found["creationTimestamp"]) >= secs

        self.remove_machines(old)
        self.remove_failed(old)

    def remove_machines(self, wanted):
        """Builders, and their disks, which outlive them while an image is made."""
        for what in ("instances", "disks"):
            for found in list(self.list(f"{self.zone}/{what}", f'name eq "{BUILDER}-.*"')):
                if wanted(found):
                    self.remove(f"{self.zone}/{what}/{found['name']}")

    def remove_failed(self, wanted):
        for found in list(self.list("/global/images", "labels.tidepool-image:*")):
            if found.get("status") == "FAILED" and wanted(found):
                self.remove(f"/global/images/{found['name']}")

    def remove(self, path):
        operation = self.endpoint.call("DELETE", path, absent_is_fine=True)
        deadline = time.monotonic() + GONE_SECS_MAX
        while operation and operation.get("status") != "DONE":
            if time.monotonic() > deadline:
                raise Failed(f"{path} is still there {GONE_SECS_MAX} s after its removal")
            time.sleep(1)
            scope = self.zone if path.startswith(self.zone) else "/global"
            operation = self.endpoint.call("GET", f"{scope}/operations/{operation['name']}", absent_is_fine=True)
        say(f"removed {path.lstrip('/')}")


def record(arguments):
    """Writes the manifest of an image: of its version, and of the newest of that name."""
    builds = json.loads(pathlib.Path(arguments.packer).read_text())["builds"]
    built = builds[-1]
    region, _, number = built["artifact_id"].rpartition(":")
    manifest = {
        "image": arguments.image,
        "version": arguments.version,
        "commit": arguments.commit,
        "cloud": arguments.cloud,
        "name": arguments.name,
        "id": number,
        "region": region or os.environ.get("GOOGLE_PROJECT", ""),
        "built_at": datetime.datetime.fromtimestamp(built["build_time"], datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    manifest |= dict(pair.split("=", 1) for pair in arguments.also)
    folder = pathlib.Path(arguments.folder)
    folder.mkdir(parents=True, exist_ok=True)
    for file in (folder / f"{arguments.image}-{arguments.version}.json", folder / f"{arguments.image}.json"):
        draft = file.with_suffix(".part")
        draft.write_text(json.dumps(manifest, indent=2) + "\n")
        draft.replace(file)
        say(f"wrote {file}")


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    find = commands.add_parser("find")
    find.add_argument("name")
    clean = commands.add_parser("clean")
    clean.add_argument("--build", required=True)
    clean.add_argument("--name", required=True)
    clean.add_argument("--fingerprint")
    clean.add_argument("--since", type=float, required=True, help="when the build began, in seconds since 1970")
    sweep = commands.add_parser("sweep")
    sweep.add_argument("--older-than-secs", type=float, required=True)
    noted = commands.add_parser("record")
    for name in ("packer", "folder", "cloud", "image", "version", "commit", "name"):
        noted.add_argument(f"--{name}", required=True)
    noted.add_argument("--also", action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def main():
    arguments = parsed()
    if arguments.command == "record":
        return record(arguments)
    provider = Gce() if os.environ.get("CLOUD") == "gce" else DigitalOcean()
    if arguments.command == "find":
        found = provider.find(arguments.name)
        if found:
            print(found)
    elif arguments.command == "clean":
        provider.clean(arguments.build, arguments.name, arguments.fingerprint, arguments.since)
    else:
        provider.sweep(arguments.older_than_secs)


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        say(f"cloud.py: {failed}")
        sys.exit(1)
