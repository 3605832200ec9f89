#!/usr/bin/env python3
"""Holds the last line of a demo's output against what its kind promises; each promise counts as one test.

Arguments: demo, flat or stack, and the file with the output.
"""

import json
import pathlib
import sys

POWER_CUT = ("a member lost its power", lambda s: s["power_cuts"] == 1)
NOTHING_FAILED = ("no request failed", lambda s: s["failed"] == 0)
LOADED = ("there was a load", lambda s: s["requests"] >= 1000)
GREW = ("the pool grew by at least 3", lambda s: s["members_max"] - s["members_min"] >= 3)
CAME_BACK = ("the pool came back to its minimum", lambda s: s["members_end"] == s["members_min"])

PROMISES = {
    "demo": [LOADED, NOTHING_FAILED, GREW, CAME_BACK, POWER_CUT, ("it scaled out", lambda s: s["scale_outs"] > 0)],
    "flat": [LOADED, NOTHING_FAILED, POWER_CUT, ("it never scaled out", lambda s: s["scale_outs"] == 0)],
    "stack": [
        LOADED,
        GREW,
        POWER_CUT,
        ("over 99 % of the requests succeeded", lambda s: s["failed"] < s["requests"] / 100),
        ("writes were acknowledged", lambda s: s["acknowledged"] > 0),
        ("all of them were read back", lambda s: s["read_back"] == s["acknowledged"] and s["lost"] == 0),
    ],
}


def main():
    kind, output = sys.argv[1], pathlib.Path(sys.argv[2])
    lines = output.read_text().splitlines()
    print(lines[-1] if lines else "there is no output")
    try:
        summary = json.loads(lines[-1])
    except (IndexError, ValueError) as error:
        print(f"the last line is no JSON: {error}")
        print("0 passed, 1 failed, 0 skipped")
        return 1
    broken = []
    for promise, holds in PROMISES[kind]:
        try:
            kept = holds(summary)
        except KeyError:
            kept = False
        if not kept:
            broken.append(promise)
    for promise in broken:
        print(f"broken: {promise}")
    print(f"{len(PROMISES[kind]) - len(broken)} passed, {len(broken)} failed, 0 skipped")
    return 1 if broken else 0


sys.exit(main())
