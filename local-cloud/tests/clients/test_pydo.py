"""pydo, unchanged, against a local cloud: what it returns, and the process behind each droplet."""

import unittest

from local_cloud import BY_SYSTEMD, PUBLIC_KEY, TOKEN, WEB_USER_DATA, LocalCloudTest, free_port, get, is_alive, of_hundreds

try:
    import azure.core.exceptions
    import pydo
except ImportError:
    pydo = None

# pydo refuses plain http unless each call says so.
PLAIN = {"enforce_https": False}


@unittest.skipUnless(pydo, "pydo could not be installed")
class PydoTest(LocalCloudTest):
    def setUp(self) -> None:
        self.client = pydo.Client(token=TOKEN, endpoint=self.url)
        self.addCleanup(self.remove_everything)

    def remove_everything(self) -> None:
        for one in self.client.load_balancers.list(**PLAIN)["load_balancers"]:
            self.client.load_balancers.delete(one["id"], **PLAIN)
        for one in self.all_droplets():
            self.client.droplets.destroy(one["id"], **PLAIN)

    def all_droplets(self, **filters) -> list[dict]:
        """As its README says: as long as there is a next page."""
        found, page = [], 1
        while True:
            answer = self.client.droplets.list(per_page=50, page=page, **filters, **PLAIN)
            found += answer["droplets"]
            if "next" not in answer["links"].get("pages", {}):
                self.assertEqual(answer["meta"]["total"], len(found))
                return found
            page += 1

    def create(self, name: str, image: str = "tiny", **more) -> int:
        body = {"name": name, "region": "nyc3", "size": "s-1vcpu-1gb", "image": image, **more}
        return self.client.droplets.create(body=body, **PLAIN)["droplet"]["id"]

    def test_account_and_catalogue(self) -> None:
        self.assertEqual(self.client.account.get(**PLAIN)["account"]["status"], "active")
        self.assertIn("nyc3", [one["slug"] for one in self.client.regions.list(**PLAIN)["regions"]])
        self.assertIn("s-1vcpu-1gb", [one["slug"] for one in self.client.sizes.list(**PLAIN)["sizes"]])
        self.assertEqual([one["slug"] for one in self.client.images.list(**PLAIN)["images"]], ["tiny", "web"])

    def test_a_droplet_and_its_process(self) -> None:
        number = self.create("web-1", image="web", tags=["pool:web"])
        pid = self.process_of(number)
        self.settled(number, "active")
        droplet = self.client.droplets.get(number, **PLAIN)["droplet"]
        self.assertEqual((droplet["name"], droplet["status"], droplet["tags"]), ("web-1", "active", ["pool:web"]))
        self.assertEqual(droplet["size"]["slug"], "s-1vcpu-1gb")
        self.assertEqual([one["type"] for one in droplet["networks"]["v4"]], ["public", "private"])
        self.assertEqual(droplet["networks"]["v4"][0]["ip_address"], self.droplet_state(number)["ip"])
        self.client.droplets.destroy(number, **PLAIN)
        self.assertFalse(is_alive(pid))
        # pydo returns a 404's body instead of raising.
        gone = self.client.droplets.get(number, **PLAIN)
        self.assertEqual(gone["id"], "not_found")

    def test_several_by_names(self) -> None:
        body = {"names": ["a", "b", "c"], "region": "nyc3", "size": "s-1vcpu-1gb", "image": "tiny", "tags": ["many"]}
        made = self.client.droplets.create(body=body, **PLAIN)
        self.assertEqual([one["name"] for one in made["droplets"]], ["a", "b", "c"])
        pids = [self.process_of(one["id"]) for one in made["droplets"]]
        self.assertEqual(len(set(pids)), 3)
        self.client.droplets.destroy_by_tag(tag_name="many", **PLAIN)
        self.assertEqual(self.all_droplets(), [])
        self.assertFalse(any(is_alive(pid) for pid in pids))

    @of_hundreds
    def test_over_200_droplets(self) -> None:
        names = [f"many-{number}" for number in range(210)]
        for start in range(0, 210, 10):
            body = {"names": names[start:start + 10], "region": "nyc3", "size": "s-1vcpu-1gb", "image": "tiny", "tags": ["pool:many"]}
            self.client.droplets.create(body=body, **PLAIN)
        self.assertEqual([one["name"] for one in self.all_droplets(tag_name="pool:many")], names)
        running = self.until("every droplet is a process", self.all_running)
        self.assertEqual(len(set(running)), 210)
        self.client.droplets.destroy_by_tag(tag_name="pool:many", **PLAIN)
        self.assertEqual(self.all_droplets(), [])
        self.assertFalse(any(is_alive(pid) for pid in running))

    def all_running(self) -> list[int]:
        pids = [pid for one in self.state()["droplets"] for pid in one["pids"]]
        return pids if len(pids) == 210 else []

    def test_tags(self) -> None:
        number = self.create("tagged")
        resources = {"resources": [{"resource_id": str(number), "resource_type": "droplet"}]}
        self.assertEqual(self.client.tags.assign_resources("serving:x", body=resources, **PLAIN)["id"], "not_found")
        self.client.tags.create(body={"name": "serving:x"}, **PLAIN)
        self.client.tags.assign_resources("serving:x", body=resources, **PLAIN)
        tag = self.client.tags.get("serving:x", **PLAIN)["tag"]
        self.assertEqual((tag["name"], tag["resources"]["droplets"]["count"]), ("serving:x", 1))
        self.assertEqual([one["id"] for one in self.all_droplets(tag_name="serving:x")], [number])
        self.client.tags.unassign_resources("serving:x", body=resources, **PLAIN)
        self.assertEqual(self.all_droplets(tag_name="serving:x"), [])
        self.client.tags.delete("serving:x", **PLAIN)
        self.assertNotIn("serving:x", [one["name"] for one in self.client.tags.list(**PLAIN)["tags"]])

    def test_actions_change_the_process(self) -> None:
        number = self.create("acted")
        first = self.process_of(number)
        self.settled(number, "active")
        action = self.client.droplet_actions.post(number, body={"type": "power_off"}, **PLAIN)["action"]
        self.assertEqual((action["type"], action["resource_id"]), ("power_off", number))
        self.settled(number, "off")
        self.assertFalse(is_alive(first))
        self.until("the action is complete", lambda: self.client.actions.get(action["id"], **PLAIN)["action"]["status"] == "completed")
        self.client.droplet_actions.post(number, body={"type": "power_on"}, **PLAIN)
        self.assertNotEqual(self.process_of(number), first)

    def test_errors(self) -> None:
        with self.assertRaises(azure.core.exceptions.HttpResponseError) as refused:
            self.create("x", image="nothing")
        self.assertEqual(refused.exception.status_code, 422)
        with self.assertRaises(azure.core.exceptions.ClientAuthenticationError):
            pydo.Client(token="", endpoint=self.url).account.get(headers={"Authorization": "Basic x"}, **PLAIN)
        # 429 is waited for, as `retry-after` says.
        self.fault("rate-limit", count=2, retry_after_secs=1)
        self.assertEqual(self.client.account.get(**PLAIN)["account"]["status"], "active")

    def test_ssh_keys_and_vpcs(self) -> None:
        key = self.client.ssh_keys.create(body={"name": "me", "public_key": PUBLIC_KEY}, **PLAIN)["ssh_key"]
        self.assertEqual(self.client.ssh_keys.get(key["fingerprint"], **PLAIN)["ssh_key"]["id"], key["id"])
        self.client.ssh_keys.delete(key["id"], **PLAIN)
        vpc = self.client.vpcs.create(body={"name": "net", "region": "nyc3"}, **PLAIN)["vpc"]
        self.assertEqual(self.client.vpcs.get(vpc["id"], **PLAIN)["vpc"]["name"], "net")
        self.client.vpcs.delete(vpc["id"], **PLAIN)

    def test_a_load_balancer_balances(self) -> None:
        port = free_port()
        body = {
            "name": "front", "region": "nyc3", "tag": "serving:web", "algorithm": "least_connections",
            "forwarding_rules": [{"entry_protocol": "http", "entry_port": port, "target_protocol": "http", "target_port": 8080}],
            "health_check": {"protocol": "http", "port": 9090, "path": "/readyz", "check_interval_seconds": 3, "healthy_threshold": 2},
        }
        number = self.client.load_balancers.create(body=body, **PLAIN)["load_balancer"]["id"]
        balancer = self.client.load_balancers.get(number, **PLAIN)["load_balancer"]
        self.assertEqual((balancer["status"], balancer["algorithm"], balancer["tag"]), ("active", "least_connections", "serving:web"))
        more = {"user_data": WEB_USER_DATA} if BY_SYSTEMD else {}
        members = [self.create(name, image="web", tags=["serving:web"], **more) for name in ("web-a", "web-b")]
        self.until("both are healthy", lambda: self.healthy(number) == 2)
        self.assertEqual(self.client.load_balancers.get(number, **PLAIN)["load_balancer"]["droplet_ids"], members)
        names = {get(f"http://{balancer['ip']}:{port}/")["name"] for _ in range(10)}
        self.assertEqual(names, {"web-a", "web-b"})
        # Taken from the tag, a member gets nothing more.
        resources = {"resources": [{"resource_id": str(members[0]), "resource_type": "droplet"}]}
        self.client.tags.unassign_resources("serving:web", body=resources, **PLAIN)
        self.assertEqual({get(f"http://{balancer['ip']}:{port}/")["name"] for _ in range(10)}, {"web-b"})
        rule = {"forwarding_rules": [{**body["forwarding_rules"][0], "entry_port": free_port()}]}
        self.client.load_balancers.add_forwarding_rules(number, body=rule, **PLAIN)
        self.client.load_balancers.remove_forwarding_rules(number, body=rule, **PLAIN)
        [left] = self.client.load_balancers.get(number, **PLAIN)["load_balancer"]["forwarding_rules"]
        self.assertEqual(left["entry_port"], port)
        self.client.load_balancers.delete(number, **PLAIN)
        self.assertEqual(self.client.load_balancers.get(number, **PLAIN)["id"], "not_found")

    def test_a_load_balancers_fields_come_back_or_are_refused(self) -> None:
        rule = {"entry_protocol": "http", "entry_port": free_port(), "target_protocol": "http", "target_port": 8080}
        fields = {
            "size_unit": 2, "enable_backend_keepalive": True, "http_idle_timeout_seconds": 90,
            "firewall": {"allow": ["cidr:127.0.0.0/8"], "deny": ["ip:127.0.0.9"]},
        }
        body = {"name": "front", "region": "NYC3", "tag": "serving:web", "forwarding_rules": [rule], **fields}
        number = self.client.load_balancers.create(body=body, **PLAIN)["load_balancer"]["id"]
        shown = self.client.load_balancers.get(number, **PLAIN)["load_balancer"]
        self.assertEqual({name: shown[name] for name in fields}, fields)
        self.assertEqual(shown["region"]["slug"], "nyc3")
        self.client.load_balancers.update(number, body={**body, "enable_proxy_protocol": True}, **PLAIN)
        self.assertTrue(self.client.load_balancers.get(number, **PLAIN)["load_balancer"]["enable_proxy_protocol"])
        # There is no rule with TLS to redirect to.
        with self.assertRaises(azure.core.exceptions.HttpResponseError) as refused:
            self.client.load_balancers.update(number, body={**body, "redirect_http_to_https": True}, **PLAIN)
        self.assertEqual(refused.exception.status_code, 422)
        self.assertIn("redirect_http_to_https", str(refused.exception))

    def healthy(self, number: str) -> int:
        [balancer] = [one for one in self.state()["load_balancers"] if one["id"] == number]
        return sum(member["state"] == "healthy" for member in balancer["members"])
