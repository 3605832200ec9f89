"""Clients that are generated from the document of a running server, used against it.

Each is generated, compiled where there is something to compile, and run; a client's own last line says what it counted.
`docs/generators.md` lists these and the others that were tried.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request

import servers

HERE = pathlib.Path(__file__).resolve().parent
STEP_SECS_MAX = 120


class Failed(Exception):
    """A generator, a compiler or a client failed; its output says why."""


def call(title, *command, cwd, **environment):
    """Runs a step; gives its output, or fails with it."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=STEP_SECS_MAX,
    )
    if done.returncode:
        raise Failed(f"{title} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def typescript(folder, document, url, modules):
    """openapi-typescript with openapi-fetch, and hey-api: one compilation for both."""
    for source in (HERE / "typescript").glob("*.ts"):
        shutil.copy(source, folder)
    shutil.copy(HERE / "typescript/tsconfig.json", folder)
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    (folder / "node_modules").symlink_to(modules)
    programs = modules / ".bin"
    generated = folder / "generated"
    call("openapi-typescript", programs / "openapi-typescript", document, "-o", generated / "schema.d.ts", cwd=folder)
    hey = ("-i", document, "-o", generated / "hey", "--no-log-file")
    call("hey-api", programs / "openapi-ts", *hey, cwd=folder)
    call("tsc", programs / "tsc", "--noEmit", cwd=folder)
    for client in ("fetch", "hey"):
        bundle = (f"{client}.ts", "--bundle", "--platform=node", "--format=esm", f"--outfile=out/{client}.mjs")
        call("esbuild", programs / "esbuild", *bundle, "--log-level=warning", cwd=folder)
        yield client, ("node", f"out/{client}.mjs", url), {}


def python(folder, document, url):
    """openapi-python-client."""
    program = pathlib.Path(sys.executable).with_name("openapi-python-client")
    options = ("--path", document, "--output-path", folder / "generated", "--meta", "none")
    # It formats what it makes with ruff, which stands beside it.
    path = f"{program.parent}:{os.environ['PATH']}"
    call("openapi-python-client", program, "generate", *options, cwd=folder, PATH=path)
    yield "python", (sys.executable, HERE / "python/client.py", url), {"PYTHONPATH": str(folder)}


def main():
    modules = pathlib.Path(os.environ["NODE_MODULES"])
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="tidepool-generators-") as root, servers.api(root) as api:
        root = pathlib.Path(root)
        document = root / "openapi.json"
        with urllib.request.urlopen(f"{api.url}/openapi.json", timeout=10) as answer:
            document.write_bytes(answer.read())
        for kind, arguments in ((typescript, (modules,)), (python, ())):
            folder = root / kind.__name__
            (folder / "generated").parent.mkdir()
            try:
                for client, command, environment in kind(folder, document, api.url, *arguments):
                    output = call(client, *command, cwd=folder, **environment)
                    print(f"{client}: {output}", end="", flush=True)
                    passed += int(re.findall(r"^(\d+) passed, 0 failed", output, re.MULTILINE)[-1])
            except (Failed, subprocess.TimeoutExpired) as error:
                failed += 1
                print(f"FAILED: {kind.__name__}: {error}", flush=True)
    # A client's own line is not the end of this one.
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


sys.exit(main())
