"""Frames of CQL's protocol, taken apart without a server; the real one is met by the trial of the database hosts."""

import ipaddress
import struct
import unittest
import uuid

import db_context  # noqa: F401
from tidepool_db import cql, members


def string(text):
    return struct.pack(">H", len(text)) + text.encode()


def value(raw):
    return struct.pack(">i", -1) if raw is None else struct.pack(">i", len(raw)) + raw


COLUMNS = [
    ("name", b"\0\x0d"),
    ("address", b"\0\x10"),
    ("holder", b"\0\x0c"),
    ("[applied]", b"\0\x04"),
    ("port", b"\0\x09"),
    ("replication", b"\0\x21\0\x0d\0\x0d"),
    ("tokens", b"\0\x22\0\x0d"),
]


def rows_frame(rows, paging=None):
    flags = 0x01 | (0x02 if paging is not None else 0)
    body = struct.pack(">iii", cql.ROWS, flags, len(COLUMNS)) + (value(paging) if paging is not None else b"")
    body += string("keyspace") + string("table") + b"".join(string(name) + kind for name, kind in COLUMNS)
    return body + struct.pack(">i", len(rows)) + b"".join(value(raw) for row in rows for raw in row)


class Rows(unittest.TestCase):
    ID = uuid.UUID(int=7)
    ROW = [
        b"join",
        ipaddress.ip_address("10.0.0.1").packed,
        ID.bytes,
        b"\1",
        struct.pack(">i", 9042),
        struct.pack(">i", 1) + value(b"nyc3") + value(b"3"),
        struct.pack(">i", 2) + value(b"1") + value(b"-2"),
    ]

    def test_each_type(self):
        rows, paging = cql._rows(cql._Reader(rows_frame([self.ROW, [None] * 7], b"next")))
        self.assertEqual(
            rows[0],
            {
                "name": "join",
                "address": "10.0.0.1",
                "holder": str(self.ID),
                "[applied]": True,
                "port": 9042,
                "replication": {"nyc3": "3"},
                "tokens": ["1", "-2"],
            },
        )
        self.assertEqual(set(rows[1].values()), {None})
        self.assertEqual(paging, b"next")

    def test_what_has_no_rows(self):
        self.assertEqual(cql._rows(cql._Reader(struct.pack(">i", 1))), ([], None))

    def test_a_frame_that_ends_too_early_is_an_error_wherever_it_ends(self):
        frame = rows_frame([self.ROW])
        for end in range(len(frame)):
            with self.assertRaises(cql.CqlError, msg=end):
                cql._rows(cql._Reader(frame[:end]))


class Statements(unittest.TestCase):
    def test_a_quote_ends_no_literal(self):
        self.assertEqual(cql.quoted("it's"), "'it''s'")

    def test_copies_by_datacentre(self):
        self.assertEqual(members._copies({"class": "…NetworkTopologyStrategy", "nyc3": "2"}, "nyc3"), 2)
        self.assertEqual(members._copies({"class": "…SimpleStrategy", "replication_factor": "1"}, "nyc3"), 0)


if __name__ == "__main__":
    unittest.main()
