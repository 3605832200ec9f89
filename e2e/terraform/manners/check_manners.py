"""How the stand-in behaves beside what was recorded: refusals that pass and those that don't, pages, waits, and what it won't do."""

import collections
import http.server
import json
import os
import pathlib
import sys
import tempfile
import threading
import time
import unittest

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

from terraform import Failed, Root  # noqa: E402

VPC = {"id": "de1052a3-8ede-478f-80aa-5088a428b433", "urn": "do:vpc:1", "name": "main", "description": "", "region": "nyc3",
       "ip_range": "10.20.0.0/20", "created_at": "2026-11-27T01:01:00Z", "default": False}  # fmt: skip
DROPLET = {"id": 7, "name": "one", "memory": 1024, "vcpus": 1, "disk": 25, "locked": False, "status": "active", "created_at": "2026-11-27T01:01:00Z",
           "features": [], "volume_ids": [], "tags": [], "vpc_uuid": VPC["id"], "size": {"slug": "s-1vcpu-1gb", "price_hourly": 0.00893, "price_monthly": 6.0},
           "networks": {"v4": [], "v6": []}, "region": {"slug": "nyc3"}, "image": {"id": 1}}  # fmt: skip
# Seconds before the first look at a new droplet, as observed.
FIRST_LOOK_SECS = 10


def refusal(status, message):
    return status, {"id": "refused", "message": message}


class Script:
    """Gives the answers that it was told for a call, in order; the last of them again and again. Notes what was asked, and when."""

    def __init__(self):
        self.answers, self.calls = {}, collections.defaultdict(list)

    def tell(self, call, *answers):
        self.answers[call] = list(answers)

    def serve(self):
        script = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def respond(self):
                text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                call = f"{self.command} {self.path}"
                script.calls[call].append((time.monotonic(), json.loads(text) if text else None))
                answers = script.answers.get(call, [refusal(404, "not found")])
                status, body = answers.pop(0) if len(answers) > 1 else answers[0]
                payload = b"" if status == 204 else json.dumps(body).encode()
                self.send_response(status)
                if status != 204:
                    self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_POST = do_PUT = do_DELETE = respond

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def end():
            server.shutdown()
            server.server_close()

        return f"http://127.0.0.1:{server.server_port}", end


