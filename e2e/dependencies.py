#!/usr/bin/env python3
"""Two checks of the dependencies that need no tool beside cargo: every one is used, and every licence is allowed.

The licences are read from deny.toml, so that `cargo deny check` and this agree.
"""

import json
import pathlib
import re
import subprocess
import sys
import tomllib


def metadata():
    answer = subprocess.run(
        ["cargo", "metadata", "--locked", "--format-version", "1"], check=True, capture_output=True, text=True
    )
    return json.loads(answer.stdout)


def crate_names(packages):
    """What each package is called in Rust code: md-5's library, for one, is `md5`."""
    kinds = {"lib", "proc-macro", "rlib", "dylib"}
    return {
        package["name"]: target["name"].replace("-", "_")
        for package in packages
        for target in package["targets"]
        if kinds & set(target["kind"])
    }


def unused(package, names):
    """Dependencies of a workspace member whose name occurs nowhere in its Rust files."""
    folder = pathlib.Path(package["manifest_path"]).parent
    inner = {path.parent for path in folder.rglob("Cargo.toml") if path.parent != folder}
    sources = [path for path in folder.rglob("*.rs") if not inner & set(path.parents)]
    text = "\n".join(path.read_text() for path in sources)
    for dependency in package["dependencies"]:
        name = dependency["rename"] or names.get(dependency["name"], dependency["name"])
        name = name.replace("-", "_")
        if not re.search(rf"\b{name}\b", text):
            yield f"{package['name']} does not use its dependency {dependency['name']}"


def allowed(expression, licences):
    """Whether an SPDX expression can be met by the allowed licences alone."""
    words = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def either():
        met = both()
        while words and words[0] == "OR":
            words.pop(0)
            met = both() or met
        return met

    def both():
        met = single()
        while words and words[0] == "AND":
            words.pop(0)
            met = single() and met
        return met

    def single():
        word = words.pop(0)
        if word == "(":
            met = either()
            words.pop(0)
            return met
        if words and words[0] == "WITH":
            words.pop(0)
            word = f"{word} WITH {words.pop(0)}"
        return word in licences

    return either()


def main():
    graph = metadata()
    members = set(graph["workspace_members"])
    deny = tomllib.loads(pathlib.Path("deny.toml").read_text())["licenses"]
    exceptions = {entry["crate"]: set(entry["allow"]) for entry in deny.get("exceptions", [])}
    names = crate_names(graph["packages"])
    problems = []
    for package in graph["packages"]:
        if package["id"] in members:
            problems += unused(package, names)
        licences = set(deny["allow"]) | exceptions.get(package["name"], set())
        if not allowed(package["license"] or "none", licences):
            problems.append(f"{package['name']} {package['version']} has the licence {package['license']}")
    print("\n".join(problems))
    print(f"{len(graph['packages'])} packages, {len(members)} of them our own")
    return 1 if problems else 0


sys.exit(main())
