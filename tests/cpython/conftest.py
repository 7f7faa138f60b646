"""Let this folder's tests import its helpers, and the helpers of the compatibility suite."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "compat")]
