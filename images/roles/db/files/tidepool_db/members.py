"""What is asked of members of the ring, and what is told them, in CQL."""

from . import cql, ring
from .settings import Login

# Ours: who joins now, and which address each seed name stands for.
KEYSPACE = "tidepool_ring"
LOCK_SECS = 60
# A member that takes longer is no member to join through.
LOOK_SECS = 10.0
# Those that a login, a repair or a trace depends on.
RAISED = ("system_auth", "system_distributed", "system_traces", KEYSPACE)
# Those whose rows must be on every copy at once.
REPAIRED = ("system_auth", KEYSPACE)

# Cassandra's own, on a ring without roles.
DEFAULT_SUPERUSER = Login("cassandra", "cassandra")

UNREACHABLE = (OSError, cql.CqlError)

GOSSIP_COLUMNS = ("address", "status", "status_with_port", '"schema"', "dc", "rack", "host_id", "generation", "heartbeat")


class Members:
    """Logs in to one member at a time; a connection lives as long as a question."""

    def __init__(self, context, login):
        self.context = context
        self.login = login
        # Why those that were asked last and didn't answer didn't.
        self.silent = {}

    def connect(self, address, login=None, timeout_secs=20.0):
        return cql.Connection(address, self.context, login or self.login, timeout_secs)

    def look(self, address):
        """The ring as the member at `address` sees it."""
        with self.connect(address, timeout_secs=LOOK_SECS) as member:
            gossip = member.query(f"SELECT {', '.join(GOSSIP_COLUMNS)} FROM system_views.gossip_info")
            streams = member.query("SELECT status FROM system_views.streaming")
        return ring.MemberView(tuple(_gossip(row) for row in gossip), any(row["status"] in ("init", "start") for row in streams))

    def view(self, address):
        """The same, or None when it can't be asked now. Raises CqlError for a refused login."""
        self.silent.pop(address, None)
        try:
            return self.look(address)
        except cql.CqlError as failure:
            if failure.code not in cql.NOT_NOW:
                raise
            self.silent[address] = str(failure)
        except OSError as failure:
            self.silent[address] = str(failure)
        return None

    def views(self, addresses):
        found = {address: self.view(address) for address in addresses}
        return {address: view for address, view in found.items() if view is not None}

    def bootstrapped(self, address):
        with self.connect(address, timeout_secs=5.0) as member:
            rows = member.query("SELECT bootstrapped FROM system.local")
        return bool(rows) and rows[0]["bootstrapped"] == "COMPLETED"

    def host_id(self, address):
        """Cassandra's own id of the member, which it keeps with its data."""
        with self.connect(address, timeout_secs=5.0) as member:
            rows = member.query("SELECT host_id FROM system.local")
        return rows[0]["host_id"] if rows else None

    # The lock: one row with a time to live, taken and kept by compare-and-set.

    def lock(self, address, holder, host):
        """Takes the lock or keeps it: None when it is ours, else the host that has it."""
        row = f"INSERT INTO {KEYSPACE}.locks (name, holder, host) VALUES ('join', {holder}, {cql.quoted(host)}) IF NOT EXISTS"
        keep = (
            f"UPDATE {KEYSPACE}.locks USING TTL {LOCK_SECS} SET holder = {holder}, host = {cql.quoted(host)} "
            f"WHERE name = 'join' IF holder = {holder}"
        )
        with self.connect(address) as member:
            answer = member.query(f"{row} USING TTL {LOCK_SECS}", "QUORUM")[0]
            if not answer["[applied]"] and answer.get("holder") == holder:
                answer = member.query(keep, "QUORUM")[0]
            return None if answer["[applied]"] else answer.get("host") or "another host"

    def unlock(self, address, holder):
        with self.connect(address) as member:
            member.query(f"DELETE FROM {KEYSPACE}.locks WHERE name = 'join' IF holder = {holder}", "QUORUM")

    def seeds(self, address):
        with self.connect(address) as member:
            return {row["name"]: row["address"] for row in member.query(f"SELECT name, address FROM {KEYSPACE}.seeds", "QUORUM")}

    def claim_seed(self, address, name, own_address):
        statement = f"INSERT INTO {KEYSPACE}.seeds (name, address) VALUES ({cql.quoted(name)}, '{own_address}') IF NOT EXISTS"
        with self.connect(address) as member:
            member.query(statement, "QUORUM")

    def move_seed(self, address, name, new_address):
        with self.connect(address) as member:
            member.query(f"UPDATE {KEYSPACE}.seeds SET address = '{new_address}' WHERE name = {cql.quoted(name)} IF EXISTS", "QUORUM")

    def replication(self, address, datacenter):
        """{keyspace: copies in this datacentre} of those that grow with the ring."""
        with self.connect(address) as member:
            rows = member.query("SELECT keyspace_name, replication FROM system_schema.keyspaces")
        return {row["keyspace_name"]: _copies(row["replication"], datacenter) for row in rows if row["keyspace_name"] in RAISED}

    def raise_replication(self, address, keyspaces, datacenter, copies):
        with self.connect(address, timeout_secs=60.0) as member:
            for keyspace in keyspaces:
                member.query(f"ALTER KEYSPACE {keyspace} WITH replication = {_replication(datacenter, copies)}")

    def grant_reader(self, address, settings):
        """Lets the reader read those of its keyspaces that exist by now; granting again changes nothing."""
        with self.connect(address) as member:
            existing = {row["keyspace_name"] for row in member.query("SELECT keyspace_name FROM system_schema.keyspaces")}
            for keyspace in settings.reader_keyspaces:
                if keyspace in existing:
                    member.query(f"GRANT SELECT ON KEYSPACE {cql.identifier(keyspace)} TO {cql.identifier(settings.reader.name)}")
            return [keyspace for keyspace in settings.reader_keyspaces if keyspace not in existing]


