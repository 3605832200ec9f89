#!/usr/bin/env python3
"""Checks that no function takes a bool among four or more arguments: at the call nobody can tell what `true` means there.

Four or more arguments with a bool are a struct with named fields, or the bool is an enum. Methods of a trait of somebody else's (`impl Trait for …`)
have no choice. `signatures.py --self-test` sees that one is found.
"""

import pathlib
import re
import subprocess
import sys

ARGUMENTS_MAX = 3
# A pattern that finds nothing must not pass for code without mistakes.
FUNCTIONS_MIN = 1_000
SOURCE = re.compile(r"\bfn (\w+)(?:<[^(]*>)?\(")


def split_arguments(code, start):
    """The arguments of a list that begins at `start`, just after its parenthesis."""
    depth, arguments, current = 1, [], ""
    for place in range(start, len(code)):
        char = code[place]
        if char in "([{<":
            depth += 1
        elif char in ")]}" or (char == ">" and code[place - 1] != "-"):
            depth -= 1
        if depth == 0:
            break
        if char == "," and depth == 1:
            arguments.append(current)
            current = ""
        else:
            current += char
    return [argument.strip() for argument in [*arguments, current] if argument.strip()]


def is_foreign(code, place):
    """Whether the function at `place` is a method in `impl Trait for Type`."""
    blocks = list(re.finditer(r"^(impl\b[^{;]*|[^\s/].*)\{", code[:place], re.M))
    indented = code[code.rfind("\n", 0, place) + 1 : place].startswith(" ")
    return indented and bool(blocks) and re.match(r"impl\b.*\bfor\b", blocks[-1].group(1), re.S) is not None


def found_in(path, code):
    """How many functions there are, and what is wrong with them."""
    code = re.sub(r"//[^\n]*", lambda match: " " * len(match.group(0)), code)
    count, problems = 0, []
    for match in SOURCE.finditer(code):
        count += 1
        arguments = [one for one in split_arguments(code, match.end()) if not re.match(r"&?(?:'\w+ )?(?:mut )?self\b", one)]
        has_bool = any(re.search(r":\s*bool$", one) for one in arguments)
        if has_bool and len(arguments) > ARGUMENTS_MAX and not is_foreign(code, match.start()):
            line = code.count("\n", 0, match.start()) + 1
            problems.append(f"{path}:{line} fn {match.group(1)} takes a bool among {len(arguments)} arguments")
    return count, problems


def self_test():
    bad = "async fn planted<T: Copy>(\n    one: &str,\n    two: Vec<(u8, T)>,\n    three: u8,\n    sure: bool,\n) {}\n"
    method = "impl A {\n    fn planted(&mut self, a: u8, b: u8, sure: bool, c: u8) {}\n}\n"
    good = "fn three(a: u8, b: u8, sure: bool) {}\nfn four(a: u8, b: u8, c: u8, d: fn(bool) -> bool) {}\n"
    foreign = "impl Handler for A {\n    fn call(&self, a: u8, b: u8, c: u8, sure: bool) {}\n}\n"
    cases = [(bad, 1), (method, 1), (good, 0), (foreign, 0)]
    failed = [code for code, wanted in cases if len(found_in("planted.rs", code)[1]) != wanted]
    for code in failed:
        print(f"wrong about:\n{code}")
    print(f"{len(cases) - len(failed)} passed, {len(failed)} failed, 0 skipped")
    return 1 if failed else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    top = pathlib.Path(__file__).resolve().parents[2]
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "*.rs"], cwd=top, check=True, capture_output=True, text=True)
    total, problems = 0, []
    for path in listed.stdout.split():
        if (top / path).is_file():
            count, wrong = found_in(path, (top / path).read_text())
            total += count
            problems += wrong
    if total < FUNCTIONS_MIN:
        problems.append(f"only {total} functions found: the pattern is broken")
    for problem in problems:
        print(problem)
    print(f"{total} functions")
    print(f"{0 if problems else 1} passed, {len(problems)} failed, 0 skipped")
    return 1 if problems else 0


sys.exit(main())
