#!/usr/bin/env python3
"""What `tidepool-local-cloud test-host` does, for droplets that are systems: these have Python, and not that program. It counts what it
was asked (`/seen`), answers after `?ms=` with `?status=`, and is ready on port 9090 unless there is a file `/unready`."""

import collections
import http.server
import json
import os
import socket
import threading
import time
import urllib.parse

PORTS = (8080, 9090)
seen = collections.Counter()
counting = threading.Lock()


class Host(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/readyz":
            return self.send(503 if os.path.exists("/unready") else 200, "ready")
        if path == "/seen":
            with counting:
                return self.send(200, json.dumps(seen))
        with counting:
            seen[f"{self.command} {path}"] += 1
        asked = dict(urllib.parse.parse_qsl(query))
        length = self.body_length()
        time.sleep(int(asked.get("ms", 0)) / 1000)
        about = {
            "name": socket.gethostname(), "peer": "%s:%d" % self.client_address[:2], "pid": os.getpid(), "method": self.command, "path": path,
            "body_bytes": length, "forwarded_for": self.headers["x-forwarded-for"],
            "forwarded_proto": self.headers["x-forwarded-proto"], "forwarded_port": self.headers["x-forwarded-port"],
            "cookie": self.headers["cookie"], "host": self.headers["host"],
        }
        return self.send(int(asked.get("status", 200)), json.dumps(about))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def body_length(self) -> int:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return len(self.rfile.read(int(self.headers.get("content-length", 0))))
        length = 0
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            length += len(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return length

    def send(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


servers = [threading.Thread(target=http.server.ThreadingHTTPServer(("", port), Host).serve_forever) for port in PORTS]
for server in servers:
    server.start()
