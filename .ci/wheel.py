"""Use the installed packages outside the checkout: ``python wheel.py ENVIRONMENT``.

There is no main guard here, on purpose.
"""

import os
import sys
import sysconfig

# The folder of this script, a checkout, must not be where the packages come from.
sys.path[:] = [entry for entry in sys.path if entry and not entry.endswith(".ci")]

import pool  # noqa: E402 - by the path set above
import store  # noqa: E402 - by the path set above

environment = os.path.realpath(sys.argv[1])
packages = os.path.realpath(sysconfig.get_path("purelib"))
for package in (pool, store):
    found = os.path.realpath(package.__file__)
    assert found.startswith(packages) and found.startswith(environment), found
    assert os.path.exists(os.path.join(os.path.dirname(found), "py.typed")), package

offset = 7
with pool.Pool(2) as workers:
    results = workers.map(lambda x: x * x + offset, range(100))
    pids = set(workers.map(lambda _: os.getpid(), range(100), chunksize=1))
assert results == [x * x + 7 for x in range(100)], results
assert os.getpid() not in pids, pids
print(f"actorpool {pool.__version__} works from {packages}")
