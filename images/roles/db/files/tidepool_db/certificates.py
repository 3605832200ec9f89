"""Whether a CA, a certificate and its key can serve a member: what is wrong with them is said in a sentence, before Cassandra starts.

A member is a server to some of its neighbours and a client to others, with one certificate. So the host shakes hands with itself, and what
OpenSSL refuses then, every neighbour would.
"""

import dataclasses
import datetime
import ssl

from . import neighbours

BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
# More than any handshake has.
ROUNDS_MAX = 16
# A host's clock may be so much behind that of the machine where the certificate was made a moment ago; that passes by itself.
CLOCKS = datetime.timedelta(minutes=10)
VERSION_3 = (0xA0, b"\x02\x01\x02")
UTC_TIME = 0x17

# X509_V_ERR_…: the issuer isn't among the trusted; a date; the use.
NOT_OF_THE_CA = (2, 7, 18, 19, 20, 21)
NOT_YET, EXPIRED = 9, 10
NOT_FOR_THAT = 26


@dataclasses.dataclass(frozen=True)
class Refusal:
    """What a certificate was not taken for, and why."""

    use: str
    error: ssl.SSLCertVerificationError


class Unfit(Exception):
    """Why these files can't serve a member; a sentence for people."""


def check(given, now):
    """Returns (certificate and key, CA) as PEM texts that Cassandra and every neighbour take, or raises Unfit. `given` has their paths."""
    texts = {key: read(key, getattr(given, key)) for key in ("ca", "certificate", "key")}
    if "-----BEGIN PRIVATE KEY-----" not in texts["key"]:
        raise Unfit(
            f"tls.key: {given.key} is not an unencrypted PKCS #8 key, which is what Cassandra reads; "
            f"`openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW` makes one"
        )
    for key in ("ca", "certificate"):
        if BEGIN not in texts[key]:
            raise Unfit(f"tls.{key}: {getattr(given, key)} holds no certificate ({BEGIN})")
    paths = given.ca, given.certificate, given.key
    try:
        server, client = neighbours.server_context(*paths), neighbours.client_context(*paths)
    except (ssl.SSLError, OSError) as failure:
        if getattr(failure, "reason", None) == "KEY_VALUES_MISMATCH":
            raise Unfit(f"tls.key: {given.key} is not the key of {given.certificate}") from failure
        raise Unfit(f"tls: {given.certificate}, {given.key} and {given.ca} can't be used together: {failure}") from failure
    fields = fields_of(texts["certificate"])
    if fields[0] != VERSION_3:
        raise Unfit(
            f"tls.certificate: {given.certificate} is of X.509's version 1, which clients such as tidepool-api refuse; "
            f"`openssl x509 -req` makes version 3 when it is given an extension (-extfile)"
        )
    begin = check_dates(given.certificate, fields, now)
    try:
        refusal = shake_hands(server, client)
    except ssl.SSLError as failure:
        raise Unfit(f"tls: with {given.certificate} and {given.ca} two hosts can't shake hands: {failure}") from failure
    # What is valid in a moment will be taken in a moment.
    if refusal and not (begin > now and refusal.error.verify_code == NOT_YET):
        raise Unfit(sentence(given, refusal, now))
    return texts["certificate"] + texts["key"], texts["ca"]


def read(key, path):
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip() + "\n"
    except (OSError, UnicodeDecodeError) as failure:
        raise Unfit(f"tls.{key}: {path} can't be read: {failure}") from failure


def check_dates(path, fields, now):
    """Since when the certificate is valid; raises Unfit when that is not now."""
    begin, end = (time_of(tag, text) for tag, text in elements(fields[4][1]))
    if now > end:
        raise Unfit(f"tls.certificate: {path} has expired: it was valid until {said(end)}, and this host's clock says {said(now)}")
    if now < begin - CLOCKS:
        raise Unfit(f"tls.certificate: {path} is not valid before {said(begin)}, and this host's clock says {said(now)}")
    return begin


def shake_hands(server, client):
    """The Refusal of this host's certificate by itself, or None. Raises ssl.SSLError for what isn't about the certificate."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    # What the client refuses was shown by the server, and the other way round.
    sides = {
        "serverAuth": client.wrap_bio(to_client, to_server),
        "clientAuth": server.wrap_bio(to_server, to_client, server_side=True),
    }
    for _ in range(ROUNDS_MAX):
        for use, side in list(sides.items()):
            try:
                side.do_handshake()
                # A client of TLS 1.3 is done before the server has looked at its certificate.
                del sides[use]
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError as error:
                return Refusal(use, error)
    return None


def sentence(given, refusal, now):
    code, words = refusal.error.verify_code, refusal.error.verify_message
    if code == NOT_FOR_THAT:
        return (
            f"tls.certificate: {given.certificate} is not for {refusal.use}: a member is a server and a client to its neighbours, so a certificate "
            f"that names its uses (extendedKeyUsage) must name serverAuth and clientAuth"
        )
    if code in (NOT_YET, EXPIRED):
        return f"tls.ca: a CA in {given.ca} or {given.certificate}: {words}; this host's clock says {said(now)}"
    if code in NOT_OF_THE_CA:
        return (
            f"tls.certificate: {given.certificate} is not signed by the CA in {given.ca}, or a CA between the two is missing "
            f"({words})"
        )
    return f"tls.certificate: {given.certificate} is refused by hosts that trust {given.ca}: {words}"


def said(time):
    return f"{time:%Y-%m-%d %H:%M} UTC"


def fields_of(pem):
    """[(tag, content)] of the first certificate in `pem`: version (left out for version 1), number, algorithm, issuer, validity, …"""
    der = ssl.PEM_cert_to_DER_cert(pem[pem.index(BEGIN) : pem.index(END) + len(END)])
    [(_, certificate)] = elements(der)
    return elements(elements(certificate)[0][1])


def elements(der):
    """[(tag, content)] of what follows one another in `der`: behind a tag comes a length, of one byte or of as many as that byte says."""
    found = []
    while der:
        length, start = der[1], 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(der[2:start], "big")
        found.append((der[0], der[start : start + length]))
        der = der[start + length :]
    return found


def time_of(tag, text):
    """X.509 writes years before 2050 with two digits."""
    digits = text.decode()
    if tag == UTC_TIME:
        digits = ("20" if digits < "50" else "19") + digits
    return datetime.datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
