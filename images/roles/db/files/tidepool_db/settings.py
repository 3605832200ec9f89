"""What the user data says: an INI file, read into values that can't be wrong. Every problem is reported at once."""

import configparser
import dataclasses
import ipaddress
import re

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,47}")
ROLE = re.compile(r"[a-z][a-z0-9_]{0,47}")
KEYSPACE = re.compile(r"[a-z][a-z0-9_]{0,47}")
# Options of a keyspace's replication, beside which datacentres stand.
NOT_DATACENTERS = ("class", "replication_factor")
# Cassandra hashes with bcrypt, which reads 72 bytes.
PASSWORD_BYTES = range(12, 73)
# Above this a sweep of the network takes minutes: the hosts have to be named.
PEERS_MAX = 4094

# section -> keys; a key with None must be given.
KNOWN = {
    "cluster": {
        "name": None,
        "founder": None,
        "hosts_at_first": "3",
        "replication": "3",
        "datacenter": "auto",
        "rack": "auto",
        "address": "auto",
        "peers": "auto",
        "ring_delay_secs": "30",
    },
    "tls": {"ca": None, "certificate": None, "key": None, "client_certificates": "no"},
    "superuser": {"name": None, "password": None},
    "application": {"name": "", "password": ""},
    "reader": {"name": "", "password": "", "keyspaces": ""},
    "data": {"must_be_mounted": "no"},
    "memory": {"heap": "auto"},
}


class Invalid(Exception):
    """All that is wrong with a file of settings."""

    def __init__(self, problems):
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclasses.dataclass(frozen=True)
class Login:
    name: str
    password: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Settings:
    name: str
    founder: str
    hosts_at_first: int
    replication: int
    datacenter: str
    rack: str
    address: str
    peers: tuple
    ring_delay_secs: int
    ca: str
    certificate: str
    key: str
    client_certificates: bool
    superuser: Login
    application: "Login | None"
    reader: "Login | None"
    reader_keyspaces: tuple
    must_be_mounted: bool
    heap: str


def parse(text):
    """The settings in `text`; raises Invalid with every problem."""
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    try:
        parser.read_string(text)
    except configparser.Error as failure:
        raise Invalid([str(failure).replace("\n", " ")]) from failure
    problems = []
    values = _values(parser, problems)
    settings = _settings(values, problems)
    if problems:
        raise Invalid(problems)
    return settings


def _values(parser, problems):
    for section in parser.sections():
        if section not in KNOWN:
            problems.append(f"[{section}] is unknown; the sections are {', '.join(KNOWN)}")
            continue
        problems += [f"{section}.{key} is unknown" for key in parser[section] if key not in KNOWN[section]]
    values = {}
    for section, keys in KNOWN.items():
        for key, default in keys.items():
            given = parser.get(section, key, fallback=default)
            if given is None:
                problems.append(f"{section}.{key} is missing")
            values[f"{section}.{key}"] = given or ""
    return values


def _settings(values, problems):
    reading = _Reading(values, problems)
    reading.different("superuser.name", "application.name", "reader.name")
    return Settings(
        name=reading.match("cluster.name", NAME),
        founder=reading.match("cluster.founder", NAME),
        hosts_at_first=reading.number("cluster.hosts_at_first", 1, 9),
        replication=reading.number("cluster.replication", 1, 9),
        datacenter=reading.datacenter("cluster.datacenter"),
        rack=reading.match("cluster.rack", NAME),
        address=reading.address("cluster.address"),
        peers=reading.peers("cluster.peers"),
        ring_delay_secs=reading.number("cluster.ring_delay_secs", 1, 600),
        ca=reading.path("tls.ca"),
        certificate=reading.path("tls.certificate"),
        key=reading.path("tls.key"),
        client_certificates=reading.flag("tls.client_certificates"),
        superuser=reading.login("superuser", optional=False),
        application=reading.login("application", optional=True),
        reader=reading.login("reader", optional=True),
        reader_keyspaces=reading.keyspaces("reader.keyspaces"),
        must_be_mounted=reading.flag("data.must_be_mounted"),
        heap=reading.heap("memory.heap"),
    )


