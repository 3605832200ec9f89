"""How hosts that share one set of user data, and no name server, find each other: each answers on a port of its own.

One line of JSON is asked, one is answered, over TLS on which both sides show a certificate of the cluster's CA. So who can't
join the ring can't ask either. Candidates are the addresses of the private network, the nearest first, or those that are named.
"""

import concurrent.futures
import ipaddress
import json
import socket
import socketserver
import ssl
import threading

PORT = 7010
LINE_BYTES_MAX = 4096
CONNECT_SECS = 1.0
ANSWER_SECS = 5.0
# The kernel keeps at most 1,024 neighbours that it is still looking for, by default; a sweep stays well below.
ASKED_AT_ONCE = 64
SERVED_AT_ONCE = 32


def candidates(peers, own_address, network):
    """The addresses to ask, the nearest first, without one's own. `peers` is ("auto",) or names, addresses and ranges."""
    words = [str(network)] if list(peers) == ["auto"] else peers
    found = []
    for word in words:
        if "/" in word:
            own = int(ipaddress.IPv4Address(own_address))
            hosts = ipaddress.IPv4Network(word, strict=False).hosts()
            found += [str(host) for host in sorted(hosts, key=lambda host: abs(int(host) - own))]
        else:
            found += resolve(word)
    return [address for address in dict.fromkeys(found) if address != own_address]


def resolve(name):
    """The IPv4 addresses of `name`; none when it isn't known now."""
    try:
        return [row[4][0] for row in socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)]
    except OSError:
        return []


def client_context(ca, certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca)
    context.load_cert_chain(certificate, key)
    return context


def server_context(ca, certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(ca)
    context.load_cert_chain(certificate, key)
    return context


class TlsFailed(Exception):
    """Somebody is there, and one of the two refuses the other; why, in a few words."""


def ask(address, context, question, port=PORT):
    """A neighbour's answer, or None when nobody is there. Raises TlsFailed."""
    try:
        with socket.create_connection((address, port), timeout=CONNECT_SECS) as plain:
            plain.settimeout(ANSWER_SECS)
            with context.wrap_socket(plain) as connection, connection.makefile("rwb") as stream:
                stream.write(json.dumps(question).encode() + b"\n")
                stream.flush()
                answer = json.loads(stream.readline(LINE_BYTES_MAX))
                return answer if isinstance(answer, dict) else None
    except ssl.SSLEOFError:
        # One that has no place free, or that ends.
        return None
    except ssl.SSLError as failure:
        raise TlsFailed(in_words(failure)) from failure
    except (OSError, ValueError):
        return None


def in_words(failure):
    if isinstance(failure, ssl.SSLCertVerificationError):
        return f"its certificate is refused here: {failure.verify_message}"
    # Such as SSLV3_ALERT_CERTIFICATE_EXPIRED.
    words = failure.reason or str(failure)
    if "_ALERT_" in words:
        return f"it refuses this host: {words.split('_ALERT_')[1].replace('_', ' ').lower()}"
    return words.replace("_", " ").lower()


def ask_all(addresses, context, question, port=PORT):
    """({address: answer} of those that answer, {address: reason} of those with which TLS fails)"""
    answers, failures = {}, {}

    def one(address):
        try:
            answer = ask(address, context, question, port)
        except TlsFailed as failure:
            failures[address] = str(failure)
        else:
            if answer is not None:
                answers[address] = answer

    with concurrent.futures.ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        list(pool.map(one, addresses))
    return {address: answers[address] for address in addresses if address in answers}, failures


class Server(socketserver.ThreadingTCPServer):
    """Answers questions with `answer(question) -> dict`, SERVED_AT_ONCE at a time."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address, context, answer, port=PORT):
        self.context = context
        self.answer = answer
        self.places = threading.BoundedSemaphore(SERVED_AT_ONCE)
        super().__init__((address, port), _Handler)

    def start(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """A client that breaks off, or has no certificate, is not worth a trace."""


class _Handler(socketserver.BaseRequestHandler):
    def handle(self):
        if not self.server.places.acquire(blocking=False):
            return
        try:
            self.request.settimeout(ANSWER_SECS)
            with self.server.context.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False) as connection:
                if not shake_hands(connection):
                    return
                with connection.makefile("rwb") as stream:
                    question = json.loads(stream.readline(LINE_BYTES_MAX))
                    answer = self.server.answer(question if isinstance(question, dict) else {})
                    stream.write(json.dumps(answer).encode() + b"\n")
        finally:
            self.server.places.release()


def shake_hands(connection):
    """Whether both take each other's certificate. If not, the other side gets to read why: a socket that is closed with its question
    unread takes back what it has sent."""
    try:
        connection.do_handshake()
        return True
    except ssl.SSLError:
        connection.settimeout(CONNECT_SECS)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(LINE_BYTES_MAX)
        return False
