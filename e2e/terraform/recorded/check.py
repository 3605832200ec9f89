"""The stand-in against what was recorded of the real provider: the same schema, the same calls with the same bodies, as often, the
same plan and the same state; through apply, plan, update, plan and destroy."""

import hashlib
import json
import os
import pathlib
import re
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from answers import Answers  # noqa: E402
from terraform import WARNING, Root  # noqa: E402

PEM_NAMES = ["key-1", "key-2", "leaf-1", "leaf-2", "chain"]
# A suffix that is another one each time: a time and a counter.
UNIQUE = re.compile(r"20\d{12}\d{4}[0-9a-f]{8}$")
# Made of a hash of the filters, which nothing refers to.
OWN_IDS = ("data.digitalocean_droplets", "data.digitalocean_images", "data.digitalocean_regions", "data.digitalocean_region.")


def sha1(text):
    return hashlib.sha1(text.encode()).hexdigest()


class Recorded(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.scratch.cleanup)
        work = pathlib.Path(cls.scratch.name)
        cls.pems = {name: f"-----BEGIN {name}-----\nnot a real one\n-----END {name}-----\n" for name in PEM_NAMES}
        (work / "pem").mkdir()
        for name, text in cls.pems.items():
            (work / "pem" / f"{name}.pem").write_text(text)
        cls.facts = json.loads((HERE / "plan-and-state.json").read_text())
        cls.answers = Answers()
        endpoint, end = cls.answers.serve()
        cls.addClassCleanup(end)
        cls.root = root = Root(HERE, work / "root", endpoint, pem_dir=work / "pem")
        cls.outputs = {}

        cls.answers.phase = "plan"
        cls.changes = root.planned()
        cls.answers.phase = "apply"
        cls.outputs["apply"] = root.run("apply", "plan")
        cls.answers.phase = "plan-again"
        cls.outputs["plan-again"] = root.plan_is_empty()
        cls.answers.phase = "update"
        root.set(updated="true")
        cls.outputs["update"] = root.apply()
        cls.answers.phase = "plan-after-update"
        cls.outputs["plan-after-update"] = root.plan_is_empty()
        cls.state = root.state()
        cls.answers.phase = "destroy"
        cls.outputs["destroy"] = root.destroy()
        cls.state_at_the_end = root.state()

    def test_the_calls_are_those_that_were_recorded(self):
        for phase in ["plan", "apply", "plan-again", "update", "plan-after-update", "destroy"]:
            with self.subTest(phase):
                self.assertEqual(self.answers.differences(phase), [])

    def test_destroy_leaves_nothing_in_the_state(self):
        self.assertEqual(self.state_at_the_end, {})

    def test_the_token_is_sent_with_each_call(self):
        self.assertEqual(self.answers.tokens, {"Bearer stand-in-test"})

    def test_each_output_says_that_it_is_the_stand_in(self):
        for phase, output in self.outputs.items():
            self.assertIn(WARNING, output, phase)

    def test_the_plan_is_the_one_that_was_recorded(self):
        changes = {each["address"].replace('"', ""): each["change"] for each in self.changes}
        for address, recorded in self.facts["planned_at_create"].items():
            with self.subTest(address):
                expected = self.with_our_pems(recorded, number=1)
                self.assertEqual({part: changes[address][part] for part in expected}, expected)

    def test_the_state_is_the_one_that_was_recorded(self):
        for address, recorded in self.facts["in_state_after_update"].items():
            with self.subTest(address):
                ours = self.state[address]
                expected = self.with_our_pems(recorded, number=2)
                self.assertEqual(ours["schema_version"], expected["schema_version"])
                self.assertEqual(self.without_own(address, ours["attributes"]), self.without_own(address, expected["attributes"]))

    def test_nothing_is_in_the_state_that_was_not_recorded(self):
        unrecorded = {address for address in self.state if address not in self.facts["in_state_after_update"]}
        # Of what there are several of, one was written down.
        self.assertEqual({re.sub(r"\[.*", "", address) for address in unrecorded}, {
            "digitalocean_droplet.db", "digitalocean_record.seed", "digitalocean_tag.all", "digitalocean_volume.db",
            "digitalocean_volume_attachment.db",
        })

    def test_no_key_is_in_the_state(self):
        state = json.dumps(self.state)
        for name, text in self.pems.items():
            self.assertNotIn(text.splitlines()[0], state, name)

    def test_the_schema_is_the_one_that_was_recorded(self):
        schemas = json.loads(self.root.run("providers", "schema", "-json", output="json"))["provider_schemas"]
        (ours,) = schemas.values()
        recorded = json.loads((HERE.parent / "provider/facts/schema.json").read_text())
        self.assertEqual(bare(ours["provider"]), bare(recorded["provider"]))
        for kind, name in [("resource_schemas", "resources"), ("data_source_schemas", "data_sources")]:
            self.assertEqual(set(ours[kind]), set(recorded[name]))
            for each in recorded[name]:
                with self.subTest(each):
                    self.assertEqual(bare(ours[kind][each]), bare(recorded[name][each]))

    def with_our_pems(self, recorded, number):
        """The recording had certificates of its own, which are planned as their SHA-1."""
        ours = {"private_key": f"key-{number}", "leaf_certificate": f"leaf-{number}", "certificate_chain": "chain"}
        made = json.loads(json.dumps(recorded))
        for part in ("after", "attributes"):
            for attribute in set(ours) & set(made.get(part, {})):
                made[part][attribute] = sha1(self.pems[ours[attribute]])
        return made

    @staticmethod
    def without_own(address, attributes):
        made = dict(attributes, id=UNIQUE.sub("UNIQUE", str(attributes["id"])))
        if address.startswith(OWN_IDS):
            made["id"] = None
        return made


def bare(schema):
    """A schema without descriptions, and without what is false or empty."""
    if not isinstance(schema, dict):
        return schema
    found = {key: bare(value) for key, value in schema.items() if key not in ("description", "description_kind", "deprecated")}
    return {key: value for key, value in found.items() if value not in (None, False, {})}


if __name__ == "__main__":
    os.environ.setdefault("TIDEPOOL_STAND_IN_WAITS", "fast")
    unittest.main()
