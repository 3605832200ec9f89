"""What an apply that was killed has made and not noted: it is in the account and not in the state. It is removed before the next plan,
which would otherwise make it a second time, or be refused for its name. Only what bears this environment's names and came after that
apply began is touched, and never a volume. Zones and records have neither such a name nor a time: of them goes what that apply would have
made and what was not there before."""

import datetime
import json
import typing

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


class Apply(typing.NamedTuple):
    """An apply that has begun: when, which zones and records (zone, name) it would make, and which records, by id, were there before."""

    since: datetime.datetime
    zones: tuple
    records: tuple
    there: tuple


def begun(cloud, changes, now):
    """What is to be noted before the changes are made. A zone that the account has already is not one that the apply makes."""
    made = [change for change in changes if change.verb in ("create", "replace")]
    zones = [change.after["name"] for change in made if change.kind == "digitalocean_domain"]
    records = [(change.after["domain"], change.after["name"]) for change in made if change.kind == "digitalocean_record"]
    return Apply(
        since=now,
        zones=tuple(zone for zone in zones if cloud.call("GET", f"/v2/domains/{zone}") is None),
        records=tuple(records),
        there=tuple(str(record["id"]) for zone in sorted({zone for zone, _ in records}) for record in records_of(cloud, zone)),
    )


def written(apply):
    return json.dumps({**apply._asdict(), "since": apply.since.isoformat()})


def read(path):
    """The apply that was noted there and never ended; None without one. One that names no zones and records has made none."""
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Apply(
        since=datetime.datetime.fromisoformat(noted["since"]),
        zones=tuple(noted.get("zones", ())),
        records=tuple((zone, name) for zone, name in noted.get("records", ())),
        there=tuple(noted.get("there", ())),
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


def records(cloud, resources, apply):
    """Records that the apply would make, and that neither the state knows nor the zone had before."""
    known = {resource.id for resource in resources if resource.kind == "digitalocean_record"} | set(apply.there)
    found = []
    for zone in sorted({zone for zone, _ in apply.records}):
        for record in records_of(cloud, zone):
            if record["type"] == "A" and (zone, record["name"]) in apply.records and str(record["id"]) not in known:
                found.append(("digitalocean_record", f"/v2/domains/{zone}/records/{record['id']}", f"{record['name']}.{zone}"))
    return found


def records_of(cloud, zone):
    """All that the zone has; nothing where there is no such zone."""
    if cloud.call("GET", f"/v2/domains/{zone}") is None:
        return []
    return cloud.list(f"/v2/domains/{zone}/records", "domain_records")


def remove(cloud, settings, resources, apply, say):
    """Removes what a killed apply has left."""
    prefix = f"tidepool-{settings.environment}"
    known = {resource.id for resource in resources if resource.kind == "digitalocean_volume"}
    for volume in cloud.list("/v2/volumes", "volumes"):
        if ours(volume["name"], prefix) and volume["id"] not in known:
            message = f"there is a volume {volume['name']} ({volume['id']}) that the state does not know: see the runbook, for it may hold data"
            raise Stopped("apply-failed", message)
    for kind, path, name in records(cloud, resources, apply) + find(cloud, prefix, resources, apply.since):
        cloud.call("DELETE", path)
        say(f"removed {kind.removeprefix('digitalocean_')} {name}, which a run that was killed had made and not noted")
    zones = {resource.id for resource in resources if resource.kind == "digitalocean_domain"}
    for zone in apply.zones:
        if zone not in zones:
            remove_empty_zone(cloud, zone, say)


def remove_empty_zone(cloud, domain, say):
    """A zone that the apply would make, and that nobody has put anything into."""
    if cloud.call("GET", f"/v2/domains/{domain}") is None:
        return
    if all(found["type"] in ("NS", "SOA") for found in records_of(cloud, domain)):
        cloud.call("DELETE", f"/v2/domains/{domain}")
        say(f"removed the empty zone {domain}, which a run that was killed had made and not noted")
    else:
        say(f"the zone {domain} is there, with records, and not in the state; if the plan fails for it: docs/runbooks/apply-failed.md")
