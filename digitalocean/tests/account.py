"""An account at DigitalOcean, as far as Terraform's root and deploy.sh ask it: things are made, listed, changed and removed, and nothing
runs. Shapes are those of local-cloud and of the provider's recorded traffic (e2e/terraform/recorded). For tests of what deploy.sh does
with Terraform, in seconds and without root; the whole thing is tried on a local cloud."""

import http.server
import itertools
import json
import threading
import urllib.parse
import uuid

NOW = "2026-11-30T12:00:00Z"
# List's path: what one of it is called, and what all are.
KINDS = {
    "vpcs": ("vpc", "vpcs"),
    "account/keys": ("ssh_key", "ssh_keys"),
    "tags": ("tag", "tags"),
    "droplets": ("droplet", "droplets"),
    "volumes": ("volume", "volumes"),
    "firewalls": ("firewall", "firewalls"),
    "certificates": ("certificate", "certificates"),
    "load_balancers": ("load_balancer", "load_balancers"),
    "domains": ("domain", "domains"),
    "projects": ("project", "projects"),
    "snapshots": ("snapshot", "snapshots"),
    "actions": ("action", "actions"),
}
NUMBERED = ("account/keys", "droplets", "actions")
COUNTS = {kind: {"count": 0} for kind in ("droplets", "images", "volumes", "volume_snapshots", "databases")}


