"""Runs the tests of this folder and says, last of all, `N passed, N failed, N skipped`."""

import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).parent


def main():
    sys.path.insert(0, str(HERE))
    wanted = sys.argv[1:] or sorted(str(path.relative_to(HERE).with_suffix("")) for path in HERE.glob("*/check*.py"))
    suite = unittest.TestSuite()
    for name in wanted:
        folder, _, module = name.partition("/")
        sys.path.insert(0, str(HERE / folder))
        suite.addTests(unittest.defaultTestLoader.loadTestsFromName(module))
    result = unittest.TextTestRunner(verbosity=2, stream=sys.stdout).run(suite)
    failed = len({id(each.test_case if hasattr(each, "test_case") else each) for each, _ in result.failures + result.errors})
    print(f"{result.testsRun - failed - len(result.skipped)} passed, {failed} failed, {len(result.skipped)} skipped")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
