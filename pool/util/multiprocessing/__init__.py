"""The package in which Ray has its `Pool`: here it is the one of this package."""

from pool import JoinableQueue, Pool, TimeoutError

__all__ = ["JoinableQueue", "Pool", "TimeoutError"]
