"""The module in which Ray has its `Pool`."""

from pool import Pool

__all__ = ["Pool"]
