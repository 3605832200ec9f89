"""tidepool-db configure | run | gate | status | forget-vote | adopt | move-seed NAME ADDRESS"""

import json
import logging
import os
import signal
import sys
import threading
import time

from . import configure, daemon, identity, members, neighbours, paths, render, ring, settings

USAGE_ERROR = 64


def main(arguments):
    commands = {
        ("configure", 0): configure_host,
        ("run", 0): run,
        ("gate", 0): gate,
        ("status", 0): status,
        ("forget-vote", 0): forget_vote,
        ("adopt", 0): adopt,
        ("move-seed", 2): move_seed,
    }
    command = commands.get((arguments[0] if arguments else "", len(arguments) - 1))
    if command is None:
        print(__doc__, file=sys.stderr)
        return USAGE_ERROR
    try:
        return command(*arguments[1:])
    except (configure.Refused, settings.Invalid, identity.Changed) as refusal:
        for line in str(refusal).splitlines():
            print(f"tidepool-db: {line}", file=sys.stderr)
        return USAGE_ERROR


def configure_host():
    """As root, before everything else. Why it refuses is what `status` says, too."""
    try:
        facts = configure.run()
    except (configure.Refused, settings.Invalid, identity.Changed) as refusal:
        os.makedirs(paths.RUN, exist_ok=True)
        daemon.write(paths.STATUS, json.dumps({"state": "refused", "reason": str(refusal)}, indent=1) + "\n")
        raise
    print(f"{facts.host} at {facts.address}, datacentre {facts.datacenter}, rack {facts.rack}")
    return 0


def load_settings():
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    with open(f"{folder}/db.conf" if folder else paths.SETTINGS, encoding="utf-8") as file:
        return settings.parse(file.read())


def load_facts():
    with open(paths.FACTS, encoding="utf-8") as file:
        return json.load(file)


def tls_paths():
    return f"{paths.TLS}/ca.pem", f"{paths.TLS}/node.pem", f"{paths.TLS}/node.pem"


def run():
    """As Cassandra's user, for as long as the host runs."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    given = load_settings()
    facts = load_facts()
    file = identity.IdentityFile(paths.IDENTITY)
    host = daemon.Host(facts, file.load(), file)
    life = daemon.Daemon(given, host, neighbours.client_context(*tls_paths()))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end(life.stop))
    with neighbours.Server(facts["address"], neighbours.server_context(*tls_paths()), host.answer) as server:
        server.start()
        life.run()
        server.shutdown()
    return 0


def end(stop):
    """By a signal, which may come while this thread has the event's lock, or a second time while the first one sets it."""
    threading.Thread(target=stop.set, daemon=True).start()


def gate():
    """Before Cassandra, by its unit: waits until this host may start, and picks the configuration for it."""
    said = False
    while True:
        configuration, copies = allowed()
        if configuration in ("first", "member"):
            with open(f"{paths.CONFIG}/cassandra-{configuration}.yaml", encoding="utf-8") as file:
                text = file.read()
            with open(paths.CHOSEN, "w", encoding="utf-8") as file:
                file.write(render.spread_for(text, copies))
            return 0
        if not said:
            print("waiting for tidepool-db to let this host into the ring", flush=True)
            said = True
        time.sleep(1)


def allowed():
    """Which configuration Cassandra may start with, and for how many copies it chooses its tokens if it joins; None for "not yet"."""
    try:
        with open(paths.MAY_START, encoding="ascii") as file:
            configuration, copies = file.read().split()
            return configuration, copies
    except FileNotFoundError:
        return None, None


def status():
    """0 for a member, 1 otherwise."""
    try:
        with open(paths.STATUS, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        print(f"tidepool-db has not said anything yet; without {paths.SETTINGS} it doesn't start", file=sys.stderr)
        return 1
    print(text, end="")
    return 0 if json.loads(text)["state"] == "member" else 1


def forget_vote():
    """For an operator who knows that the host which got this one's vote is gone for good and never founded a ring."""
    file = identity.IdentityFile(paths.IDENTITY)
    kept = file.load()
    if kept is None or not kept.fresh:
        print("tidepool-db: this host belongs to a ring, or is about to: its vote doesn't matter any more", file=sys.stderr)
        return USAGE_ERROR
    owner = os.stat(paths.IDENTITY)
    kept.vote = None
    file.save(kept)
    os.chown(paths.IDENTITY, owner.st_uid, owner.st_gid)
    print("forgotten; now: systemctl restart tidepool-db")
    return 0


def adopt():
    """For an operator who knows that the machine whose data this is is gone for good: from now on it is this one's."""
    file = identity.IdentityFile(paths.IDENTITY)
    kept, machine = file.load(), load_facts()["machine"]
    if kept is None or not (kept.moved_to(machine) or kept.copy_on):
        print("tidepool-db: this data is this machine's already", file=sys.stderr)
        return USAGE_ERROR
    owner = os.stat(paths.IDENTITY)
    kept.machine, kept.copy_on = machine, None
    file.save(kept)
    os.chown(paths.IDENTITY, owner.st_uid, owner.st_gid)
    print("adopted; now: systemctl restart tidepool-db")
    return 0


def move_seed(name, address):
    """Gives a seed's name to another member; every host follows within a quarter of a minute."""
    own = load_facts()["address"]
    if name not in render.SEED_NAMES:
        print(f"tidepool-db: the names are {', '.join(render.SEED_NAMES)}", file=sys.stderr)
        return USAGE_ERROR
    asked = members.Members(neighbours.client_context(*tls_paths()), load_settings().superuser)
    view = asked.view(own)
    if view is None or address not in ring.members_of(view):
        print(f"tidepool-db: {address} is not a member of the ring, as far as this host can say", file=sys.stderr)
        return USAGE_ERROR
    asked.move_seed(own, name, address)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
