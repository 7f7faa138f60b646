"""Other ways in which Ray's programs call what `remote` makes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


class NoGraphs:
    """Calls that are made at once: there are no graphs of calls to be made later."""

    __slots__ = ()

    def bind(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: graphs of calls are not supported."""
        raise NotImplementedError(
            "bind: graphs of calls are not supported; call .remote() with the references of the "
            "calls before"
        )


class OtherWays(NoGraphs):
    """What has options, and is called by ``remote``."""

    __slots__ = ()

    if TYPE_CHECKING:

        def options(self, **given: Any) -> Any: ...

    def _remote(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **given: Any,
    ) -> Any:
        """Do as ``options(**given).remote(*args, **kwargs)``; older programs of Ray call this."""
        return self.options(**given).remote(*(args or ()), **(kwargs or {}))
