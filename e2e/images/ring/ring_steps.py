"""Three database hosts that were made at the same moment become one ring, which only its own logins can use, over TLS."""

import time

from hosts import wait_until
from trial import APPLICATION, KEEPER, READER, RING_SECS_MAX, ROWS, require

BAD_CREDENTIALS, UNAUTHORIZED = 0x0100, 0x2100


def three_made_at_once_form_one_ring(trial):
    began = time.monotonic()
    trial.hosts = trial.create("db-1", "db-2", "db-3")
    booted = time.monotonic()
    trial.are_members(RING_SECS_MAX)
    print(f"  ssh to all {booted - began:.0f} s after their creation, three members {time.monotonic() - booted:.0f} s later")
    for host in trial.hosts:
        rows = trial.execute(host, "SELECT address, status_with_port FROM system_views.gossip_info", consistency="ONE")["rows"]
        normal = sorted(row["address"] for row in rows if row["status_with_port"].startswith("NORMAL"))
        require(normal == sorted(trial.addresses()), f"{host.name} sees {normal}")


def logins_are_on_every_host(trial):
    statement = "SELECT keyspace_name, replication FROM system_schema.keyspaces"
    rows = {row["keyspace_name"]: row["replication"] for row in trial.execute(trial.hosts[0], statement)["rows"]}
    for keyspace in ("system_auth", "system_distributed", "system_traces", "tidepool_ring"):
        require(rows[keyspace].get("nyc3") == "3", f"{keyspace} has {rows[keyspace]}")


def seeds_known(host):
    """{name: address}"""
    names = [line.split() for line in host.run("cat", "/var/lib/cassandra/tidepool/hosts").splitlines()]
    return {name: address for address, name in names if name.startswith("seed-")}


def seeds_are_members(trial):
    for host in trial.hosts:
        seeds = seeds_known(host)
        require(sorted(seeds) == ["seed-1", "seed-2"], f"{host.name} knows {seeds}")
        require(set(seeds.values()) < set(trial.addresses()) and len(set(seeds.values())) == 2, f"{host.name} knows {seeds}")


def the_default_superuser_cannot_log_in(trial):
    for host in trial.hosts:
        answer = trial.execute(host, "SELECT release_version FROM system.local", login=["cassandra", "cassandra"])
        require(answer.get("code") == BAD_CREDENTIALS, f"{host.name}: {answer}")


def plain_text_is_refused(trial):
    for host in trial.hosts:
        answer = host.client("plain_text", address=host.private)
        require(answer["first_byte"] != 0x84, f"{host.name} answers in plain text: {answer}")


def rows_written_at_quorum_are_read_at_one_from_each(trial):
    statements = (
        "CREATE KEYSPACE IF NOT EXISTS trial WITH replication = {'class': 'NetworkTopologyStrategy', 'nyc3': 3}",
        "CREATE TABLE IF NOT EXISTS trial.rows (id int PRIMARY KEY, value text)",
    )
    answer = trial.execute(trial.hosts[0], *statements, login=APPLICATION)
    require("error" not in answer, answer)
    trial.agree_on_the_schema()
    began = time.monotonic()
    answer = trial.hosts[0].client("write", login=APPLICATION, addresses=trial.addresses(), first=0, last=ROWS)
    require(answer["count"] == ROWS, answer)
    written = time.monotonic()
    for host in trial.hosts:
        trial.reads_all(host)
    print(f"  {ROWS} rows written at QUORUM in {written - began:.0f} s, read at ONE three times in {time.monotonic() - written:.0f} s")


def the_reader_reads_and_no_more(trial):
    host = trial.hosts[0]
    read = "SELECT value FROM trial.rows WHERE id = 1"
    wait_until("the reader may read", 60, lambda: trial.execute(host, read, login=READER).get("rows") == [{"value": "value 1"}])
    for statement in (
        "INSERT INTO trial.rows (id, value) VALUES (1, 'other')",
        "DROP TABLE trial.rows",
        "SELECT * FROM system_auth.roles",
        "CREATE ROLE other",
    ):
        answer = trial.execute(host, statement, login=READER)
        require(answer.get("code") == UNAUTHORIZED, f"{statement}: {answer}")


def keeper_takes_login(trial, host):
    return "rows" in trial.execute(host, "SELECT key FROM system.local", login=KEEPER)
