"""A settled state, and an answer that is another one than before: a member left out (missing.json), a value changed or the thing gone
(values.json). The stand-in plans what the real provider was seen to plan; what crashes the real one has to be an error here."""

import json
import pathlib
import re
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from answers import Answers  # noqa: E402
from check import PEM_NAMES  # noqa: E402
from terraform import Failed, Root  # noqa: E402

# What the actions of a plan are called in the files.
CHANGES = {("update",): "update", ("delete", "create"): "replace", ("create", "delete"): "replace", ("create",): "create"}
PLACES = {"{n}": r"\d+", "{uuid}": r"[0-9a-f-]{36}"}


def pattern(path):
    """A path with its places, as an expression; other places are one name."""
    parts = (PLACES.get(part, r"[^/]+" if part.startswith("{") else re.escape(part)) for part in path.split("/"))
    return re.compile("/".join(parts) + "$")


def change(value, path, how):
    """Does `how` to the member of that path, in the object that it is in; `[]` are all elements of a list, `+` is one more."""
    name, _, rest = path.partition(".")
    if name == "[]":
        for each in value:
            change(each, rest, how)
    elif name == "+":
        how(value, None)
    elif isinstance(value, dict) and not rest:
        how(value, name)
    elif isinstance(value, dict) and value.get(name) is not None:
        change(value[name], rest, how)


def drop(holder, name):
    holder.pop(name, None)


def put(new):
    def how(holder, name):
        if name is None:
            holder.append(new)
        elif name in holder:
            holder[name] = new

    return how


class Answered(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(scratch.cleanup)
        work = pathlib.Path(scratch.name)
        for name in PEM_NAMES:
            (work / f"{name}.pem").write_text(f"not a real one: {name}\n")
        cls.answers = Answers()
        endpoint, end = cls.answers.serve()
        cls.addClassCleanup(end)
        cls.root = Root(HERE, work / "root", endpoint, pem_dir=work)
        cls.answers.phase = "plan"
        cls.root.run("plan", "-out=plan")
        cls.answers.phase = "apply"
        cls.root.run("apply", "plan")
        cls.answers.phase = "plan-again"

    def planned(self, path, alter):
        """What is planned, by kind of change, when `alter` is done to the answers of that path; {"error": True} where no plan is made."""
        expression = pattern(path)
        self.answers.alter = lambda asked, status, body: alter(status, body) if expression.match(asked) else (status, body)
        try:
            self.root.run("plan", "-out=altered")
        except Failed:
            return {"error": True}
        finally:
            self.answers.alter = None
        found = {}
        for planned in json.loads(self.root.run("show", "-json", "altered", output="json")).get("resource_changes", []):
            kind = CHANGES.get(tuple(planned["change"]["actions"]))
            if kind and planned["mode"] == "managed":
                found.setdefault(kind, set()).add(planned["type"].removeprefix("digitalocean_"))
        return {kind: sorted(types) for kind, types in found.items()}

    def compare(self, row, planned):
        effect = row["effect"]
        if effect == {"output": True}:
            self.assertNotIn("error", planned)
            return
        if row.get("at_least"):
            # What else hangs on it is the root's own, and that of the recording is not known in full.
            planned = {kind: sorted(set(types) & set(effect[kind])) for kind, types in planned.items() if kind in effect}
        self.assertEqual(planned, effect)

    def test_unchanged_answers_change_nothing(self):
        self.assertEqual(self.planned("/nothing", lambda status, body: (status, body)), {})

    def test_a_member_left_out(self):
        for row in json.loads((HERE / "missing.json").read_text()):
            # Where nothing happens, nothing happens without all of them either.
            groups = [row["without"]] if row["effect"] == {} else [[member] for member in row["without"]]
            for members in groups:

                def alter(status, body, members=members):
                    for member in members:
                        change(body, member, drop)
                    return status, body

                with self.subTest(row["path"], without=members):
                    self.compare(row, self.planned(row["path"], alter))

    def test_another_value(self):
        for row in json.loads((HERE / "values.json").read_text()):

            def alter(status, body, row=row):
                if row.get("gone"):
                    return 404, {"id": "not_found", "message": "The resource you were accessing could not be found."}
                for member, new in row["with"].items():
                    change(body, member, put(new))
                return status, body

            with self.subTest(row["path"], **{key: row[key] for key in ("with", "gone") if key in row}):
                self.compare(row, self.planned(row["path"], alter))


if __name__ == "__main__":
    unittest.main()
