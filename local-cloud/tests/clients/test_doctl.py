"""doctl, unchanged, against a local cloud: what it prints, and the process behind each droplet."""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import unittest

from local_cloud import (
    BY_SYSTEMD, PATIENCE_SECS, PUBLIC_KEY, TOKEN, WEB_USER_DATA, LocalCloudTest, command_line, free_port, get, is_alive, of_hundreds,
    of_processes,
)

DOCTL = os.environ.get("DOCTL", "")


@unittest.skipUnless(DOCTL, "doctl could not be built")
class DoctlTest(LocalCloudTest):
    def setUp(self) -> None:
        # Nothing of one test is left for the next one.
        self.addCleanup(self.remove_everything)

    def remove_everything(self) -> None:
        for one in self.json("compute", "firewall", "list"):
            self.doctl("compute", "firewall", "delete", one["id"], "--force")
        for one in self.json("compute", "reserved-ip", "list"):
            self.doctl("compute", "reserved-ip", "delete", one["ip"], "--force")
        for one in self.json("compute", "load-balancer", "list"):
            self.doctl("compute", "load-balancer", "delete", one["id"], "--force")
        for one in self.json("compute", "droplet", "list"):
            self.doctl("compute", "droplet", "delete", str(one["id"]), "--force")
        for one in self.json("compute", "image", "list-user"):
            self.doctl("compute", "image", "delete", str(one["id"]), "--force")
        for one in self.json("compute", "domain", "list"):
            self.doctl("compute", "domain", "delete", one["name"], "--force")
        for one in self.json("compute", "tag", "list"):
            self.doctl("compute", "tag", "delete", one["name"], "--force")

    def run_doctl(self, *arguments: str) -> subprocess.CompletedProcess:
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "NO_COLOR": "1"}
        return subprocess.run(
            [DOCTL, "-u", self.url, "-t", TOKEN, *arguments],
            env=environment, capture_output=True, text=True, timeout=PATIENCE_SECS * 3, check=False,
        )

    def doctl(self, *arguments: str) -> str:
        done = self.run_doctl(*arguments)
        self.assertEqual(done.returncode, 0, f"doctl {arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def json(self, *arguments: str):
        return json.loads(self.doctl(*arguments, "-o", "json") or "[]") or []

    def fields(self, names: str, *arguments: str) -> list[list[str]]:
        """The table of these columns, row by row."""
        table = self.doctl(*arguments, "--format", names, "--no-header")
        return [line.split() for line in table.splitlines()]

    def create(self, *names: str, image: str = "tiny", more: tuple = ()) -> list[dict]:
        place = ("--image", image, "--size", "s-1vcpu-1gb", "--region", "nyc3")
        return self.json("compute", "droplet", "create", *names, *place, *more)

    def test_account_and_rate_limit(self) -> None:
        self.assertEqual(self.fields("Email,DropletLimit,Status", "account", "get"), [["you@localhost", "1000", "active"]])
        [[limit, remaining]] = self.fields("Limit,Remaining", "account", "ratelimit")
        self.assertEqual(limit, "100000")
        self.assertLess(int(remaining), 100_000)

    def test_catalogue(self) -> None:
        self.assertIn(["nyc3", "true"], self.fields("Slug,Available", "compute", "region", "list"))
        sizes = self.fields("Slug,Memory,VCPUs,Disk,PriceMonthly", "compute", "size", "list")
        self.assertIn(["s-1vcpu-1gb", "1024", "1", "25", "6.00"], sizes)
        images = self.fields("Type,Distribution,Slug,Public,MinDisk", "compute", "image", "list", "--public")
        self.assertEqual(images, [["base", "Debian", "tiny", "true", "1"], ["base", "Debian", "web", "true", "1"]])
        [[found]] = self.fields("Slug", "compute", "image", "get", "web")
        self.assertEqual(found, "web")

    def test_create_shows_every_field(self) -> None:
        [made] = self.create("web-1", image="web", more=("--wait", "--tag-names", "pool:web,env:test"))
        self.assertEqual((made["name"], made["status"]), ("web-1", "active"))
        columns = "ID,Name,PublicIPv4,PrivateIPv4,Memory,VCPUs,Disk,Region,Image,Status,Tags,Features"
        [row] = self.fields(columns, "compute", "droplet", "list")
        state = self.droplet_state(made["id"])
        self.assertEqual(row[:2], [str(made["id"]), "web-1"])
        self.assertEqual(row[2], state["ip"])
        # A process has one address for everything.
        self.assertEqual(row[3] != state["ip"], BY_SYSTEMD)
        self.assertEqual(row[4:8], ["1024", "1", "25", "nyc3"])
        self.assertEqual(" ".join(row[8:]), "Debian Web server active env:test,pool:web private_networking")
        # The same by `get`, by id and by name.
        [[by_id]] = self.fields("Name", "compute", "droplet", "get", str(made["id"]))
        [[by_name]] = self.fields("ID", "compute", "droplet", "get", "web-1")
        self.assertEqual((by_id, by_name), ("web-1", str(made["id"])))
        self.process_of(made["id"])

    @of_processes
    def test_create_runs_the_images_program(self) -> None:
        user_data = self.directory / "user-data"
        user_data.write_text("#cloud-config\nwrite_files:\n- path: /etc/greeting\n  content: hello\n")
        [made] = self.create("web-1", image="web", more=("--wait", "--user-data-file", str(user_data)))
        state = self.droplet_state(made["id"])
        # On its address, in the droplet's own directory.
        pid = self.process_of(made["id"])
        self.assertEqual(command_line(pid)[1:4], ["test-host", "--listen", f"{state['ip']}:8080"])
        self.assertEqual(os.readlink(f"/proc/{pid}/cwd"), state["root"])
        self.assertEqual((pathlib.Path(state["root"]) / "etc/greeting").read_text(), "hello")
        self.until("it is ready", lambda: self.is_serving(state["ip"]))
        self.assertEqual(get(f"http://{state['ip']}:8080/")["pid"], pid)

    def is_serving(self, ip: str) -> bool:
        try:
            return bool(get(f"http://{ip}:8080/"))
        except OSError:
            return False

    def test_domains_and_their_records(self) -> None:
        self.doctl("compute", "domain", "create", "a.example", "--ip-address", "192.0.2.1")
        self.assertEqual(self.fields("Domain,TTL", "compute", "domain", "list"), [["a.example", "1800"]])
        [shown] = self.json("compute", "domain", "get", "a.example")
        self.assertIn("a.example. 1800 IN A 192.0.2.1\n", shown["zone_file"])
        records = ("compute", "domain", "records")
        alias = ("--record-type", "CNAME", "--record-name", "www", "--record-data", "a.example.", "--record-ttl", "60")
        [made] = self.json(*records, "create", "a.example", *alias)
        self.assertEqual((made["data"], made["ttl"]), ("@", 60))
        self.doctl(*records, "update", "a.example", "--record-id", str(made["id"]), "--record-ttl", "90")
        mail = ("--record-type", "MX", "--record-name", "@", "--record-data", "mail.a.example.", "--record-priority", "10")
        self.doctl(*records, "create", "a.example", *mail)
        rows = self.fields("Type,Name,Data,Priority,TTL", *records, "list", "a.example")
        for row in (["CNAME", "www", "@", "0", "90"], ["MX", "@", "mail.a.example", "10", "1800"], ["A", "@", "192.0.2.1", "0", "1800"]):
            self.assertIn(row, rows)
        bad = self.run_doctl(*records, "create", "a.example", "--record-type", "NS", "--record-name", "x", "--record-data", "b.example")
        self.assertNotEqual(bad.returncode, 0)
        self.assertIn("Data needs to end with a dot (.)", bad.stdout + bad.stderr)
        self.doctl(*records, "delete", "a.example", str(made["id"]), "--force")
        self.assertNotIn("CNAME", [row[0] for row in self.fields("Type", *records, "list", "a.example")])
        self.doctl("compute", "domain", "delete", "a.example", "--force")
        self.assertEqual(self.json("compute", "domain", "list"), [])

    def test_the_registry_and_its_credentials(self) -> None:
        self.doctl("registry", "create", "tidepool", "--subscription-tier", "basic", "--region", "nyc3")
        [[name, region]] = self.fields("Name,Region", "registry", "get")
        self.assertEqual((name, region), ("tidepool", "nyc3"))
        config = json.loads(self.doctl("registry", "docker-config", "--read-write", "--expiry-seconds", "60"))
        self.assertEqual(list(config["auths"]), ["registry.digitalocean.com"])
        tiers = self.doctl("registry", "options", "subscription-tiers").splitlines()[1:]
        self.assertEqual([line.split()[1] for line in tiers], ["starter", "basic", "professional"])
        self.doctl("registry", "delete", "--force")
        self.assertNotEqual(self.run_doctl("registry", "get").returncode, 0)

    def test_delete_ends_the_process(self) -> None:
        made = self.create("a", "b", "c")
        pids = {one["name"]: self.process_of(one["id"]) for one in made}
        self.doctl("compute", "droplet", "delete", "a", "--force")
        self.doctl("compute", "droplet", "delete", str(next(one["id"] for one in made if one["name"] == "b")), "--force")
        self.assertEqual(self.fields("Name", "compute", "droplet", "list"), [["c"]])
        self.assertEqual([is_alive(pids[name]) for name in "abc"], [False, False, True])
        gone = self.run_doctl("compute", "droplet", "delete", "a", "--force")
        self.assertNotEqual(gone.returncode, 0)

    def test_two_droplets_may_have_one_name(self) -> None:
        first, second = self.create("twin")[0]["id"], self.create("twin")[0]["id"]
        self.assertNotEqual(first, second)
        self.assertNotEqual(self.process_of(first), self.process_of(second))
        ambiguous = self.run_doctl("compute", "droplet", "delete", "twin", "--force")
        self.assertNotEqual(ambiguous.returncode, 0)
        self.assertEqual(len(self.fields("ID", "compute", "droplet", "list")), 2)

    @of_hundreds
    def test_over_200_droplets(self) -> None:
        names = [f"many-{number}" for number in range(205)]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            batches = pool.map(lambda start: self.create(*names[start:start + 41], more=("--tag-name", "pool:many")), range(0, 205, 41))
            made = [one for batch in batches for one in batch]
        self.assertEqual(len(made), 205)
        listed = self.fields("ID,Name", "compute", "droplet", "list")
        self.assertEqual({name for _, name in listed}, set(names))
        self.assertEqual({int(number) for number, _ in listed}, {one["id"] for one in made})
        self.assertEqual(len(self.fields("ID", "compute", "droplet", "list", "--tag-name", "pool:many")), 205)
        running = self.until("every droplet is a process", lambda: self.all_running(205))
        self.assertEqual(len(set(running)), 205)
        self.assertTrue(all(is_alive(pid) for pid in running))
        self.doctl("compute", "droplet", "delete", "--tag-name", "pool:many", "--force")
        self.assertEqual(self.fields("ID", "compute", "droplet", "list"), [])
        self.assertFalse(any(is_alive(pid) for pid in running))

    def all_running(self, count: int) -> list[int]:
        pids = [pid for one in self.state()["droplets"] for pid in one["pids"]]
        return pids if len(pids) == count else []

    def test_tags(self) -> None:
        [one] = self.create("one")
        self.doctl("compute", "tag", "create", "serving:web")
        self.assertEqual(self.fields("Name,DropletCount", "compute", "tag", "list"), [["serving:web", "0"]])
        self.doctl("compute", "droplet", "tag", "one", "--tag-name", "serving:web")
        self.assertEqual(self.fields("Name,DropletCount", "compute", "tag", "get", "serving:web"), [["serving:web", "1"]])
        [[name]] = self.fields("Name", "compute", "droplet", "list", "--tag-name", "serving:web")
        self.assertEqual(name, "one")
        self.doctl("compute", "droplet", "untag", "one", "--tag-name", "serving:web")
        self.assertEqual(self.fields("Name", "compute", "droplet", "list", "--tag-name", "serving:web"), [])
        unknown = self.run_doctl("compute", "droplet", "tag", str(one["id"]), "--tag-name", "nobody")
        self.assertNotEqual(unknown.returncode, 0)
        self.assertIn("404", unknown.stdout + unknown.stderr)

    def test_actions_change_the_process(self) -> None:
        [made] = self.create("acted", image="web", more=("--wait",))
        number, action = str(made["id"]), "compute droplet-action".split()
        first = self.process_of(made["id"])
        columns = "ID,Status,Type,ResourceID,ResourceType,Region"
        # --wait polls every 5 s: once is enough to see that it ends.
        [row] = self.fields(columns, *action, "power-off", number, "--wait")
        self.assertEqual(row[1:], ["completed", "power_off", number, "droplet", "nyc3"])
        self.assertFalse(is_alive(first))
        self.assertEqual(self.fields("Status", "compute", "droplet", "get", number), [["off"]])
        self.fields(columns, *action, "power-on", number)
        second = self.process_of(made["id"])
        self.settled(made["id"], "active")
        self.until("it is unlocked", lambda: "locked" not in self.json("compute", "droplet", "get", number)[0])
        [[listed, *_]] = self.fields(columns, "compute", "action", "get", row[0])
        self.assertEqual(listed, row[0])
        self.booted(made["id"])
        self.fields(columns, *action, "reboot", number)
        self.until("another process runs", lambda: self.process_of(made["id"]) != second)
        # doctl leaves `locked` out when it is false.
        self.until("it is unlocked", lambda: "locked" not in self.json("compute", "droplet", "get", number)[0])
        self.booted(made["id"])
        self.fields(columns, *action, "shutdown", number)
        self.settled(made["id"], "off")
        self.until("it is unlocked", lambda: "locked" not in self.json("compute", "droplet", "get", number)[0])
        self.fields(columns, *action, "rename", number, "--droplet-name", "renamed")
        self.until("it is renamed", lambda: self.fields("Name", "compute", "droplet", "get", number) == [["renamed"]])
        self.until("it is unlocked", lambda: "locked" not in self.json("compute", "droplet", "get", number)[0])
        self.fields(columns, *action, "snapshot", number, "--snapshot-name", "picture")
        self.until("the snapshot is there", lambda: self.fields("Name", "compute", "droplet", "snapshots", number))
        self.assertEqual(self.fields("Name,Type", "compute", "image", "list-user"), [["picture", "snapshot"]])
        kinds = {kind for [kind] in self.fields("Type", "compute", "droplet", "actions", number)}
        self.assertEqual(kinds, {"create", "power_off", "power_on", "reboot", "shutdown", "rename", "snapshot"})

    def test_a_power_cut_is_seen(self) -> None:
        [made] = self.create("cut")
        pid = self.process_of(made["id"])
        self.fault("power-cut", droplet_id=made["id"])
        self.assertFalse(is_alive(pid))
        self.assertEqual(self.fields("Name,Status", "compute", "droplet", "list"), [["cut", "off"]])

    def test_a_lost_create_is_sent_again_and_makes_a_second_one(self) -> None:
        self.fault("fail-creates", count=1, status=503, after_effect=True)
        self.create("lost")
        self.assertEqual(self.fields("Name", "compute", "droplet", "list"), [["lost"], ["lost"]])

    def test_refusals_are_shown(self) -> None:
        for name, image, size, region in [
            ("under_score", "tiny", "s-1vcpu-1gb", "nyc3"), ("ok", "nothing", "s-1vcpu-1gb", "nyc3"),
            ("ok", "tiny", "huge", "nyc3"), ("ok", "tiny", "s-1vcpu-1gb", "mars1"),
        ]:
            done = self.run_doctl(
                "compute", "droplet", "create", name, "--image", image, "--size", size, "--region", region)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("422", done.stdout + done.stderr)

    def test_ssh_keys(self) -> None:
        file = self.directory / "key.pub"
        file.write_text(PUBLIC_KEY + "\n")
        [key] = self.json("compute", "ssh-key", "import", "me", "--public-key-file", str(file))
        self.assertRegex(key["fingerprint"], "^([0-9a-f]{2}:){15}[0-9a-f]{2}$")
        self.assertEqual(self.fields("ID,Name", "compute", "ssh-key", "get", key["fingerprint"]), [[str(key["id"]), "me"]])
        self.create("keyed", more=("--ssh-keys", f"{key['id']},{key['fingerprint']}"))
        self.doctl("compute", "ssh-key", "delete", key["fingerprint"], "--force")
        self.assertEqual(self.fields("ID", "compute", "ssh-key", "list"), [])

    def test_vpcs(self) -> None:
        [made] = self.json("vpcs", "create", "--name", "net", "--region", "fra1")
        [[name, region, default]] = self.fields("Name,Region,Default", "vpcs", "get", made["id"])
        self.assertEqual((name, region, default), ("net", "fra1", "false"))
        self.doctl("vpcs", "delete", made["id"], "--force")
        self.assertNotIn(["net"], self.fields("Name", "vpcs", "list"))

    def test_a_load_balancer_balances(self) -> None:
        port = free_port()
        [made] = self.json(
            "compute", "load-balancer", "create", "--name", "front", "--region", "nyc3", "--tag-name", "serving:web",
            "--forwarding-rules", f"entry_protocol:http,entry_port:{port},target_protocol:http,target_port:8080",
            "--health-check", "protocol:http,port:9090,path:/readyz,check_interval_seconds:3,"
            "response_timeout_seconds:3,healthy_threshold:2,unhealthy_threshold:2")
        [row] = self.fields("ID,IP,Name,Status,Region,Tag", "compute", "load-balancer", "get", made["id"])
        self.assertEqual(row[0], made["id"])
        self.assertEqual(row[2:], ["front", "active", "nyc3", "serving:web"])
        table = self.doctl("compute", "load-balancer", "list")
        self.assertNotIn("Recovered", table)
        user_data = ("--user-data", WEB_USER_DATA) if BY_SYSTEMD else ()
        members = self.create("web-a", "web-b", image="web", more=("--tag-name", "serving:web", *user_data))
        self.until("both are healthy", lambda: self.healthy(made["id"]) == 2)
        [[ids]] = self.fields("DropletIDs", "compute", "load-balancer", "get", made["id"])
        self.assertEqual({int(one) for one in ids.split(",")}, {one["id"] for one in members})
        names = [get(f"http://{row[1]}:{port}/")["name"] for _ in range(10)]
        self.assertEqual((names.count("web-a"), names.count("web-b")), (5, 5))
        # The power of one is cut: no request fails.
        self.fault("power-cut", droplet_id=members[0]["id"])
        left = {get(f"http://{row[1]}:{port}/")["name"] for _ in range(10)}
        self.assertEqual(left, {members[1]["name"]})
        [balancer] = [one for one in self.state()["load_balancers"] if one["id"] == made["id"]]
        self.assertEqual(balancer["counters"]["requests"], 20)
        self.assertEqual(balancer["counters"]["answers"]["2xx"], 20)
        # Without a tag: droplets by id; then gone.
        rules = f"entry_protocol:http,entry_port:{port},target_protocol:http,target_port:8080"
        self.doctl("compute", "load-balancer", "update", made["id"], "--name", "front", "--region", "nyc3", "--forwarding-rules", rules)
        self.assertNotIn("tag", self.json("compute", "load-balancer", "get", made["id"])[0])
        self.doctl("compute", "load-balancer", "add-droplets", made["id"], "--droplet-ids", str(members[1]["id"]))
        self.assertEqual(self.fields("DropletIDs", "compute", "load-balancer", "get", made["id"]), [[str(members[1]["id"])]])
        self.doctl("compute", "load-balancer", "remove-droplets", made["id"], "--droplet-ids", str(members[1]["id"]))
        self.doctl("compute", "load-balancer", "delete", made["id"], "--force")
        self.assertEqual(self.fields("ID", "compute", "load-balancer", "list"), [])

    def test_a_load_balancers_firewall_comes_back(self) -> None:
        rules = f"entry_protocol:http,entry_port:{free_port()},target_protocol:http,target_port:8080"
        [made] = self.json(
            "compute", "load-balancer", "create", "--name", "front", "--region", "nyc3", "--tag-name", "serving:web",
            "--forwarding-rules", rules, "--allow-list", "cidr:127.0.0.0/8", "--deny-list", "ip:127.0.0.9")
        [shown] = self.json("compute", "load-balancer", "get", made["id"])
        self.assertEqual(shown["firewall"], {"allow": ["cidr:127.0.0.0/8"], "deny": ["ip:127.0.0.9"]})

    def test_firewalls(self) -> None:
        [made] = self.create("web-1", more=("--wait", "--tag-name", "web"))
        droplet = str(made["id"])
        ssh = "protocol:tcp,ports:22,address:0.0.0.0/0,address:::/0"
        everything = "protocol:udp,ports:all,address:0.0.0.0/0"
        [firewall] = self.json(
            "compute", "firewall", "create", "--name", "fw", "--tag-names", "web",
            "--inbound-rules", f"{ssh} protocol:icmp,address:10.0.0.0/8", "--outbound-rules", everything)
        name = firewall["id"]
        self.assertEqual(firewall["status"], "waiting")
        self.assertEqual([one["droplet_id"] for one in firewall["pending_changes"]], [made["id"]])
        self.assertEqual(self.fields("ID,Name,Status,Tags", "compute", "firewall", "get", name), [[name, "fw", "succeeded", "web"]])
        [listed] = self.json("compute", "firewall", "list-by-droplet", droplet)
        self.assertEqual([rule["ports"] for rule in listed["inbound_rules"] + listed["outbound_rules"]], ["22", "0", "0"])
        web = "protocol:tcp,ports:8000-9000,tag:web"
        self.doctl("compute", "firewall", "add-rules", name, "--inbound-rules", web)
        self.doctl("compute", "firewall", "remove-rules", name, "--inbound-rules", ssh)
        self.doctl("compute", "firewall", "add-droplets", name, "--droplet-ids", droplet)
        self.doctl("compute", "firewall", "remove-tags", name, "--tag-names", "web")
        [shown] = self.json("compute", "firewall", "get", name)
        self.assertEqual([rule["ports"] for rule in shown["inbound_rules"]], ["0", "8000-9000"])
        self.assertEqual((shown["droplet_ids"], shown["tags"]), ([made["id"]], []))
        self.doctl("compute", "firewall", "update", name, "--name", "fw-2", "--inbound-rules", ssh)
        [shown] = self.json("compute", "firewall", "get", name)
        self.assertEqual((shown["name"], shown["droplet_ids"], shown["outbound_rules"]), ("fw-2", [], []))
        failed = self.run_doctl("compute", "firewall", "create", "--name", "fw-2", "--inbound-rules", ssh)
        self.assertIn("409", failed.stderr + failed.stdout)
        self.assertIn("duplicate name", failed.stderr + failed.stdout)
        # More than a page of doctl's.
        rules = ("--inbound-rules", ssh)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(lambda nth: self.doctl("compute", "firewall", "create", "--name", f"of-many-{nth}", *rules), range(25)))
        self.assertEqual(len(self.json("compute", "firewall", "list")), 26)

    def test_reserved_addresses(self) -> None:
        one, two = self.create("one", "two", more=("--wait",))
        [made] = self.json("compute", "reserved-ip", "create", "--region", "nyc3")
        address = made["ip"]
        self.assertEqual(self.fields("IP,Region", "compute", "reserved-ip", "list"), [[address, "nyc3"]])
        for droplet in (one, two):
            [action] = self.json("compute", "reserved-ip-action", "assign", address, str(droplet["id"]))
            self.assertEqual(action["type"], "assign_ip")
            [done] = self.json("compute", "reserved-ip-action", "get", address, str(action["id"]))
            self.assertEqual(done["status"], "completed")
            columns = "IP,Region,DropletID,DropletName"
            row = [address, "nyc3", str(droplet["id"]), droplet["name"]]
            self.assertEqual(self.fields(columns, "compute", "reserved-ip", "get", address), [row])
        self.doctl("compute", "reserved-ip-action", "unassign", address)
        self.assertIsNone(self.json("compute", "reserved-ip", "get", address)[0]["droplet"])
        self.json("compute", "reserved-ip", "create", "--droplet-id", str(one["id"]))
        self.json("compute", "reserved-ip", "create", "--region", "nyc3")
        failed = self.run_doctl("compute", "reserved-ip", "create", "--region", "nyc3")
        self.assertIn("limit of 3 reserved IPs", failed.stderr + failed.stdout)
        self.doctl("compute", "reserved-ip", "delete", address, "--force")
        self.assertEqual(len(self.json("compute", "reserved-ip", "list")), 2)

    def healthy(self, balancer_id: str) -> int:
        [balancer] = [one for one in self.state()["load_balancers"] if one["id"] == balancer_id]
        return sum(member["state"] == "healthy" for member in balancer["members"])
