"""Hosts of the API's image keep their documents in the ring: told by user data alone, over TLS."""

import json
import socket
import urllib.error
import urllib.request

from hosts import wait_until, write_files
from trial import APPLICATION, Skipped, require

PUBLIC_PORT, OPERATIONS_PORT = 8080, 9090
READY_SECS_MAX = 180
DOCUMENTS = 50
CREDENTIALS = "/run/credentials/tidepool-api.service/secret_"
UNREACHABLE = 0

SETTINGS = """store = "cassandra://{addresses}/tidepool"
listen = "0.0.0.0:{public}"
ops_listen = "0.0.0.0:{operations}"
startup_wait_secs = 120
[cassandra]
datacenter = "nyc3"
username = "{username}"
password_file = "{credentials}cassandra-password"
[cassandra.tls]
ca_file = "{credentials}cluster-ca"
# One certificate serves all database hosts, whose addresses it can't name.
verify_host = false
"""


def user_data(trial):
    settings = SETTINGS.format(
        addresses=",".join(trial.addresses()),
        public=PUBLIC_PORT,
        operations=OPERATIONS_PORT,
        username=APPLICATION[0],
        credentials=CREDENTIALS,
    )
    return write_files(
        secret={
            "/etc/tidepool-api/credentials/cassandra-password": APPLICATION[1],
            "/etc/tidepool-api/credentials/cluster-ca": trial.pem("ca.pem"),
        },
        public={"/etc/tidepool-api/config.toml": settings},
    )


def needs_apis(trial):
    if not trial.apis:
        raise Skipped("there are no packages of ours: make packages")


def call(host, method, path, key=None, body=None):
    """Status and answer of the public port, asked for from this machine; UNREACHABLE when nobody is there."""
    request = urllib.request.Request(f"http://{host.public}:{PUBLIC_PORT}{path}", method=method)
    if key is not None:
        request.add_header("Authorization", f"Bearer {key}")
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as failure:
        return failure.code, failure.read().decode()
    except OSError as failure:
        return UNREACHABLE, str(failure)


def is_ready(trial, host):
    """As a neighbour sees the operations port."""
    line = f"curl --silent --output /dev/null --write-out '%{{http_code}}' --max-time 10 http://{host.private}:{OPERATIONS_PORT}/readyz"
    return trial.hosts[1].run(line, check=False).strip() == "200"


def are_ready(trial):
    for host in trial.apis:
        wait_until(lambda host=host: f"{host.name} is ready: {journal(host)}", READY_SECS_MAX, lambda host=host: is_ready(trial, host))


def journal(host):
    return host.run("journalctl", "--unit=tidepool-api", "--output=cat", "--lines=8", "--no-pager", check=False)


def the_first_key(trial):
    """Made by one of the hosts, and by one alone."""
    keys = [key for key in (host.run("cat /var/lib/tidepool-api/first-key", check=False).strip() for host in trial.apis) if key]
    require(len(keys) == 1, f"{len(keys)} first keys")
    return keys[0]


def the_api_serves_on_both_ports(trial):
    """Two hosts made at once, so that both would make the schema."""
    if "api" not in trial.images:
        needs_apis(trial)
    # The step may have been taken before: a store that has a key gets none.
    answer = trial.execute(trial.hosts[0], "DROP KEYSPACE IF EXISTS tidepool")
    require("error" not in answer, answer)
    trial.apis = trial.cloud.create(["api-1", "api-2"], trial.images["api"], user_data(trial))
    for host in trial.apis:
        host.lets_in()
    are_ready(trial)
    for host in trial.apis:
        status, answer = call(host, "GET", "/v1/collections")
        require(status == 401, f"{host.name} answers {status}: {answer}")
    the_first_key(trial)


def a_document_of_one_api_is_read_at_the_other(trial):
    needs_apis(trial)
    key = the_first_key(trial)
    one, other = trial.apis
    answer = call(one, "PUT", "/v1/collections/notes", key, {})
    require(answer[0] in (200, 201), answer)
    for number in range(DOCUMENTS):
        answer = call(one, "PUT", f"/v1/collections/notes/documents/{number}", key, {"data": {"number": number}})
        require(answer[0] in (200, 201), answer)
    documents_are_there(trial, key, other)
    rows = trial.execute(trial.hosts[0], "SELECT keyspace_name, replication FROM system_schema.keyspaces")["rows"]
    replication = {row["keyspace_name"]: row["replication"] for row in rows}.get("tidepool", {})
    require(replication.get("nyc3") == "3", f"the keyspace tidepool has {replication}")


def documents_are_there(trial, key, host):
    for number in range(DOCUMENTS):
        status, answer = call(host, "GET", f"/v1/collections/notes/documents/{number}", key)
        require(status == 200 and answer["data"] == {"number": number}, f"{host.name}: {status}: {answer}")


def the_api_stops_by_draining(trial):
    """A request whose body is half sent when the service is stopped gets its answer, and the next one is refused."""
    needs_apis(trial)
    key, host = the_first_key(trial), trial.apis[0]
    body = json.dumps({"data": {"text": "x" * 40_000}}).encode()
    head = f"PUT /v1/collections/notes/documents/late HTTP/1.1\r\nHost: {host.public}\r\nAuthorization: Bearer {key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with socket.create_connection((host.public, PUBLIC_PORT), timeout=30) as connection:
        connection.sendall(head.encode() + body[: len(body) // 2])
        in_flight = f"curl --silent http://127.0.0.1:{OPERATIONS_PORT}/metrics | grep -E '^tidepool_http_requests_in_flight[^ ]* [1-9]'"
        wait_until("the request has begun", 20, lambda: host.run(in_flight, check=False))
        host.run("systemctl", "stop", "--no-block", "tidepool-api")
        stopping = "systemctl show --property=ActiveState --value tidepool-api"
        wait_until("it stops", 20, lambda: host.run(stopping).strip() == "deactivating")
        wait_until("nobody new gets in", 9, lambda: call(host, "GET", "/v1/collections")[0] in (UNREACHABLE, 503))
        connection.sendall(body[len(body) // 2 :])
        answer = connection.makefile("rb").read()
    require(answer.startswith(b"HTTP/1.1 201 "), answer[:300])
    wait_until("it has stopped", 30, lambda: host.run(stopping).strip() == "inactive")
    result = host.run("systemctl show --property=Result --value tidepool-api").strip()
    require(result == "success", f"the service ended with {result}: {journal(host)}")
    host.run("systemctl", "start", "tidepool-api")
    status, answer = call(trial.apis[1], "GET", "/v1/collections/notes/documents/late", key)
    require(status == 200, f"{status}: {answer}")


def the_api_is_back_with_its_documents(trial):
    """After the database was."""
    needs_apis(trial)
    are_ready(trial)
    key = the_first_key(trial)
    for host in trial.apis:
        documents_are_there(trial, key, host)
