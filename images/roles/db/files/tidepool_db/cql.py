"""A client for CQL's native protocol, version 4, over TLS: as much of it as the first boot needs.

cqlsh isn't in every source of Cassandra that the role knows, and its bundled driver doesn't run on every Python.
"""

import ipaddress
import socket
import struct
import uuid

PORT = 9042
# The largest frame that is read; the widest answer asked for here, a page of gossip, has some tens of kB.
FRAME_BYTES_MAX = 16 << 20
PAGE_ROWS = 1000

STARTUP, READY, AUTHENTICATE, QUERY, RESULT, AUTH_RESPONSE, AUTH_SUCCESS, ERROR = 0x01, 0x02, 0x03, 0x07, 0x08, 0x0F, 0x10, 0x00
ROWS = 2
CONSISTENCY = {"ONE": 0x01, "QUORUM": 0x04, "LOCAL_QUORUM": 0x06, "LOCAL_ONE": 0x0A}
SERIAL = 0x08
BAD_CREDENTIALS = 0x0100
# Unavailable, overloaded, still starting, timeouts and failures: another time it may be well.
NOT_NOW = range(0x1000, 0x2000)


class CqlError(Exception):
    """An answer that says no; `code` is the protocol's."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def quoted(text):
    """`text` as a CQL literal."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name):
    """`name` as CQL's name of a role or keyspace. Without quotes some sixty words, `view` and `token` among them, are not names."""
    return '"' + name.replace('"', '""') + '"'


class Connection:
    """One connection, one question at a time."""

    def __init__(self, address, context, login, timeout_secs=10.0, port=PORT):
        plain = socket.create_connection((address, port), timeout=timeout_secs)
        try:
            self.socket = context.wrap_socket(plain) if context else plain
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._start(login)
        except BaseException:
            plain.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def _start(self, login):
        opcode, _ = self._ask(STARTUP, _string_map({"CQL_VERSION": "3.0.0"}))
        if opcode == AUTHENTICATE:
            token = b"\0" + login.name.encode() + b"\0" + login.password.encode()
            opcode, _ = self._ask(AUTH_RESPONSE, struct.pack(">i", len(token)) + token)
        if opcode not in (READY, AUTH_SUCCESS):
            raise CqlError(0, f"the server answered a login with {opcode:#x}")

    def query(self, statement, consistency="LOCAL_ONE"):
        """The rows of all pages, each a dict; an empty list for what has none."""
        rows, paging = [], None
        while True:
            page, paging = self._page(statement, consistency, paging)
            rows += page
            if paging is None:
                return rows

    def _page(self, statement, consistency, paging):
        text = statement.encode()
        flags = 0x04 | 0x10 | (0x08 if paging is not None else 0)
        body = struct.pack(">i", len(text)) + text + struct.pack(">HBi", CONSISTENCY[consistency], flags, PAGE_ROWS)
        if paging is not None:
            body += struct.pack(">i", len(paging)) + paging
        opcode, answer = self._ask(QUERY, body + struct.pack(">H", SERIAL))
        if opcode != RESULT:
            raise CqlError(0, f"the server answered a statement with {opcode:#x}")
        return _rows(_Reader(answer))

    def _ask(self, opcode, body):
        self.socket.sendall(struct.pack(">BBhBi", 0x04, 0, 0, opcode, len(body)) + body)
        _, flags, _, answer_opcode, length = struct.unpack(">BBhBi", self._receive(9))
        if not 0 <= length <= FRAME_BYTES_MAX:
            raise CqlError(0, f"the server sent a frame of {length} bytes")
        reader = _Reader(self._receive(length))
        if flags & 0x08:
            for _ in range(reader.short()):
                reader.string()
        if answer_opcode == ERROR:
            code = reader.int()
            raise CqlError(code, reader.string())
        return answer_opcode, reader.rest()

    def _receive(self, count):
        parts = []
        while count:
            part = self.socket.recv(min(count, 1 << 16))
            if not part:
                raise ConnectionError("the server closed the connection")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


class _Reader:
    """Reads a frame's body from front to end."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        if count < 0 or self.at + count > len(self.data):
            raise CqlError(0, "the server sent a frame that ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def rest(self):
        return self.data[self.at :]

    def short(self):
        return struct.unpack(">H", self.take(2))[0]

    def int(self):
        return struct.unpack(">i", self.take(4))[0]

    def string(self):
        return self.take(self.short()).decode()

    def bytes(self):
        length = self.int()
        return None if length < 0 else self.take(length)

    def type(self):
        code = self.short()
        if code == 0x00:
            return code, self.string()
        if code in (0x20, 0x22):
            return code, self.type()
        if code == 0x21:
            return code, self.type(), self.type()
        if code == 0x30:
            self.string(), self.string()
            for _ in range(self.short()):
                self.string(), self.type()
        if code == 0x31:
            for _ in range(self.short()):
                self.type()
        return (code,)


def _string_map(values):
    body = struct.pack(">H", len(values))
    for pair in values.items():
        for text in pair:
            body += struct.pack(">H", len(text)) + text.encode()
    return body


def _rows(reader):
    if reader.int() != ROWS:
        return [], None
    flags, count = reader.int(), reader.int()
    paging = reader.bytes() if flags & 0x02 else None
    if flags & 0x01:
        reader.string(), reader.string()
    columns = []
    for _ in range(count):
        if not flags & 0x01:
            reader.string(), reader.string()
        columns.append((reader.string(), reader.type()))
    rows = [{name: _value(kind, reader.bytes()) for name, kind in columns} for _ in range(reader.int())]
    return rows, paging


_SCALARS = {
    0x01: bytes.decode,
    0x02: lambda raw: struct.unpack(">q", raw)[0],
    0x04: lambda raw: raw != b"\0",
    0x09: lambda raw: struct.unpack(">i", raw)[0],
    0x0C: lambda raw: str(uuid.UUID(bytes=raw)),
    0x0D: bytes.decode,
    0x10: lambda raw: str(ipaddress.ip_address(raw)),
}


def _value(kind, raw):
    """Texts, whole numbers, booleans, uuids, addresses and collections of them; anything else stays bytes."""
    if raw is None:
        return None
    if kind[0] in (0x20, 0x22):
        reader = _Reader(raw)
        return [_value(kind[1], reader.bytes()) for _ in range(reader.int())]
    if kind[0] == 0x21:
        reader = _Reader(raw)
        return {_value(kind[1], reader.bytes()): _value(kind[2], reader.bytes()) for _ in range(reader.int())}
    return _SCALARS.get(kind[0], lambda other: other)(raw)
