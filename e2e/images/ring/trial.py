"""What all steps of a trial share: the hosts that there are, how they are asked, and what is kept between two runs."""

import json
import pathlib

from hosts import wait_until, write_files

SIZE = "s-2vcpu-4gb"
ROWS = 10_000
RING_SECS_MAX = 900
BACK_SECS_MAX = 600
SCHEMA_SECS_MAX = 120
# Words that CQL reserves are names like others.
KEEPER = ["token", "the keeper of this trial"]
READER = ["view", "reads and nothing more"]
APPLICATION = ["schema", "writes and reads a lot"]

SETTINGS = f"""[cluster]
name = trial
founder = db-1
# Between hosts of one machine gossip needs no half minute; a host that is just starting may take some of it.
ring_delay_secs = 15
[tls]
ca = /etc/tidepool/ca.pem
certificate = /etc/tidepool/node.pem
key = /etc/tidepool/node.key
[superuser]
name = {KEEPER[0]}
password = {KEEPER[1]}
[application]
name = {APPLICATION[0]}
password = {APPLICATION[1]}
[reader]
name = {READER[0]}
password = {READER[1]}
keyspaces = trial
[memory]
heap = 320m
"""
# Metricbeat starts, and waits for a monitoring host that there is none of.
METRICBEAT = "ELASTICSEARCH_URL=http://127.0.0.1:9200\n"


def require(condition, message):
    if not condition:
        raise AssertionError(message)


class Skipped(Exception):
    """Why a step can't be taken here."""


class Trial:
    """Each step builds on those before it."""

    def __init__(self, cloud, work, state):
        # A folder of its own, and the cloud's.
        self.cloud, self.work, self.state = cloud, pathlib.Path(work), pathlib.Path(state)
        self.variables = json.loads((self.work / "variables.json").read_text(encoding="utf-8"))
        # Members of the ring in the order of their making, and hosts with the API.
        self.hosts, self.apis = [], []
        # Snapshots by the name of their image.
        self.images = {}

    def save(self):
        kept = {"hosts": [host.name for host in self.hosts], "apis": [host.name for host in self.apis]}
        (self.work / "trial.json").write_text(json.dumps(kept), encoding="utf-8")

    def load(self):
        """Goes on with what an earlier run left."""
        kept = json.loads((self.work / "trial.json").read_text(encoding="utf-8"))
        there = {host.name: host for host in self.cloud.hosts()}
        self.hosts = [there[name] for name in kept["hosts"]]
        self.apis = [there[name] for name in kept["apis"]]
        for name, host in there.items():
            if name not in kept["hosts"] + kept["apis"]:
                host.destroy()
            elif host.shown()["status"] == "off":
                host.act("power_on")
        for host in self.hosts:
            host.up()
        self.are_members(BACK_SECS_MAX)

    def clear(self):
        for host in self.cloud.hosts():
            host.destroy()

    def pem(self, name):
        return (self.work / name).read_text(encoding="ascii")

    def database_user_data(self, rack, certificate):
        certificates = {f"/etc/tidepool/{name}": self.pem(name) for name in ("ca.pem", "node.key")}
        certificates["/etc/tidepool/node.pem"] = self.pem(certificate)
        settings = SETTINGS.replace("[tls]", f"rack = {rack}\n[tls]")
        return write_files({"/etc/tidepool/db.conf": settings, **certificates, "/etc/default/metricbeat": METRICBEAT})

    def create(self, *names, rack="auto", certificate="node.pem", image=None):
        """Database hosts, all at once; of their own image, or of a snapshot."""
        made = self.cloud.create(list(names), image or self.images["db"], self.database_user_data(rack, certificate))
        for host in made:
            host.up()
        return made

    def addresses(self):
        return [host.private for host in self.hosts]

    def are_members(self, seconds):
        for host in self.hosts:
            wait_until(lambda host=host: f"{host.name} is a member: {host.status()}", seconds, lambda host=host: host.state() == "member")

    def execute(self, host, *statements, login=KEEPER, consistency="QUORUM"):
        """The last statement's rows, or its error."""
        return host.client("execute", login=login, address=host.private, statements=statements, consistency=consistency)

    def agree_on_the_schema(self):
        """Waits until a table that one host made is there for all."""

        def versions():
            found = [self.execute(host, "SELECT schema_version FROM system.local", consistency="ONE")["rows"] for host in self.hosts]
            return len({rows[0]["schema_version"] for rows in found}) == 1

        wait_until("all agree on the schema", SCHEMA_SECS_MAX, versions)

    def reads_all(self, host):
        answer = host.client("read", login=APPLICATION, addresses=[host.private], first=0, last=ROWS)
        require(answer["count"] == ROWS, f"{host.name} has {answer['count']} of {ROWS} rows")

    def all_there(self, keys):
        for host in self.hosts:
            found = set()
            for at in range(0, len(keys), 500):
                found |= set(host.client("find", login=APPLICATION, address=host.private, keys=keys[at : at + 500])["found"])
            lost = sorted(set(keys) - found)
            require(not lost, f"{host.name}: {len(lost)} of {len(keys)} acknowledged rows are gone: {lost[:10]}")

    def on_again(self, hosts):
        """Gives hosts their power back, and waits until all are members."""
        for host in hosts:
            host.act("power_on")
        for host in hosts:
            host.up()
        self.are_members(BACK_SECS_MAX)
