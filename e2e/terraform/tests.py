"""tests.py [FOLDER/MODULE…]: runs the tests of this folder and says, last of all, `N passed, N failed, N skipped`."""

import pathlib
import sys
import unittest

HERE = pathlib.Path(__file__).parent


class Counted(unittest.TextTestResult):
    """A test of several cases counts once, and a class that could not be set up as one that failed."""

    passed = 0

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1

    def failed(self):
        return len({getattr(test, "test_case", test).id() for test, _ in self.failures + self.errors})


def main():
    sys.path.insert(0, str(HERE))
    wanted = sys.argv[1:] or sorted(str(path.relative_to(HERE).with_suffix("")) for path in HERE.glob("*/check*.py"))
    suite = unittest.TestSuite()
    for name in wanted:
        folder, _, module = name.partition("/")
        sys.path.insert(0, str(HERE / folder))
        suite.addTests(unittest.defaultTestLoader.loadTestsFromName(module))
    result = unittest.TextTestRunner(verbosity=2, stream=sys.stdout, resultclass=Counted).run(suite)
    print(f"{result.passed} passed, {result.failed()} failed, {len(result.skipped)} skipped")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
