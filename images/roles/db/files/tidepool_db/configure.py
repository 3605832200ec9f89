"""Before Cassandra, as root, at each boot: reads the user data and the host's facts, refuses what can't be, writes Cassandra's files."""

import dataclasses
import datetime
import ipaddress
import json
import os
import pwd

from . import certificates, identity, paths, render, settings


class Refused(Exception):
    """Why Cassandra is not to start; a sentence for people."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """Where this host stands, after `auto` was looked up."""

    host: str
    datacenter: str
    rack: str
    address: str
    network: str
    # By the provider's name and its id there: no two have the same.
    machine: str


def facts_of(given, host):
    """`given` is the Settings, `host` what tidepool-host.service wrote."""
    google = host.get("HOST_PROVIDER") == "google"
    region = host.get("HOST_REGION", "")
    # Google says the zone: a rack is a part that fails alone. DigitalOcean's regions have no such parts.
    datacenter, rack = (region.rsplit("-", 1)[0], region) if google else (region, "rack1")
    address, netmask = host.get("HOST_PRIVATE_IP", ""), host.get("HOST_PRIVATE_NETMASK", "")
    if given.address != "auto":
        address = given.address
    datacenter = datacenter if given.datacenter == "auto" else given.datacenter
    if not datacenter:
        raise Refused("the provider doesn't say a region: set cluster.datacenter and cluster.rack")
    if not address:
        raise Refused("the provider gives this host no private address: put it into a private network, or set cluster.address")
    network = ipaddress.IPv4Network(f"{address}/{netmask or '255.255.255.255'}", strict=False)
    if given.peers == ("auto",) and network.num_addresses - 2 > settings.PEERS_MAX:
        raise Refused(f"the private network {network} has too many addresses to look for neighbours: name them in cluster.peers")
    return Facts(
        host=host.get("HOST_NAME", ""),
        datacenter=datacenter,
        rack=rack if given.rack == "auto" else given.rack,
        address=address,
        network=str(network),
        machine=f"{host.get('HOST_PROVIDER', '')} {host.get('HOST_ID', '')}".strip(),
    )


def check_tls(given):
    """Returns (certificate and key, CA) as PEM texts that Cassandra will take, or raises Refused."""
    try:
        return certificates.check(given, datetime.datetime.now(datetime.timezone.utc))
    except certificates.Unfit as unfit:
        raise Refused(str(unfit)) from unfit


def memory_bytes():
    """The host's memory, as /proc/meminfo says: its own even where the kernel is shared."""
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) << 10
    raise Refused("/proc/meminfo doesn't say how much memory there is")


def write(path, text, owner, mode=0o640):
    """Whole or not at all; readable by the service."""
    part = f"{path}.part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(descriptor, mode)
        os.fchown(descriptor, 0, owner.pw_gid)
        file.flush()
        os.fsync(descriptor)
    os.replace(part, path)


def folder(path, uid, gid, mode=0o750):
    os.makedirs(path, exist_ok=True)
    os.chmod(path, mode)
    os.chown(path, uid, gid)


def run():
    """Writes everything, or raises Refused, settings.Invalid or identity.Changed."""
    with open(paths.SETTINGS, encoding="utf-8") as file:
        given = settings.parse(file.read())
    with open(paths.HOST, encoding="utf-8") as file:
        facts = facts_of(given, json.load(file))
    if given.must_be_mounted and not os.path.ismount(paths.DATA):
        raise Refused(f"data.must_be_mounted is set, and nothing is mounted at {paths.DATA}: Cassandra is not started on the system's disk")
    node, ca = check_tls(given)
    service = pwd.getpwnam("cassandra")
    keep_identity(given, facts, service)

    folder(paths.TLS, 0, service.pw_gid)
    write(f"{paths.TLS}/node.pem", node, service)
    write(f"{paths.TLS}/ca.pem", ca, service)
    for name, ready in (("first", False), ("member", True)):
        write(f"{paths.CONFIG}/cassandra-{name}.yaml", render.yaml(given, facts.address, ready), service)
    write(f"{paths.CONFIG}/cassandra-rackdc.properties", render.rackdc(facts.datacenter, facts.rack), service)
    write(f"{paths.CONFIG}/java-host.options", render.java_options(given, memory_bytes()), service)
    folder(paths.RUN, service.pw_uid, service.pw_gid, 0o755)
    write(paths.FACTS, json.dumps(dataclasses.asdict(facts), indent=1) + "\n", service, 0o644)
    return facts


def keep_identity(given, facts, service):
    """Makes the identity on a new volume; refuses a volume of another cluster, datacentre or rack."""
    folder(paths.DATA, service.pw_uid, service.pw_gid)
    folder(paths.KEPT, service.pw_uid, service.pw_gid)
    file = identity.IdentityFile(paths.IDENTITY)
    kept = file.load()
    if kept is None and os.path.isdir(f"{paths.DATA}/data/system"):
        raise Refused(f"{paths.DATA} holds a database that this image didn't make: empty it, or bring {paths.IDENTITY}")
    agreed = identity.agree(kept, {"cluster": given.name, "datacenter": facts.datacenter, "rack": facts.rack})
    bound = identity.bound(agreed, facts.machine)
    if bound != kept:
        file.save(bound)
        os.chown(paths.IDENTITY, service.pw_uid, service.pw_gid)
