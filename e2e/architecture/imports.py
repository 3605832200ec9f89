#!/usr/bin/env python3
"""Checks that imports point one way.

Two rules over every `.rs` file below a `src/` folder, tests left out:

1. The table of folders in ARCHITECTURE.md: a file imports only from its own folder's row and from the rows that its row names. The most specific
   row that holds a file counts; a file without a row is a mistake, and so is a row that names one that isn't there, or that it doesn't need. "all
   above" stands for every row above.
2. No circle: of the modules that stand beside each other in a folder, each with everything below it, none may lead back to itself. A module
   that holds others is their door: they may use what it defines.

`imports.py --self-test` plants an upward import and a circle in a copy and sees both found.
"""

import collections
import pathlib
import re
import shutil
import sys
import tempfile

# What the table must hold at least; a pattern that finds nothing must not pass for a tree without mistakes.
ROWS_MIN = 12
IMPORTS_MIN = 400
TABLE = "| folder | crate | may depend on |"

Import = collections.namedtuple("Import", "source target line")
Row = collections.namedtuple("Row", "paths allowed all_above")


class Crate:
    """One crate's files, and where a path in its code leads."""

    def __init__(self, root):
        manifest = (root / "Cargo.toml").read_text()
        self.name = re.search(r'^name = "([^"]+)"', manifest, re.M).group(1).replace("-", "_")
        self.src = root / "src"
        self.files = {}
        for path in sorted(self.src.rglob("*.rs")):
            parts = list(path.relative_to(self.src).with_suffix("").parts)
            if parts[-1] in ("mod", "lib", "main"):
                parts.pop()
            self.files.setdefault(tuple(parts), path)
        self.tests = set()
        for module, path in self.files.items():
            for name in re.findall(r"#\[cfg\((?:test|all\(test[^\]]*)\)\]\s*(?:pub(?:\([^)]*\))? )?mod (\w+);", path.read_text()):
                self.tests.add(module + (name,))

    def is_test(self, module):
        return any(module[: len(test)] == test for test in self.tests)

    def resolve(self, parts):
        """The module that a path leads into: the deepest one that is a file."""
        for length in range(len(parts), -1, -1):
            if tuple(parts[:length]) in self.files:
                return tuple(parts[:length])
        return ()


def without_text(code):
    """The code with comments, strings and test modules blanked, lines kept."""
    blank = lambda match: re.sub(r"[^\n]", " ", match.group(0))
    code = re.sub(r'//[^\n]*|/\*.*?\*/|r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\\n])\'', blank, code, flags=re.S)
    return re.sub(r"#\[cfg\(test\)\]\s*mod \w+ \{.*\Z", blank, code, flags=re.S)


def expand(text):
    """The paths of a use tree: `a::{b, c::d}` leads to a::b and a::c::d."""
    match = re.match(r"\s*((?:\w+\s*::\s*)*)", text)
    prefix = [part for part in re.split(r"\s*::\s*", match.group(1)) if part]
    rest = text[match.end() :]
    if not rest.startswith("{"):
        last = re.match(r"\w+", rest)
        return [prefix + ([last.group(0)] if last else [])]
    paths, depth, start = [], 0, 1
    for place, char in enumerate(rest):
        depth += char == "{"
        depth -= char == "}"
        if (char == "," and depth == 1) or depth == 0:
            if rest[start:place].strip():
                paths += [prefix + path for path in expand(rest[start:place])]
            start = place + 1
        if depth == 0:
            break
    return paths


