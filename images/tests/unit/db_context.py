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


BOTH_USES = "extendedKeyUsage = serverAuth, clientAuth\n"
AUTHORITY = """
[ca]
default_ca = own
[own]
database = {folder}/index
new_certs_dir = {folder}
rand_serial = yes
certificate = {folder}/ca.pem
private_key = {folder}/ca.key
default_md = sha256
policy = any
[any]
commonName = supplied
"""


def certificates(folder, extensions=BOTH_USES, valid=None):
    """A CA and one certificate of it: (ca, certificate, key) as paths. Without extensions it is of X.509's version 1. `valid` is from when
    until when, such as ("20200101000000Z", "20210101000000Z")."""
    ca, ca_key, request, certificate, key = (
        f"{folder}/{name}" for name in ("ca.pem", "ca.key", "node.csr", "node.pem", "node.key")
    )
    more = f"{folder}/extensions"
    pathlib.Path(more).write_text(extensions, encoding="ascii")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj"]
    sign = ["openssl", "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-out", certificate]
    if valid:
        pathlib.Path(folder, "authority").write_text(AUTHORITY.format(folder=folder), encoding="ascii")
        pathlib.Path(folder, "index").touch()
        sign = ["openssl", "ca", "-batch", "-notext", "-config", f"{folder}/authority", "-in", request, "-out", certificate]
        sign += ["-startdate", valid[0], "-enddate", valid[1], "-extfile", more]
    else:
        sign += ["-days", "3650", *(["-extfile", more] if extensions else [])]
    for command in (
        [*new, "/CN=ca", "-x509", "-days", "3650", "-keyout", ca_key, "-out", ca],
        [*new, "/CN=db", "-keyout", key, "-out", request],
        sign,
    ):
        subprocess.run(command, check=True, capture_output=True)
    return ca, certificate, key
