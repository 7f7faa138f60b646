"""Run the interpreter's own pool tests on a library, in a process of its own.

Usage: ``python stdlibrunner.py LIBRARY METHOD [TEST ...]``, where METHOD is a start method or
"default", and the tests are those to pass over.
Each result is one line of JSON: test, outcome ("begun", then "passed", "failed"
or "skipped") and text.

The tests are taken as they are. They see what a program sees after
``import pool as multiprocessing``: the module's name in their namespace, and in the programs
that they start.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import re
import sys
import unittest
from pathlib import Path
from typing import Any

from leftout import CLASSES

ROOT = str(Path(__file__).parents[2])
# A test that takes longer hangs; its stacks are dumped and the run ends.
TEST_LIMIT = 60.0


class Reporter(unittest.TestResult):
    """Print each result as soon as it is known."""

    def startTest(self, test: unittest.TestCase) -> None:  # unittest's name
        """Guard a test against hanging."""
        super().startTest(test)
        report(test, "begun", "")
        faulthandler.dump_traceback_later(TEST_LIMIT, exit=True)

    def addSuccess(self, test: unittest.TestCase) -> None:  # unittest's name
        """Report a test that passed."""
        super().addSuccess(test)
        report(test, "passed", "")

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        """Report a test that raised."""
        super().addError(test, err)
        report(test, "failed", self.errors[-1][1])

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        """Report a test whose assertion failed."""
        super().addFailure(test, err)
        report(test, "failed", self.failures[-1][1])

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        """Report a test that the standard library itself skips."""
        super().addSkip(test, reason)
        report(test, "skipped", reason)


def report(test: unittest.TestCase, outcome: str, text: str) -> None:
    """Print one result."""
    name = getattr(test, "_testMethodName", str(test))
    line = {"test": f"{type(test).__name__}.{name}", "outcome": outcome, "text": text}
    os.write(1, (json.dumps(line) + "\n").encode())


def swap(source: str, library: str) -> str:
    """Change the imports of a program from the standard module to a library."""
    source = re.sub(r"\bfrom multiprocessing import", f"from {library} import", source)
    return re.sub(r"\bimport multiprocessing\b", f"import {library} as multiprocessing", source)


def swap_in_programs(library: str) -> None:
    """Make the programs that tests start use the library too."""
    helper: Any = importlib.import_module("test.support.script_helper")
    original = helper.assert_python_ok

    def assert_python_ok(*arguments: str, **environment: str) -> Any:
        prefix = f"import sys; sys.path.insert(0, {ROOT!r})\n"
        if arguments[0] == "-c":
            arguments = ("-c", prefix + swap(arguments[1], library), *arguments[2:])
        else:
            path = Path(arguments[0])
            path.write_text(prefix + swap(path.read_text(), library))
        return original(*arguments, **environment)

    helper.assert_python_ok = assert_python_ok


def build(module: Any, name: str, library: Any) -> type[unittest.TestCase] | None:
    """Make a runnable class from one of the module's, with the library's `Pool`."""
    base = getattr(module, name, None)
    if base is None:
        return None
    if issubclass(base, unittest.TestCase):
        return type(name, (base,), {"__module__": __name__})
    mixin = type("Ours", (module.ProcessesMixin,), {"Pool": staticmethod(library.Pool)})
    return type(name, (base, mixin, unittest.TestCase), {"__module__": __name__})


def collect(module: Any, library: Any, passed_over: list[str]) -> unittest.TestSuite:
    """Collect the tests named in the table, as far as this version of Python has them."""
    suite = unittest.TestSuite()
    for name, wanted in CLASSES.items():
        built = build(module, name, library)
        if built is None:
            continue
        # Found by attribute when a bound method of it is sent to a worker.
        globals()[name] = built
        names = unittest.TestLoader().getTestCaseNames(built)
        for test in names:
            if (not wanted or test in wanted) and f"{name}.{test}" not in passed_over:
                suite.addTest(built(test))
    return suite


def main() -> None:
    """Run all tests and report them."""
    name, method, *passed_over = sys.argv[1:]
    module: Any = importlib.import_module("test._test_multiprocessing")
    library = importlib.import_module(name)
    if method != "default":
        library.set_start_method(method, force=True)
    if name != "multiprocessing":
        module.multiprocessing = library
        swap_in_programs(name)
    collect(module, library, passed_over).run(Reporter())
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