def imports(crates, crate):
    """Every import of a crate, as (crate, module) to (crate, module)."""
    names = "|".join(other.name for other in crates)
    found = set()
    for module, path in crate.files.items():
        if crate.is_test(module):
            continue
        code = without_text(path.read_text())
        children = {other[-1] for other in crate.files if other[:-1] == module and other}
        starts = rf"(?<![\w:])(?:(?:crate|self|super|{names})\s*::"
        starts += rf"|(?<=use )(?:{'|'.join(children)})\s*::)" if children else ")"
        for match in re.finditer(starts, code):
            line = code.count("\n", 0, match.start()) + 1
            for path_parts in expand(code[match.start() :]):
                head, target = path_parts[0], crate
                if head == "crate" or head == crate.name:
                    parts = path_parts[1:]
                elif head in ("self", "super"):
                    base = list(module)
                    while path_parts and path_parts[0] in ("self", "super"):
                        if path_parts.pop(0) == "super":
                            base = base[:-1]
                    parts = base + path_parts
                elif head in children:
                    parts = list(module) + path_parts
                else:
                    target = next(other for other in crates if other.name == head)
                    parts = path_parts[1:]
                end = target.resolve(parts)
                if (target, end) != (crate, module) and not target.is_test(end):
                    found.add(Import((crate, module), (target, end), line))
    return found


def rows(top):
    """The table: each row's name, folders, and the names that it may use."""
    text = (top / "ARCHITECTURE.md").read_text()
    table = text[text.index(TABLE) :].split("\n\n")[0].splitlines()[2:]
    found = []
    for line in table:
        folder, _, written = [cell.strip() for cell in line.strip("|").split("|")][:3]
        paths = re.findall(r"`([^`]+)`", folder)
        if written == "nothing of ours":
            allowed = []
        elif written == "all above":
            allowed = [name for row in found for name in short_names(row.paths)]
        else:
            allowed = [name.strip() for name in written.split(",")]
        found.append(Row(paths, allowed, written == "all above"))
    return found


def expand_braces(path):
    match = re.match(r"(.*)\{(.*)\}(.*)", path)
    return [match.group(1) + part + match.group(3) for part in match.group(2).split(",")] if match else [path]


def row_of(table, relative):
    """The row with the longest path that holds the file."""
    best = None
    for index, row in enumerate(table):
        for path in (one for written in row.paths for one in expand_braces(written)):
            if relative == path or (path.endswith("/") and relative.startswith(path)):
                if best is None or len(path) > best[0]:
                    best = (len(path), index)
    return best[1] if best else None


def short_names(paths):
    """How other rows call this one: the last part of each of its paths."""
    return [one.rstrip("/").rsplit("/", 1)[-1].removesuffix(".rs") for path in paths for one in expand_braces(path)]


def upward(top, table, all_imports):
    """Imports that the table doesn't allow."""
    problems, unused = [], {(index, name) for index, row in enumerate(table) if not row.all_above for name in row.allowed}
    known = {name for row in table for name in short_names(row.paths)}
    for row in table:
        problems += [f"ARCHITECTURE.md: {row.paths[0]} may depend on {name}, which is not a row" for name in row.allowed if name not in known]
        for path in (one for written in row.paths for one in expand_braces(written)):
            if not (top / path).exists():
                problems.append(f"ARCHITECTURE.md: there is no {path}")
    for source, target, line in sorted(all_imports, key=lambda one: (str(place(one.source)), one.line)):
        here, there = (place(end).relative_to(top).as_posix() for end in (source, target))
        mine, other = row_of(table, here), row_of(table, there)
        if mine is None or other is None:
            problems.append(f"{here if mine is None else there} is in no row of ARCHITECTURE.md's table")
        elif mine != other:
            names = [name for name in short_names(table[other].paths) if name in table[mine].allowed]
            unused -= {(mine, name) for name in names}
            if not names:
                problems.append(f"{here}:{line} imports {there}, which its row in ARCHITECTURE.md does not allow")
    problems += [f"ARCHITECTURE.md: {table[index].paths[0]} may depend on {name}, and does not" for index, name in sorted(unused)]
    return list(dict.fromkeys(problems))


def place(end):
    crate, module = end
    return crate.files.get(module, crate.src)