class Account:
    def __init__(self):
        self.things = {path: {} for path in KINDS}
        self.records, self.resources, self.calls = {}, {}, []
        self.numbers = itertools.count(1000)
        # Calls after which the connection is cut without an answer, by method and path: (method, path).
        self.cut = set()
        self.default = self.make("projects", {"name": "first", "is_default": True})
        self.lock = threading.Lock()
        account = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def serve(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else {}
                url = urllib.parse.urlsplit(self.path)
                path = urllib.parse.unquote(url.path).removeprefix("/v2/")
                with account.lock:
                    account.calls.append((self.command, path))
                    status, answer = account.answer(self.command, path, dict(urllib.parse.parse_qsl(url.query)), body)
                if (self.command, path) in account.cut:
                    self.close_connection = True
                    return
                text = b"" if answer is None else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def names(self, kind):
        return sorted(thing["name"] for thing in self.things[kind].values())

    def answer(self, method, path, query, body):
        for kind, (one, many) in sorted(KINDS.items(), key=lambda item: -len(item[0])):
            if path == kind:
                if method == "POST":
                    made = self.make(kind, body)
                    return (202 if kind in ("droplets", "load_balancers", "firewalls") else 201), {one: made}
                return 200, {many: self.listed(kind, query), "meta": {"total": 0}, "links": {}}
            if path.startswith(f"{kind}/"):
                key, _, rest = path.removeprefix(f"{kind}/").partition("/")
                if kind == "projects" and key == "default":
                    key = self.default["id"]
                found = self.things[kind].get(key)
                if found is None:
                    return 404, {"id": "not_found", "message": "The resource you were accessing could not be found.", "request_id": "x"}
                return self.one(method, (kind, one), found, rest, body)
        return 404, {"id": "not_found", "message": f"no route {path}", "request_id": "x"}

    def listed(self, kind, query):
        found = list(self.things[kind].values())
        if "tag_name" in query:
            found = [thing for thing in found if query["tag_name"] in thing["tags"]]
        if "name" in query:
            found = [thing for thing in found if thing["name"] == query["name"]]
        return found

    def one(self, method, kind, found, rest, body):
        path, one = kind
        if rest:
            return getattr(self, f"below_{path.replace('/', '_')}")(method, found, rest, body)
        if method == "DELETE":
            if path == "vpcs" and any(droplet.get("vpc_uuid") == found["id"] for droplet in self.things["droplets"].values()):
                return 409, {"id": "conflict", "message": "Can not delete VPC with members", "request_id": "x"}
            del self.things[path][str(found["name"] if path in ("tags", "domains") else found["id"])]
            return 204, None
        if method in ("PUT", "PATCH"):
            found.update(body)
            self.complete(path, found)
        return 200, {one: found}

    def make(self, kind, body):
        number = next(self.numbers)
        thing = {"id": number if kind in NUMBERED else str(uuid.uuid4()), "created_at": NOW, **body}
        if kind == "tags":
            thing["resources"] = {"count": 0, **COUNTS}
        if kind == "account/keys":
            thing["fingerprint"] = ":".join(f"{number:032x}"[at : at + 2] for at in range(0, 32, 2))
            del thing["created_at"]
        self.complete(kind, thing)
        self.things[kind][str(thing["name"] if kind in ("tags", "domains") else thing["id"])] = thing
        return thing

    def complete(self, kind, thing):
        """What an answer has beside what was sent."""
        if kind == "droplets":
            octet = thing["id"] % 250
            networks = [{"type": "private", "ip_address": f"10.20.0.{octet}", "netmask": "255.255.240.0", "gateway": "10.20.0.1"}]
            if thing.get("public_networking", True):
                networks.append({"type": "public", "ip_address": f"198.18.0.{octet}", "netmask": "255.255.255.0", "gateway": "198.18.0.1"})
            thing |= {
                "status": "active", "locked": False, "memory": 1024, "vcpus": 1, "disk": 25, "features": [], "volume_ids": thing.get("volume_ids", []),
                "networks": {"v4": networks, "v6": []}, "image": {"id": 12}, "region": {"slug": "nyc3", "name": "x"}, "tags": thing.get("tags") or [],
                "size": {"slug": thing["size"] if isinstance(thing["size"], str) else thing["size"]["slug"], "price_hourly": 0.1, "price_monthly": 6.0},
            }  # fmt: skip
        elif kind == "volumes":
            thing |= {"region": {"slug": "nyc3"}, "droplet_ids": thing.get("droplet_ids", []), "tags": thing.get("tags") or []}
        elif kind == "vpcs":
            thing |= {"default": False, "urn": f"do:vpc:{thing['id']}"}
        elif kind == "firewalls":
            thing |= {"status": "succeeded", "pending_changes": [], "droplet_ids": []}
        elif kind == "certificates":
            thing |= {"state": "verified", "not_after": NOW, "sha1_fingerprint": "00", "dns_names": thing.get("dns_names", [])}
        elif kind == "load_balancers":
            thing |= {"status": "active", "ip": "198.18.1.2", "region": {"slug": "nyc3"}, "droplet_ids": []}
        elif kind == "domains":
            thing |= {"ttl": 1800, "zone_file": ""}
            self.records.setdefault(thing["name"], {})
        elif kind == "projects":
            thing |= {"owner_uuid": "x", "owner_id": 1, "updated_at": NOW, "is_default": thing.get("is_default", False)}

    def below_domains(self, method, domain, rest, body):
        records = self.records[domain["name"]]
        _, _, number = rest.partition("/")
        if not number:
            if method == "POST":
                made = {"id": next(self.numbers), "ttl": 1800, **body}
                records[str(made["id"])] = made
                return 201, {"domain_record": made}
            return 200, {"domain_records": list(records.values()), "links": {}, "meta": {"total": len(records)}}
        if number not in records:
            return 404, {"id": "not_found", "message": "gone", "request_id": "x"}
        if method == "DELETE":
            del records[number]
            return 204, None
        if method == "PUT":
            records[number].update(body)
        return 200, {"domain_record": records[number]}

    def below_projects(self, method, project, _rest, body):
        if method == "POST":
            for urn in body["resources"]:
                self.resources[urn] = project["id"]
        found = [{"urn": urn, "assigned_at": NOW, "links": {"self": "x"}, "status": "ok"} for urn, of in self.resources.items() if of == project["id"]]
        return 200, {"resources": found, "links": {}, "meta": {"total": len(found)}}

    def below_volumes(self, _method, volume, _rest, body):
        volume["droplet_ids"] = [body["droplet_id"]] if body["type"] == "attach" else []
        return 202, {"action": self.action(body["type"])}

    def below_droplets(self, method, droplet, _rest, body):
        if method == "GET":
            return 200, {"actions": [], "links": {}, "meta": {"total": 0}}
        droplet["status"] = {"shutdown": "off", "power_off": "off"}.get(body["type"], "active")
        return 201, {"action": self.action(body["type"])}

    def below_tags(self, _method, tag, _rest, body):
        for one in body["resources"]:
            self.things["droplets"][one["resource_id"]]["tags"].append(tag["name"])
        return 204, None

    def action(self, kind):
        return self.make("actions", {"name": kind, "type": kind, "status": "completed", "started_at": NOW, "completed_at": NOW, "resource_id": 1, "region_slug": "nyc3"})
