"""The class of runtime environments, under the name that Ray gives this module."""

from __future__ import annotations


class RuntimeEnv(dict):  # type: ignore[type-arg]  # `Any` is for type checkers only
    """A runtime environment by keywords: ``RuntimeEnv(env_vars={"A": "1"})``, a dict."""
