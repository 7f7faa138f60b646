"""Name the interpreter's own tests that concern pools, and those which are not run on ours."""

from __future__ import annotations

# Classes of `test._test_multiprocessing`, with the tests in them that concern pools (empty: all).
# A name that one version of Python lacks is passed over there.
CLASSES: dict[str, tuple[str, ...]] = {
    "_TestPool": (),
    "_TestPoolWorkerErrors": (),
    "_TestPoolWorkerLifetime": (),
    "TestInitializers": ("test_pool_initializer",),
    "TestStdinBadfiledescriptor": ("test_pool_in_process",),
    "TestPoolNotLeakOnFailure": (),
    "MiscTestCase": ("test_large_pool",),
}

# Class and test -> why it says nothing about ours. Each of them must fail on ours, and exist in one
# of the supported versions: otherwise the entry is stale, and a test says so.
LEFT_OUT: dict[str, str] = {
    "_TestPoolWorkerErrors.test_unpickleable_result": (
        "returns a lambda, which the standard cannot send back and ours can"
    ),
    "TestPoolNotLeakOnFailure.test_release_unused_processes": (
        "hands in a mock of a context whose `Process` fails to start; ours starts no `Process`"
    ),
}
