"""Finds the program of the role `db`, and makes certificates for tests."""

import pathlib
import subprocess
import sys

ROLE = pathlib.Path(__file__).resolve().parents[2] / "roles" / "db"
sys.path.insert(0, str(ROLE / "files"))

SETTINGS = """
[cluster]
name = tidepool
founder = db-1

[tls]
ca = /etc/tidepool/ca.pem
certificate = /etc/tidepool/node.pem
key = /etc/tidepool/node.key

[superuser]
name = keeper
password = correct horse battery
"""


def certificates(folder, extensions="extendedKeyUsage = serverAuth, clientAuth\n"):
    """A CA and one certificate of it: (ca, certificate, key) as paths. Without extensions it is of X.509's version 1."""
    ca, ca_key, request, certificate, key = (
        f"{folder}/{name}" for name in ("ca.pem", "ca.key", "node.csr", "node.pem", "node.key")
    )
    more = f"{folder}/extensions"
    pathlib.Path(more).write_text(extensions, encoding="ascii")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj"]
    sign = ["openssl", "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-out", certificate]
    for command in (
        [*new, "/CN=ca", "-x509", "-days", "3650", "-keyout", ca_key, "-out", ca],
        [*new, "/CN=db", "-keyout", key, "-out", request],
        [*sign, "-days", "3650", *(["-extfile", more] if extensions else [])],
    ):
        subprocess.run(command, check=True, capture_output=True)
    return ca, certificate, key
