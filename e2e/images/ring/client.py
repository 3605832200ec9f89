"""A client on a database host, run there by ssh: `client.py COMMAND JSON`. Prints one line of JSON.

It speaks CQL by the host's own program, with the certificates that user data brought.
"""

import concurrent.futures
import json
import socket
import struct
import sys
import threading

sys.path.insert(0, "/usr/local/lib/tidepool")
from tidepool_db import cql, neighbours, settings  # noqa: E402

TLS = neighbours.client_context("/etc/tidepool/ca.pem", "/etc/tidepool/node.pem", "/etc/tidepool/node.key")
CONNECTIONS = 8
ATTEMPTS = 10
# Between two questions of a client that goes on until it is told: the machine is for the hosts.
PACE_SECS = 0.005


def login(given):
    return settings.Login(*given["login"])


def connect(address, given):
    return cql.Connection(address, TLS, login(given), timeout_secs=30.0)


def execute(given):
    """Statements one by one at `address`; the last one's rows, or the error's code and text."""
    try:
        with connect(given["address"], given) as connection:
            for statement in given["statements"]:
                rows = connection.query(statement, given.get("consistency", "QUORUM"))
    except cql.CqlError as failure:
        return {"code": failure.code, "error": str(failure)}
    return {"rows": rows}


def in_parallel(given, one):
    """Calls one(connection, key) for every key over a few connections; the sum of what it returns."""
    keys, mutex, total = iter(range(given["first"], given["last"])), threading.Lock(), 0

    def work(number):
        done = 0
        addresses = given["addresses"]
        with connect(addresses[number % len(addresses)], given) as connection:
            while True:
                with mutex:
                    key = next(keys, None)
                if key is None:
                    return done
                done += one(connection, key)

    with concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as pool:
        total = sum(pool.map(work, range(CONNECTIONS)))
    return {"count": total}


def patiently(connection, statement, consistency):
    """The answer, asked for again when a busy machine was too slow: both of our questions may be."""
    for _ in range(ATTEMPTS - 1):
        try:
            return connection.query(statement, consistency)
        except cql.CqlError as failure:
            if failure.code not in cql.NOT_NOW:
                raise
    return connection.query(statement, consistency)


def write(given):
    def one(connection, key):
        patiently(connection, f"INSERT INTO trial.rows (id, value) VALUES ({key}, 'value {key}')", "QUORUM")
        return 1

    return in_parallel(given, one)


def read(given):
    """How many of the rows a read at ONE finds, each asked for by itself."""

    def one(connection, key):
        rows = patiently(connection, f"SELECT value FROM trial.rows WHERE id = {key}", "ONE")
        return int([row["value"] for row in rows] == [f"value {key}"])

    return in_parallel(given, one)


def write_until_told(given):
    """Writes at QUORUM until standard input closes; the keys that were acknowledged, and how many failed."""
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), stop.set()), daemon=True).start()
    acknowledged, failed, key, connection = [], 0, given["first"], None
    print("writing", flush=True)
    while not stop.is_set():
        try:
            connection = connection or connect(given["addresses"][key % len(given["addresses"])], given)
            connection.query(f"INSERT INTO trial.rows (id, value) VALUES ({key}, 'value {key}')", "QUORUM")
            acknowledged.append(key)
            print(key, flush=True)
        except (OSError, cql.CqlError):
            failed += 1
            connection = None
            stop.wait(0.1)
        key += 1
        stop.wait(PACE_SECS)
    return {"acknowledged": len(acknowledged), "failed": failed}


def read_until_told(given):
    """Reads rows at ONE until standard input closes: how many were read, and how many of them were missing or failed."""
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), stop.set()), daemon=True).start()
    count, missing, failed, span = 0, 0, 0, given["last"] - given["first"]
    print("reading", flush=True)
    with connect(given["addresses"][0], given) as connection:
        while not stop.is_set():
            key = given["first"] + count * 7919 % span
            try:
                rows = connection.query(f"SELECT value FROM trial.rows WHERE id = {key}", "ONE")
                missing += [row["value"] for row in rows] != [f"value {key}"]
            except cql.CqlError:
                failed += 1
            count += 1
            stop.wait(PACE_SECS)
    return {"count": count, "missing": missing, "failed": failed}


def find(given):
    """Which of `keys` are there, read at QUORUM."""
    found = []
    with connect(given["address"], given) as connection:
        for key in given["keys"]:
            rows = patiently(connection, f"SELECT value FROM trial.rows WHERE id = {key}", "QUORUM")
            if [row["value"] for row in rows] == [f"value {key}"]:
                found.append(key)
    return {"found": found}


def plain_text(given):
    """What a client without TLS gets to read."""
    with socket.create_connection((given["address"], cql.PORT), timeout=10) as connection:
        body = struct.pack(">H", 1) + b"\0\x0bCQL_VERSION\0\x053.0.0"
        connection.sendall(struct.pack(">BBhBi", 4, 0, 0, cql.STARTUP, len(body)) + body)
        try:
            answer = connection.recv(64)
        except (ConnectionError, TimeoutError):
            answer = b""
    # A CQL answer begins with 0x84 (version 4); a TLS alert with 0x15.
    return {"first_byte": answer[0] if answer else None}


COMMANDS = (execute, write, read, write_until_told, read_until_told, find, plain_text)

if __name__ == "__main__":
    command = next(function for function in COMMANDS if function.__name__ == sys.argv[1])
    print(json.dumps(command(json.loads(sys.argv[2]))), flush=True)
