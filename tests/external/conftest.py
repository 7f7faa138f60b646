"""Give this folder its fixtures, and its helpers a name that workers can import."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "compat"))

from poolkit import (  # found through the path set above
    agents,
    flavour,
    gate,
    make_pool,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_generate_tests,
    shared_heap,
)

__all__ = [
    "agents",
    "flavour",
    "gate",
    "make_pool",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_generate_tests",
    "shared_heap",
]
