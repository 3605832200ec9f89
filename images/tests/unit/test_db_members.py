"""What members are told in CQL, word for word, without a server."""

import unittest

import db_context
from tidepool_db import members, settings

LOGINS = """
[application]
name = schema
password = correct horse battery

[reader]
name = view
password = correct horse battery
keyspaces = index, absent
"""


class Told(members.Members):
    """Takes every login, and keeps what it was told."""

    def __init__(self, rows=()):
        super().__init__(None, None)
        self.statements, self.rows = [], rows

    def connect(self, address, login=None, timeout_secs=20.0):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def close(self):
        pass

    def query(self, statement, consistency="LOCAL_ONE"):
        self.statements.append(statement)
        return list(self.rows)


class Names(unittest.TestCase):
    """CQL has words that are names only in quotes: a role called `view` is one."""

    GIVEN = settings.parse(db_context.SETTINGS + LOGINS)

    def test_roles_are_named_in_quotes(self):
        told = Told()
        members.secure(told, "127.0.0.1", self.GIVEN, "nyc3")
        made = [statement.split(" WITH ")[0] for statement in told.statements if "ROLE" in statement]
        self.assertEqual(made, ['CREATE ROLE IF NOT EXISTS "schema"', 'CREATE ROLE IF NOT EXISTS "view"', "DROP ROLE IF EXISTS cassandra"])
        self.assertIn('GRANT CREATE ON ALL KEYSPACES TO "schema"', told.statements)
        self.assertIn('ROLE IF NOT EXISTS "token" WITH', members._create_role(settings.Login("token", "secret"), superuser=True))

    def test_keyspaces_are_named_in_quotes(self):
        told = Told([{"keyspace_name": "index"}])
        self.assertEqual(told.grant_reader("10.0.0.1", self.GIVEN), ["absent"])
        self.assertEqual(told.statements[1:], ['GRANT SELECT ON KEYSPACE "index" TO "view"'])


if __name__ == "__main__":
    unittest.main()
