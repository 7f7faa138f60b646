"""Memory that processes hand to each other: objects that are put once and mapped by many.

::

    ref = store.put(array)        # one copy
    view = store.get(ref)         # none: writable, private, as after pickling
    big = store.share(array)      # an ordinary array; sending it is free from now on
    out = store.empty(shape)      # filled in place, sent without a copy

The pools of this project use it by themselves for every large buffer that they send; nothing here
knows of them. Which module knows what is a table in ``docs/design/store.md``. To read along one
`put`: ``_verbs``, ``_pickling`` with ``_codec``, ``_refs``, ``_depot``, ``_arena``, ``_segments``;
and along a message: ``_links``, ``_depot``, ``_mappings``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._codec import OUT_OF_BAND_MIN, Encoded, decode, encode
    from ._errors import ObjectFreed, StoreError, StoreFull
    from ._refs import ObjectRef
    from ._verbs import empty, free, get, prefault, put, share, stats, wait, zeros

_HOMES = {
    "_codec": ("OUT_OF_BAND_MIN", "Encoded", "decode", "encode"),
    "_errors": ("ObjectFreed", "StoreError", "StoreFull"),
    "_refs": ("ObjectRef",),
    "_verbs": ("empty", "free", "get", "prefault", "put", "share", "stats", "wait", "zeros"),
}

__all__ = [
    "OUT_OF_BAND_MIN",
    "Encoded",
    "ObjectFreed",
    "ObjectRef",
    "StoreError",
    "StoreFull",
    "decode",
    "empty",
    "encode",
    "free",
    "get",
    "prefault",
    "put",
    "share",
    "stats",
    "wait",
    "zeros",
]


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            from importlib import import_module

            value = getattr(import_module(f"{__name__}.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
