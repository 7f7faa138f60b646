"""The module in which Ray has its `Pool`: here it is the one of this package."""

from pool import Pool

__all__ = ["Pool"]
