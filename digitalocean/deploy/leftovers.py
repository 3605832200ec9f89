"""What an apply that was killed has made and not noted: it is in the account and not in the state. It is removed before the next plan,
which would otherwise make it a second time, or be refused for its name. Only what bears this environment's names and came after that
apply began is touched, and never a volume."""

import datetime

from .outcome import Stopped

# How much the clocks of this machine and of the account may differ.
CLOCKS_SECS = 120

# Kind in the state, list, its key, and what holds the name. In an order in which they can be removed.
KINDS = (
    ("digitalocean_loadbalancer", "/v2/load_balancers", "load_balancers"),
    ("digitalocean_certificate", "/v2/certificates", "certificates"),
    ("digitalocean_firewall", "/v2/firewalls", "firewalls"),
    ("digitalocean_droplet", "/v2/droplets", "droplets"),
    ("digitalocean_ssh_key", "/v2/account/keys", "ssh_keys"),
    ("digitalocean_project", "/v2/projects", "projects"),
    ("digitalocean_vpc", "/v2/vpcs", "vpcs"),
)


def ours(name, prefix):
    return name == prefix or name.startswith(f"{prefix}-")


def is_leftover(found, prefix, known, since):
    """Whether what a list shows is of that apply and in no state. Keys have no time: theirs is taken as fitting."""
    if not ours(found["name"], prefix) or str(found["id"]) in known:
        return False
    created = found.get("created_at")
    if not created:
        return True
    when = datetime.datetime.fromisoformat(created.replace("Z", "+00:00"))
    return when >= since - datetime.timedelta(seconds=CLOCKS_SECS)


def find(cloud, prefix, resources, since):
    """[(kind, path, name)] of all that is left."""
    found = []
    for kind, path, key in KINDS:
        known = {resource.id for resource in resources if resource.kind == kind}
        for thing in cloud.list(path, key):
            if is_leftover(thing, prefix, known, since):
                found.append((kind, f"{path}/{thing['id']}", thing["name"]))
    return found


def records(cloud, domain, resources):
    """Records of the zone that the state does not know, but for those that DigitalOcean makes itself."""
    if cloud.call("GET", f"/v2/domains/{domain}") is None:
        return []
    known = {resource.id for resource in resources if resource.kind == "digitalocean_record"}
    path = f"/v2/domains/{domain}/records"
    return [
        ("digitalocean_record", f"{path}/{found['id']}", found["name"])
        for found in cloud.list(path, "domain_records")
        if found["type"] == "A" and (found["name"].endswith(".internal") or found["name"] == "api") and str(found["id"]) not in known
    ]


def remove(cloud, settings, resources, since, say):
    """Removes what a killed apply has left."""
    prefix = f"tidepool-{settings.environment}"
    known = {resource.id for resource in resources if resource.kind == "digitalocean_volume"}
    for volume in cloud.list("/v2/volumes", "volumes"):
        if ours(volume["name"], prefix) and volume["id"] not in known:
            message = f"there is a volume {volume['name']} ({volume['id']}) that the state does not know: see the runbook, for it may hold data"
            raise Stopped("apply-failed", message)
    # Names that have no time of their own are looked at only where the zone is known to be ours.
    zone = any(resource.kind == "digitalocean_domain" for resource in resources)
    left = (records(cloud, settings.domain, resources) if zone else []) + find(cloud, prefix, resources, since)
    for kind, path, name in left:
        cloud.call("DELETE", path)
        say(f"removed {kind.removeprefix('digitalocean_')} {name}, which a run that was killed had made and not noted")
    if not zone:
        remove_empty_zone(cloud, settings.domain, say)


def remove_empty_zone(cloud, domain, say):
    """A zone that nobody has put anything into."""
    if cloud.call("GET", f"/v2/domains/{domain}") is None:
        return
    if all(found["type"] in ("NS", "SOA") for found in cloud.list(f"/v2/domains/{domain}/records", "domain_records")):
        cloud.call("DELETE", f"/v2/domains/{domain}")
        say(f"removed the empty zone {domain}, which a run that was killed had made and not noted")
    else:
        say(f"the zone {domain} is there, with records, and not in the state; if the plan fails for it: docs/runbooks/apply-failed.md")
