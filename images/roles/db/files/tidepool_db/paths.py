"""Where things are on a database host."""

SETTINGS = "/etc/tidepool/db.conf"
# Written at each boot by tidepool-host.service.
HOST = "/run/tidepool/host.json"

CONFIG = "/etc/cassandra"
TLS = f"{CONFIG}/tls"
DATA = "/var/lib/cassandra"
KEPT = f"{DATA}/tidepool"
IDENTITY = f"{KEPT}/identity.json"
# The only names that Cassandra's Java knows (jdk.net.hosts.file).
HOSTS = f"{KEPT}/hosts"

RUN = "/run/tidepool-db"
# What this boot found out; not secret.
FACTS = f"{RUN}/facts.json"
# Cassandra's unit waits for it. It holds which of the two configurations to start with.
MAY_START = f"{RUN}/may-start"
STATUS = f"{RUN}/status.json"
# Made by Cassandra's unit, and gone when it isn't running.
PID = "/run/cassandra/pid"
CHOSEN = "/run/cassandra/cassandra.yaml"

NODETOOL = "/usr/local/lib/tidepool/db-nodetool"
