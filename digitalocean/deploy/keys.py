"""Keys, passwords and a private authority: made once, outside the repository, readable by their owner alone. What is there is never
made anew: hosts have been told it."""

import os
import secrets

from .outcome import Stopped
from .settings import write_private
from .tools import run

# The authority and what it signs end together: docs/runbooks says how they are renewed.
DAYS = 3650
PASSWORDS = ("database-superuser-password", "database-password")
# What else belongs to each: a half that is missing is not made anew.
PAIRS = (("id_ed25519", "id_ed25519.pub"), ("ca.key", "ca.pem"), ("node.key", "node.pem"))


def make(folder):
    """Makes what is missing; returns the names of what was made."""
    refuse_public_halves(folder)
    made = []
    if not (folder / "id_ed25519").exists():
        must(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tidepool-deploy", "-f", folder / "id_ed25519"])
        made.append("id_ed25519")
    elif not (folder / "id_ed25519.pub").exists():
        said = must(["ssh-keygen", "-y", "-f", folder / "id_ed25519"])
        write_private(folder / "id_ed25519.pub", said.strip() + "\n")
    for private, public in PAIRS[1:]:
        if (folder / private).exists() and not (folder / public).exists():
            # It was interrupted before the second half was there, so that nobody was told the first.
            (folder / private).unlink()
    for name in PASSWORDS:
        if not (folder / name).exists():
            write_private(folder / name, secrets.token_hex(24))
            made.append(name)
    if not (folder / "ca.key").exists():
        make_authority(folder)
        made.append("ca.pem")
    if not (folder / "node.key").exists():
        make_node(folder)
        made.append("node.pem")
    for file in folder.iterdir():
        file.chmod(0o600)
    return made


def refuse_public_halves(folder):
    """The private half is written first, so that a public one without it was in use: hosts know it, and another would not fit to it. So was
    an authority that has signed."""
    lost = [(private, public) for private, public in PAIRS if (folder / public).exists() and not (folder / private).exists()]
    if (folder / "node.pem").exists() and not (folder / "ca.pem").exists():
        lost.append(("ca.pem", "node.pem"))
    if lost:
        lines = "\n".join(f"  - {private}, to which {public} belongs" for private, public in lost)
        raise Stopped("missing-needs", f"halves of keys are gone from {folder}:\n{lines}\nThey are not made anew, for hosts know the old ones: bring them back from a copy")


NEW_KEY = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def make_authority(folder):
    must([*NEW_KEY, "-x509", "-days", DAYS, "-subj", "/CN=Tidepool database", "-keyout", folder / "ca.key", "-out", folder / "ca.pem"])


def make_node(folder):
    """One certificate for all hosts of the database, of X.509's version 3, which has extensions."""
    request, extensions = folder / "node.csr", folder / "node.ext"
    extensions.write_text("extendedKeyUsage = serverAuth, clientAuth\n", encoding="ascii")
    try:
        must([*NEW_KEY, "-subj", "/CN=Tidepool database host", "-keyout", folder / "node.key", "-out", request])
        sign = ["openssl", "x509", "-req", "-in", request, "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-CAcreateserial"]
        must([*sign, "-days", DAYS, "-extfile", extensions, "-out", folder / "node.pem"])
    finally:
        for file in (request, extensions, folder / "ca.srl"):
            file.unlink(missing_ok=True)


def must(line):
    before = os.umask(0o077)
    try:
        status, said = run(line, secs=120)
    finally:
        os.umask(before)
    if status != 0:
        raise Stopped("missing-needs", f"{line[0]} could not make a key: {said.strip()[-500:]}")
    return said