class _Reading:
    """Takes one value at a time and notes what is wrong with it."""

    def __init__(self, values, problems):
        self.values = values
        self.problems = problems

    def match(self, key, pattern):
        value = self.values[key]
        if value and not pattern.fullmatch(value):
            self.problems.append(f"{key} is {value!r}; it must match {pattern.pattern}")
        return value

    def datacenter(self, key):
        if self.values[key] in NOT_DATACENTERS:
            self.problems.append(f"{key} is {self.values[key]!r}, which is an option of a keyspace's replication")
        return self.match(key, NAME)

    def different(self, *keys):
        """One role for two purposes would have the rights of both, and one of the passwords."""
        for at, key in enumerate(keys):
            same = [other for other in keys[:at] if self.values[key] and self.values[other] == self.values[key]]
            if same:
                self.problems.append(f"{key} is {self.values[key]!r}, and so is {same[0]}: each needs a role of its own")

    def number(self, key, low, high):
        value = self.values[key]
        if not value.isdecimal() or not low <= int(value) <= high:
            self.problems.append(f"{key} is {value!r}; it must be a number from {low} to {high}")
            return low
        return int(value)

    def flag(self, key):
        value = self.values[key].lower()
        if value not in ("yes", "no", "true", "false"):
            self.problems.append(f"{key} is {value!r}; it must be yes or no")
        return value in ("yes", "true")

    def address(self, key):
        value = self.values[key]
        if value != "auto":
            try:
                ipaddress.IPv4Address(value)
            except ValueError:
                self.problems.append(f"{key} is {value!r}; it must be auto or an IPv4 address")
        return value

    def path(self, key):
        value = self.values[key]
        if value and not value.startswith("/"):
            self.problems.append(f"{key} is {value!r}; it must be an absolute path")
        return value

    def peers(self, key):
        words = tuple(self.values[key].replace(",", " ").split())
        for word in words:
            if "/" not in word:
                continue
            try:
                if ipaddress.IPv4Network(word, strict=False).num_addresses - 2 > PEERS_MAX:
                    self.problems.append(f"{key}: {word} has more than {PEERS_MAX} addresses; name the hosts, or a smaller range")
            except ValueError:
                self.problems.append(f"{key}: {word!r} is not an IPv4 range")
        if "auto" in words and len(words) > 1 or not words:
            self.problems.append(f"{key} must be auto, or names, addresses and ranges of the hosts")
        return words

    def keyspaces(self, key):
        words = tuple(self.values[key].replace(",", " ").split())
        self.problems += [f"{key}: {word!r} must match {KEYSPACE.pattern}" for word in words if not KEYSPACE.fullmatch(word)]
        if words and not self.values["reader.name"]:
            self.problems.append(f"{key} is given, and reader.name is not")
        return words

    def login(self, section, optional):
        name, password = self.values[f"{section}.name"], self.values[f"{section}.password"]
        if not name and not password:
            return None
        if optional and not name:
            self.problems.append(f"{section}.password is given, and {section}.name is not")
        if name and not ROLE.fullmatch(name):
            self.problems.append(f"{section}.name is {name!r}; it must match {ROLE.pattern}")
        if name == "cassandra":
            self.problems.append(f"{section}.name is that of the default superuser, which is dropped")
        if len(password.encode()) not in PASSWORD_BYTES:
            self.problems.append(
                f"{section}.password has {len(password.encode())} bytes; it must have {PASSWORD_BYTES.start} to {PASSWORD_BYTES.stop - 1}"
            )
        return Login(name, password)

    def heap(self, key):
        value = self.values[key]
        if value != "auto" and not re.fullmatch(r"[1-9][0-9]{0,5}[mM]", value):
            self.problems.append(f"{key} is {value!r}; it must be auto, or megabytes such as 2048m")
        return value.lower()