def _gossip(row):
    return ring.Gossip(
        address=row["address"],
        status=row["status_with_port"] or row["status"] or "",
        schema=row["schema"] or "",
        datacenter=row["dc"] or "",
        rack=row["rack"] or "",
        host_id=row["host_id"] or "",
        generation=row["generation"] or 0,
        heartbeat=row["heartbeat"] or 0,
    )


def _copies(replication, datacenter):
    """Copies by datacentre; SimpleStrategy's don't count, since it knows none."""
    return int(replication.get(datacenter, 0))


def _replication(datacenter, copies):
    return f"{{'class': 'NetworkTopologyStrategy', {cql.quoted(datacenter)}: {copies}}}"


def secure(members, address, settings, datacenter):
    """Makes the first member safe to be reached: our own roles, the ring's own keyspace, and no default superuser.

    May be cut off at any point and called again.
    """
    own = settings.superuser
    try:
        members.connect(address).close()
    except cql.CqlError as failure:
        if failure.code != cql.BAD_CREDENTIALS:
            raise
        with members.connect(address, DEFAULT_SUPERUSER) as first:
            first.query(_create_role(own, superuser=True))
    with members.connect(address) as first:
        first.query(f"CREATE KEYSPACE IF NOT EXISTS {KEYSPACE} WITH replication = {_replication(datacenter, 1)}")
        first.query(f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.locks (name text PRIMARY KEY, holder uuid, host text)")
        first.query(f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.seeds (name text PRIMARY KEY, address inet)")
        for login in (settings.application, settings.reader):
            if login is not None:
                first.query(_create_role(login, superuser=False))
        if settings.application is not None:
            # Whoever creates a keyspace may do everything in it.
            first.query(f"GRANT CREATE ON ALL KEYSPACES TO {cql.identifier(settings.application.name)}")
        first.query("DROP ROLE IF EXISTS cassandra")


def _create_role(login, superuser):
    return (
        f"CREATE ROLE IF NOT EXISTS {cql.identifier(login.name)} WITH PASSWORD = {cql.quoted(login.password)} "
        f"AND LOGIN = true AND SUPERUSER = {str(superuser).lower()}"
    )
