"""The smoke test: what a client does, from outside, by name and over HTTPS."""

import http.client
import json
import os
import random
import socket
import ssl
import struct

from .outcome import Stopped
from .progress import until

SECS_MAX = 300
CALL_SECS = 15
COLLECTION = "deploy-smoke"


class NotYet(Exception):
    """What is not as it should be."""


def address_of(name, server):
    """The first address of a name: by `server` (HOST or HOST:PORT), else as the system does."""
    if server is None:
        try:
            return socket.gethostbyname(name)
        except OSError as failure:
            raise NotYet(f"{name} does not resolve: {failure}") from failure
    host, _, port = server.partition(":")
    number = random.randrange(1 << 16)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.settimeout(5)
        channel.connect((host, int(port or 53)))
        try:
            channel.send(question(number, name))
            return first_address(channel.recv(4096), number, name)
        except OSError as failure:
            raise NotYet(f"{server} does not answer for {name}: {failure}") from failure


def question(number, name):
    """A query for addresses (RFC 1035, section 4)."""
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.rstrip(".").split("."))
    return struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">BHH", 0, 1, 1)


def first_address(answer, number, name):
    """The first A record of an answer; NotYet when there is none."""
    try:
        found, flags, questions, answers = struct.unpack_from(">4H", answer)
        if found != number or flags & 0xF:
            raise NotYet(f"{name} does not resolve: code {flags & 0xF}")
        at = 12
        for _ in range(questions):
            at = after_name(answer, at) + 4
        for _ in range(answers):
            at = after_name(answer, at)
            kind, _, _, length = struct.unpack_from(">HHIH", answer, at)
            at += 10
            if kind == 1 and length == 4 and at + 4 <= len(answer):
                return socket.inet_ntoa(answer[at : at + 4])
            at += length
    except (struct.error, IndexError) as failure:
        raise NotYet(f"the answer for {name} can't be read") from failure
    raise NotYet(f"{name} has no address")


def after_name(answer, at):
    while answer[at]:
        if answer[at] & 0xC0:
            return at + 2
        at += answer[at] + 1
    return at + 1


class Client:
    """Calls to one address by the service's name."""

    def __init__(self, name, address, authority=None):
        self.name, self.address = name, address
        self.context = ssl.create_default_context()
        if authority:
            self.context.load_verify_locations(authority)

    def connect(self, secure):
        plain = socket.create_connection((self.address, 443 if secure else 80), timeout=CALL_SECS)
        return self.context.wrap_socket(plain, server_hostname=self.name) if secure else plain

    def call(self, method, path, *, key=None, body=None, secure=True):
        """(status, headers, JSON or None)"""
        headers = {"Connection": "close"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection = http.client.HTTPConnection(self.name, timeout=CALL_SECS)
            connection.sock = self.connect(secure)
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
            connection.close()
        except (OSError, http.client.HTTPException) as failure:
            raise NotYet(f"{method} {'https' if secure else 'http'}://{self.name}{path}: {failure or type(failure).__name__}") from failure
        try:
            found = json.loads(text) if text else None
        except ValueError:
            found = None
        return answer.status, answer.headers, found


def expect(what, found, wanted):
    if found not in wanted:
        raise NotYet(f"{what} answers {found}, and not {' or '.join(map(str, wanted))}")


def once(service, key, name_server, authority):
    """All of it once; raises NotYet with the first thing that is not as it should be."""
    address = address_of(service["name"], name_server)
    if address != service["address"]:
        raise NotYet(f"{service['name']} leads to {address}, and the load balancer is at {service['address']}")
    client = Client(service["name"], address, authority)
    status, headers, _ = client.call("GET", "/v1/collections", secure=False)
    expect("plain HTTP", status, (301, 302, 307, 308))
    if not (headers.get("Location") or "").startswith(f"https://{service['name']}"):
        raise NotYet(f"plain HTTP leads to {headers.get('Location')}")
    expect("a call without a key", client.call("GET", "/v1/collections")[0], (401,))
    expect("the making of a collection", client.call("PUT", f"/v1/collections/{COLLECTION}", key=key, body={})[0], (200, 201))
    path = f"/v1/collections/{COLLECTION}/documents/run-{os.getpid()}"
    expect("the writing of a document", client.call("PUT", path, key=key, body={"data": {"pid": os.getpid()}})[0], (200, 201))
    status, _, document = client.call("GET", path, key=key)
    expect("its reading", status, (200,))
    if document["data"] != {"pid": os.getpid()}:
        raise NotYet("the document that is read is not the one that was written")
    expect("its removal", client.call("DELETE", path, key=key)[0], (200, 204))


def test(service, key, name_server=None, authority=None, secs=SECS_MAX):
    last = None

    def passes():
        nonlocal last
        try:
            once(service, key, name_server, authority)
        except NotYet as failure:
            last = failure
            return False
        return True

    if not until(passes, secs):
        raise Stopped("smoke-test-failed", f"the smoke test of {service['url']} does not pass within {secs} s: {last}")
