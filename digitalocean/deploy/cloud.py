"""What is asked of DigitalOcean beside what Terraform asks: members of the pool, and what a killed run has left."""

import contextlib
import importlib.util
import os
import time

from .outcome import Stopped
from .settings import REPOSITORY

GONE_SECS_MAX = 300


def endpoint_module():
    """packer/cloud.py has the client: how calls are repeated, and lists read to their end."""
    spec = importlib.util.spec_from_file_location("packer_cloud", REPOSITORY / "packer" / "cloud.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Cloud:
    """The account. Where it does not answer as it should, the run stops in the way that is given."""

    def __init__(self, settings, way):
        os.environ["DIGITALOCEAN_TOKEN"] = settings.token
        if settings.api_url:
            os.environ["DIGITALOCEAN_API_URL"] = settings.api_url
        self.module, self.way = endpoint_module(), way
        with self.stopping():
            self.client = self.module.DigitalOcean()

    @contextlib.contextmanager
    def stopping(self):
        try:
            yield
        except self.module.Failed as failed:
            raise Stopped(self.way, str(failed)) from failed

    def list(self, path, key):
        with self.stopping():
            return list(self.client.list(path, key))

    def call(self, method, path):
        """None for what is not there."""
        with self.stopping():
            return self.client.endpoint.call(method, path, absent_is_fine=True)

    def droplets(self, tag):
        return self.list(f"/v2/droplets?tag_name={tag}", "droplets")

    def remove_droplets(self, tag, vpc):
        """All of a tag in one VPC; returns how many there were. A tag is the account's, and may be on others, too."""
        removed = set()
        deadline = time.monotonic() + GONE_SECS_MAX
        while found := [droplet for droplet in self.droplets(tag) if droplet.get("vpc_uuid") == vpc]:
            for droplet in found:
                if droplet["id"] not in removed:
                    self.call("DELETE", f"/v2/droplets/{droplet['id']}")
                    removed.add(droplet["id"])
            if time.monotonic() > deadline:
                raise Stopped(self.way, f"droplets of {tag} are still there after {GONE_SECS_MAX} s: {', '.join(str(droplet['id']) for droplet in found)}")
            time.sleep(1)
        return len(removed)

    def surroundings(self):
        """Who answers for names and who signs certificates of a local cloud, as it says itself."""
        said = self.call("GET", "/_local/state") or {}
        return said.get("name_server"), said.get("authority")