def circles(crate, crate_imports):
    """Modules beside each other that lead back to themselves."""
    edges = collections.defaultdict(dict)
    for source, target, line in crate_imports:
        (_, here), (other, there) = source, target
        if other is not crate:
            continue
        common = 0
        while common < min(len(here), len(there)) and here[common] == there[common]:
            common += 1
        # One of them is the other's door.
        if common in (len(here), len(there)):
            continue
        edges[here[: common + 1]].setdefault(there[: common + 1], f"{place(source).name}:{line}")
    problems = []
    for start in sorted(edges):
        # The shortest way from a module back to itself; each circle is reported once, from its first module.
        ways, queue = {start: []}, collections.deque([start])
        while queue:
            here = queue.popleft()
            for there, where in edges.get(here, {}).items():
                if there == start:
                    circle = ways[here] + [(here, where)]
                    if min(module for module, _ in circle) == start:
                        words = [f"{'::'.join(module)} ({where})" for module, where in circle]
                        problems.append(f"{crate.name}: a circle: {' -> '.join(words)} -> {'::'.join(start)}")
                    queue.clear()
                    break
                if there not in ways:
                    ways[there] = ways[here] + [(here, where)]
                    queue.append(there)
    return problems


def check(top):
    """Everything that is wrong, and how many imports were read."""
    members = re.search(r"members = \[(.*?)\]", (top / "Cargo.toml").read_text(), re.S).group(1)
    crates = [Crate(top / member) for member in re.findall(r'"([^"]+)"', members)]
    by_crate = {crate: imports(crates, crate) for crate in crates}
    table = rows(top)
    problems = upward(top, table, set().union(*by_crate.values()))
    for crate in crates:
        problems += circles(crate, by_crate[crate])
    if len(table) < ROWS_MIN:
        problems.append(f"only {len(table)} rows found in ARCHITECTURE.md: the pattern is broken")
    count = sum(map(len, by_crate.values()))
    if count < IMPORTS_MIN:
        problems.append(f"only {count} imports found: the pattern is broken")
    return problems, count


def self_test(top):
    """Plants what must be found, each in a copy of its own."""
    plants = {
        "an upward import": ("api/src/domain/name.rs", "\nuse crate::store::Store as _;\n", "name.rs", "does not allow"),
        "an upward path outside of a use": (
            "autoscaler/src/metrics/mod.rs", "\nfn planted() { let _ = crate::daemon::planted(); }\n", "metrics/mod.rs", "does not allow"),
        "an import of another program": ("demo/src/place.rs", "\nuse tidepool_api::cli as _;\n", "demo/src/place.rs", "does not allow"),
        "a circle of two": ("demo/src/place.rs", "\nuse crate::{site::Site as _};\n", "a circle", "place"),
        "a circle in a folder": ("autoscaler/core/src/signal.rs", "\nuse super::policy as _;\n", "a circle", "signal"),
    }
    failed = 0
    for what, (path, text, *words) in plants.items():
        with tempfile.TemporaryDirectory() as folder:
            copy = pathlib.Path(folder)
            for name in ["ARCHITECTURE.md", "Cargo.toml"]:
                shutil.copy(top / name, copy / name)
            members = re.search(r"members = \[(.*?)\]", (top / "Cargo.toml").read_text(), re.S).group(1)
            for member in re.findall(r'"([^"]+)"', members):
                shutil.copytree(top / member, copy / member, dirs_exist_ok=True)
            # Before the tests, which are left out.
            code = (copy / path).read_text()
            cut = code.find("#[cfg(test)]")
            cut = len(code) if cut < 0 else cut
            (copy / path).write_text(code[:cut] + text + code[cut:])
            before, _ = check(top)
            problems = [problem for problem in check(copy)[0] if problem not in before]
            if not any(all(word in problem for word in words) for problem in problems):
                print(f"{what} in {path} was not found: {problems}")
                failed += 1
    print(f"{len(plants) - failed} passed, {failed} failed, 0 skipped")
    return failed


def main():
    top = pathlib.Path(__file__).resolve().parents[2]
    if sys.argv[1:] == ["--self-test"]:
        return 1 if self_test(top) else 0
    problems, count = check(top)
    for problem in problems:
        print(problem)
    print(f"{count} imports")
    print(f"{0 if problems else 1} passed, {len(problems)} failed, 0 skipped")
    return 1 if problems else 0


sys.exit(main())
