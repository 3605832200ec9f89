"""Database hosts of the local cloud become one ring by themselves, and stay one: what is acknowledged is there, whoever loses power.

`check.py ENDPOINT IMAGE SSH_KEY TLS_FOLDER`: a running local cloud with systemd hosts, the image of a database host, a key for ssh, and a folder
with ca.pem, node.pem and node.key. Prints a line for each check; ends with 1 when one failed.
"""

import json
import pathlib
import sys
import time

from hosts import Cloud, finish, wait_until

ROWS = 10_000
SIZE = "s-2vcpu-4gb"
RING_SECS_MAX = 900
JOIN_SECS_MAX = 600
BACK_SECS_MAX = 600
KEEPER = ["keeper", "the keeper of this trial"]
READER = ["reader", "reads and nothing more"]
APPLICATION = ["application", "writes and reads a lot"]
BAD_CREDENTIALS, UNAUTHORIZED = 0x0100, 0x2100

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


def user_data(folder):
    files = {"db.conf": SETTINGS}
    for name in ("ca.pem", "node.pem", "node.key"):
        files[name] = pathlib.Path(folder, name).read_text(encoding="ascii")
    lines = ["#cloud-config", "write_files:"]
    for name, text in files.items():
        lines += [f"  - path: /etc/tidepool/{name}", '    permissions: "0600"', "    content: |"]
        lines += [f"      {line}" for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def require(condition, message):
    if not condition:
        raise AssertionError(message)


class Trial:
    """The hosts that there are, and what was found; each step builds on those before it."""

    def __init__(self, cloud, data):
        self.cloud, self.data = cloud, data
        self.hosts = []

    def addresses(self):
        return [host.private for host in self.hosts]

    def members(self, seconds):
        for host in self.hosts:
            wait_until(f"{host.name} is a member ({host.status()})", seconds, lambda host=host: host.status().get("state") == "member")

    def execute(self, host, *statements, login=KEEPER, at=None, consistency="QUORUM"):
        return host.client("execute", login=login, address=at or host.private, statements=statements, consistency=consistency)

    def three_made_at_once_form_one_ring(self):
        self.hosts = self.cloud.create(["db-1", "db-2", "db-3"], self.data)
        for host in self.hosts:
            host.up()
        began = time.monotonic()
        self.members(RING_SECS_MAX)
        print(f"  three members after {time.monotonic() - began:.0f} s from ssh")
        for host in self.hosts:
            rows = self.execute(host, "SELECT address, status_with_port FROM system_views.gossip_info", consistency="ONE")["rows"]
            normal = sorted(row["address"] for row in rows if row["status_with_port"].startswith("NORMAL"))
            require(normal == sorted(self.addresses()), f"{host.name} sees {normal}")

    def logins_are_on_every_host(self):
        statement = "SELECT keyspace_name, replication FROM system_schema.keyspaces"
        rows = {row["keyspace_name"]: row["replication"] for row in self.execute(self.hosts[0], statement)["rows"]}
        for keyspace in ("system_auth", "system_distributed", "system_traces", "tidepool_ring"):
            require(rows[keyspace].get("nyc3") == "3", f"{keyspace} has {rows[keyspace]}")

    def seeds_are_members(self):
        for host in self.hosts:
            names = [line.split() for line in host.run("cat", "/var/lib/cassandra/tidepool/hosts").splitlines()]
            seeds = {name: address for address, name in names if name.startswith("seed-")}
            require(sorted(seeds) == ["seed-1", "seed-2"], f"{host.name} knows {seeds}")
            require(set(seeds.values()) < set(self.addresses()) and len(set(seeds.values())) == 2, f"{host.name} knows {seeds}")

    def the_default_superuser_cannot_log_in(self):
        for host in self.hosts:
            answer = self.execute(host, "SELECT release_version FROM system.local", login=["cassandra", "cassandra"])
            require(answer.get("code") == BAD_CREDENTIALS, f"{host.name}: {answer}")

    def plain_text_is_refused(self):
        for host in self.hosts:
            answer = host.client("plain_text", address=host.private)
            require(answer["first_byte"] != 0x84, f"{host.name} answers in plain text: {answer}")

    def rows_written_at_quorum_are_read_at_one_from_each(self):
        statements = (
            "CREATE KEYSPACE trial WITH replication = {'class': 'NetworkTopologyStrategy', 'nyc3': 3}",
            "CREATE TABLE trial.rows (id int PRIMARY KEY, value text)",
        )
        answer = self.execute(self.hosts[0], *statements, login=APPLICATION)
        require("error" not in answer, answer)
        began = time.monotonic()
        answer = self.hosts[0].client("write", login=APPLICATION, addresses=self.addresses(), first=0, last=ROWS)
        require(answer["count"] == ROWS, answer)
        print(f"  {ROWS} rows written at QUORUM in {time.monotonic() - began:.0f} s")
        for host in self.hosts:
            self.reads_all(host)

    def reads_all(self, host):
        answer = host.client("read", login=APPLICATION, addresses=[host.private], first=0, last=ROWS)
        require(answer["count"] == ROWS, f"{host.name} has {answer['count']} of {ROWS} rows")

    def the_reader_reads_and_no_more(self):
        host = self.hosts[0]
        read = "SELECT value FROM trial.rows WHERE id = 1"
        wait_until(
            "the reader may read", 60, lambda: self.execute(host, read, login=READER).get("rows") == [{"value": "value 1"}]
        )
        for statement in (
            "INSERT INTO trial.rows (id, value) VALUES (1, 'other')",
            "DROP TABLE trial.rows",
            "SELECT * FROM system_auth.roles",
            "CREATE ROLE other",
        ):
            answer = self.execute(host, statement, login=READER)
            require(answer.get("code") == UNAUTHORIZED, f"{statement}: {answer}")

    def a_power_cut_of_one_loses_nothing(self):
        writer = self.hosts[0].start_client("write_until_told", login=APPLICATION, addresses=self.addresses()[:1], first=ROWS)
        time.sleep(3)
        self.hosts[2].power_cut()
        time.sleep(10)
        lines, answer = finish(writer)
        self.hosts[2].power_on()
        self.hosts[2].up()
        print(f"  one host without power: {answer['acknowledged']} acknowledged, {answer['failed']} failed")
        self.members(BACK_SECS_MAX)
        self.all_there([int(line) for line in lines])

    def a_power_cut_of_all_loses_nothing(self):
        writer = self.hosts[0].start_client("write_until_told", login=APPLICATION, addresses=self.addresses(), first=10 * ROWS)
        acknowledged = []
        for line in writer.stdout:
            acknowledged.append(int(line))
            if len(acknowledged) == 200:
                break
        for host in reversed(self.hosts):
            host.power_cut()
        # What came through before the writer's own host lost power was acknowledged, too.
        rest = writer.communicate(timeout=60)[0].splitlines()
        acknowledged += [int(line) for line in rest if line.isdecimal()]
        print(f"  all hosts without power: {len(acknowledged)} acknowledged before")
        for host in self.hosts:
            host.power_on()
        for host in self.hosts:
            host.up()
        self.members(BACK_SECS_MAX)
        wait_until("all take logins", 300, lambda: all("rows" in self.execute(host, "SELECT key FROM system.local") for host in self.hosts))
        self.all_there(acknowledged)
        for host in self.hosts:
            self.reads_all(host)

    def all_there(self, keys):
        for host in self.hosts:
            found = set()
            for at in range(0, len(keys), 500):
                found |= set(host.client("find", login=APPLICATION, address=host.private, keys=keys[at : at + 500])["found"])
            lost = sorted(set(keys) - found)
            require(not lost, f"{host.name}: {len(lost)} of {len(keys)} acknowledged rows are gone: {lost[:10]}")

    def a_fourth_joins_without_losing_a_read(self):
        reader = self.hosts[0].start_client("read_until_told", login=APPLICATION, addresses=self.addresses()[:1], first=0, last=ROWS)
        [fourth] = self.cloud.create(["db-4"], self.data)
        fourth.up()
        self.hosts.append(fourth)
        self.members(JOIN_SECS_MAX)
        _, answer = finish(reader)
        print(f"  {answer['count']} reads at ONE while db-4 joined")
        require(answer["count"] > 100 and answer["missing"] == 0 and answer["failed"] == 0, answer)
        self.reads_all(fourth)
        owned = fourth.run("nodetool", "status", "trial")
        require(owned.count("\nUN ") == 4, owned)

    def a_reused_address_stays_out(self):
        """A member is destroyed and not removed; the cloud gives its address to a new host."""
        dead = self.hosts.pop()
        address = dead.private
        dead.destroy()
        [other] = self.cloud.create(["db-5"], self.data)
        other.up()
        require(other.private == address, f"the cloud gave {other.private}, not {address}")
        wait_until(f"db-5 refuses ({other.status()})", 180, lambda: other.status().get("state") == "refused")
        reason = other.status()["reason"]
        require(address in reason and "removenode" in reason, reason)
        require("the ring still knows" in other.run("journalctl", "--unit", "tidepool-db", "--output", "cat"), "not in the journal")
        require(other.run("systemctl", "show", "--property=ActiveState", "--value", "cassandra").strip() == "activating", "Cassandra runs")
        # Removed, it makes room by itself.
        status = self.hosts[0].run("nodetool", "status")
        dead_id = next(line.split()[-2] for line in status.splitlines() if line.startswith("DN") and address in line)
        self.hosts[0].run("nodetool", "removenode", dead_id)
        self.hosts.append(other)
        self.members(JOIN_SECS_MAX)
        self.reads_all(other)

    STEPS = (
        three_made_at_once_form_one_ring,
        logins_are_on_every_host,
        seeds_are_members,
        the_default_superuser_cannot_log_in,
        plain_text_is_refused,
        rows_written_at_quorum_are_read_at_one_from_each,
        the_reader_reads_and_no_more,
        a_power_cut_of_one_loses_nothing,
        a_power_cut_of_all_loses_nothing,
        a_fourth_joins_without_losing_a_read,
        the_default_superuser_cannot_log_in,
        a_reused_address_stays_out,
    )


def main(arguments):
    endpoint, image, key, tls = arguments
    trial = Trial(Cloud(endpoint, key, int(image) if image.isdecimal() else image, SIZE), user_data(tls))
    passed = 0
    for step in Trial.STEPS:
        name = step.__name__.replace("_", " ")
        began = time.monotonic()
        try:
            step(trial)
        except (AssertionError, OSError, json.JSONDecodeError, KeyError, StopIteration) as failure:
            print(f"FAILED: {name}: {type(failure).__name__}: {str(failure)[-2000:]}", flush=True)
            print(f"{passed} passed, 1 failed, {len(Trial.STEPS) - passed - 1} skipped", flush=True)
            return 1
        print(f"passed: {name} ({time.monotonic() - began:.0f} s)", flush=True)
        passed += 1
    print(f"{passed} passed, 0 failed, 0 skipped", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
