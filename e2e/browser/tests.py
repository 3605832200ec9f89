"""Runs the functions of a module whose names begin with `test_`, and counts them as the test runner expects."""

import traceback


def run(namespace):
    passed = failed = 0
    for name, test in list(namespace.items()):
        if not name.startswith("test_"):
            continue
        try:
            test()
            passed += 1
            print(f"{name}: ok", flush=True)
        except Exception:  # any failure of a test is reported the same way
            failed += 1
            traceback.print_exc()
            print(f"{name}: FAILED", flush=True)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0