class Manners(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)
        self.script = Script()
        self.endpoint, end = self.script.serve()
        self.addCleanup(end)
        self.script.tell("POST /v2/vpcs", (201, {"vpc": VPC}))
        self.script.tell(f"GET /v2/vpcs/{VPC['id']}", (200, {"vpc": VPC}))
        self.script.tell(f"DELETE /v2/vpcs/{VPC['id']}", (204, None))

    def root(self, *parts, endpoint=None):
        return Root(HERE, pathlib.Path(self.scratch.name) / "root", endpoint or self.endpoint, parts=",".join(parts))

    def made(self, call):
        return len(self.script.calls[call])

    def fails(self, root, command, *arguments):
        with self.assertRaises(Failed) as caught:
            root.run(command, *arguments)
        # Terraform breaks lines, and draws a line beside them.
        return " ".join(str(caught.exception).replace("│", " ").split())

    def test_it_makes_nothing_at_digitaloceans_own_address(self):
        for endpoint in ["https://api.digitalocean.com", "https://API.digitalocean.com:443/"]:
            with self.subTest(endpoint):
                root = Root(HERE, pathlib.Path(self.scratch.name) / endpoint.replace("/", "_"), endpoint, parts="vpc")
                self.assertIn("The stand-in is for tests against a local cloud", self.fails(root, "plan"))

    def test_an_address_that_is_none_is_refused(self):
        self.assertIn("is not an address", self.fails(self.root("vpc", endpoint="localhost"), "plan"))

    def test_what_it_does_not_know_is_refused_and_nothing_is_made(self):
        said = self.fails(self.root("reserved_ip_of_droplet"), "apply", "-auto-approve")
        self.assertIn("does not know what the real provider does with droplet_id", said)
        self.assertEqual(dict(self.script.calls), {})

    def test_a_record_without_what_its_type_needs_is_refused_at_plan(self):
        self.assertIn("priority is required", self.fails(self.root("mail_without_priority"), "plan"))

    def test_a_create_is_sent_again_after_a_refusal_that_may_pass(self):
        self.script.tell("POST /v2/vpcs", refusal(503, "busy"), refusal(429, "too many"), (201, {"vpc": VPC}))
        self.root("vpc").apply()
        self.assertEqual(self.made("POST /v2/vpcs"), 3)

    def test_a_create_is_not_sent_again_for_ever(self):
        self.script.tell("POST /v2/vpcs", refusal(500, "broken"))
        self.assertIn("500 broken", self.fails(self.root("vpc"), "apply", "-auto-approve"))
        self.assertEqual(self.made("POST /v2/vpcs"), 3)

    def test_a_final_refusal_is_shown_and_the_call_is_not_made_again(self):
        for status in (422, 501):
            with self.subTest(status):
                self.script.calls.clear()
                self.script.tell("POST /v2/vpcs", refusal(status, "the range overlaps"))
                root = Root(HERE, pathlib.Path(self.scratch.name) / str(status), self.endpoint, parts="vpc")
                self.assertIn(f"{status} the range overlaps", self.fails(root, "apply", "-auto-approve"))
                self.assertEqual(self.made("POST /v2/vpcs"), 1)

    def test_a_network_with_members_is_asked_to_go_again(self):
        root = self.root("vpc")
        root.apply()
        self.script.tell(f"DELETE /v2/vpcs/{VPC['id']}", refusal(403, "Can not delete VPC with members"), refusal(409, "conflict"), (204, None))
        root.destroy()
        self.assertEqual(self.made(f"DELETE /v2/vpcs/{VPC['id']}"), 3)

    def test_what_is_gone_is_made_again_and_can_be_destroyed(self):
        root = self.root("vpc")
        root.apply()
        self.script.tell(f"GET /v2/vpcs/{VPC['id']}", refusal(404, "gone"))
        self.assertIn("1 to add", root.run("plan", "-detailed-exitcode", status=2))
        root.destroy()
        self.assertEqual(self.made(f"DELETE /v2/vpcs/{VPC['id']}"), 0)

    def test_an_answer_that_is_not_an_object_is_an_error(self):
        self.script.tell("POST /v2/vpcs", (201, []))
        self.assertIn("not a JSON object", self.fails(self.root("vpc"), "apply", "-auto-approve"))

    def test_an_answer_without_an_id_is_an_error(self):
        self.script.tell("POST /v2/vpcs", (201, {"vpc": {}}))
        self.assertIn("the answer has no id", self.fails(self.root("vpc"), "apply", "-auto-approve"))

    def test_all_pages_of_a_list_are_read(self):
        def page(slug, **links):
            return 200, {"regions": [{"slug": slug, "name": slug, "available": True, "features": [], "sizes": []}], "links": {"pages": links}}

        again = "/v2/regions?page=2&per_page=200"
        self.script.tell("GET /v2/regions?page=1&per_page=200", page("nyc3", next=f"https://elsewhere.example{again}"))
        self.script.tell(f"GET {again}", page("ams3"))
        root = self.root("regions")
        root.apply()
        self.assertEqual(json.loads(root.run("output", "-json", output="json"))["regions"]["value"], ["nyc3", "ams3"])

    def test_a_droplet_that_is_locked_is_waited_for(self):
        self.tell_of_droplet({"locked": True}, {"status": "new"}, {})
        self.root("droplet").apply()
        self.assertEqual(self.made("GET /v2/droplets/7"), 3)

    def test_a_droplet_that_is_archived_is_not_waited_for(self):
        self.tell_of_droplet({"status": "archive"})
        self.assertIn("droplet.status is archive", self.fails(self.root("droplet"), "apply", "-auto-approve"))

    def test_the_real_waits_are_an_option(self):
        self.tell_of_droplet({})
        root = self.root("droplet")
        root.environment["TIDEPOOL_STAND_IN_WAITS"] = "real"
        root.apply()
        ((posted, _),), ((looked, _),) = self.script.calls["POST /v2/droplets"], self.script.calls["GET /v2/droplets/7"]
        self.assertGreaterEqual(looked - posted, FIRST_LOOK_SECS)

    def test_calls_are_kept_apart_when_that_is_asked_for(self):
        root = self.root("vpc")
        root.environment["DIGITALOCEAN_REQUESTS_PER_SECOND"] = "1"
        root.apply()
        ((posted, _),), ((looked, _),) = self.script.calls["POST /v2/vpcs"], self.script.calls[f"GET /v2/vpcs/{VPC['id']}"]
        # A second, less what a busy server sees the first call late.
        self.assertGreaterEqual(looked - posted, 0.3)

    def test_the_token_is_in_no_output(self):
        root = self.root("vpc")
        root.environment.update(TF_LOG="TRACE", DIGITALOCEAN_TOKEN="canary-of-the-token")
        self.assertNotIn("canary-of-the-token", root.apply())
        self.assertNotIn("canary-of-the-token", (root.directory / "terraform.tfstate").read_text())

    def tell_of_droplet(self, *changes):
        self.script.tell("POST /v2/droplets", (202, {"droplet": DROPLET}))
        self.script.tell("GET /v2/droplets/7", *((200, {"droplet": {**DROPLET, **change}}) for change in changes))


if __name__ == "__main__":
    os.environ.setdefault("TIDEPOOL_STAND_IN_WAITS", "fast")
    unittest.main()
