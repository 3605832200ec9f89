"""An API that gives the answers that were recorded with the real provider, each to the call that got it."""

import collections
import copy
import http.server
import json
import pathlib
import threading

HERE = pathlib.Path(__file__).parent
# Lists that are sets: their order differs from call to call.
UNORDERED = {"tags", "addresses", "ssh_keys", "inbound_rules", "outbound_rules", "forwarding_rules", "resources", "droplet_ids", "load_balancer_uids"}
PEMS = {"private_key", "leaf_certificate", "certificate_chain"}


def comparable(body, name=None):
    """A body without what may differ: the order of sets, and the text of certificates, which was not recorded."""
    if isinstance(body, dict):
        return {key: comparable(value, key) for key, value in body.items()}
    if isinstance(body, list):
        parts = [comparable(each) for each in body]
        return sorted(parts, key=lambda part: json.dumps(part, sort_keys=True)) if name in UNORDERED else parts
    if name in PEMS:
        return "PEM"
    return body


def call_text(method, path, query, body):
    query = "&".join(sorted(query.split("&"))) if query else ""
    text = f"{method} {path}" + (f"?{query}" if query else "")
    return text if body is None else f"{text} {json.dumps(comparable(body), sort_keys=True)}"


class Answers:
    """`phase` says which part of the recording is played; `calls` counts what was called in each."""

    def __init__(self):
        self.recorded = collections.defaultdict(collections.Counter)
        self.queues = collections.defaultdict(list)
        for line in (HERE / "calls.jsonl").read_text().splitlines():
            call = json.loads(line)
            text = call_text(call["method"], call["path"], call.get("query", ""), call.get("body"))
            count = call.get("count", 1)
            self.recorded[call["phase"]][text] += count
            self.queues[call["phase"], text] += [(call["status"], call["answer"])] * count
        self.phase = None
        self.calls = collections.defaultdict(collections.Counter)
        self.tokens = set()
        # What is done to an answer before it is given: a function of its path, status and body.
        self.alter = None
        self.lock = threading.Lock()

    def answer(self, method, path, query, body):
        text = call_text(method, path, query, body)
        with self.lock:
            self.calls[self.phase][text] += 1
            queue = self.queues[self.phase, text]
            if not queue:
                return 501, {"id": "not_recorded", "message": f"not recorded in {self.phase}: {text}"}
            status, body = queue.pop(0) if len(queue) > 1 else queue[0]
        if self.alter is None or method != "GET":
            return status, body
        return self.alter(path, status, copy.deepcopy(body))

    def differences(self, phase):
        """What was called otherwise than recorded, a line each."""
        ours, recorded = self.calls[phase], self.recorded[phase]
        return [
            f"{phase}: {ours[text]} times, recorded {recorded[text]} times: {text}"
            for text in sorted(set(ours) | set(recorded))
            if ours[text] != recorded[text]
        ]

    def serve(self):
        """Starts answering, and returns the address and what ends it."""
        answers = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def respond(self):
                text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answers.tokens.add(self.headers.get("Authorization"))
                path, _, query = self.path.partition("?")
                status, body = answers.answer(self.command, path, query, json.loads(text) if text else None)
                payload = b"" if status == 204 else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                if status != 204:
                    self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = respond

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def end():
            server.shutdown()
            server.server_close()

        return f"http://127.0.0.1:{server.server_port}", end
