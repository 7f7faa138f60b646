"""How the program stores objects in SQLite, and reads them.

Without the adapter that the program has registered, a numpy number is stored as bytes, silently.
"""

from __future__ import annotations

from pool._workers._warmup import installed

from ._setting import Later, Setting, packed, unpacked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    # Pickled types and adapters; names and pickled converters; modules that are needed.
    _Registered = tuple[list[tuple[bytes, bytes]], list[tuple[str, bytes]], list[str]]


def _packed(function: Any) -> bytes | None:
    """Return an adapter or converter pickled, or None if it is not to be carried.

    Not those that `sqlite3` has itself, those that installed packages register when they are
    imported, and those that cannot be pickled.
    """
    module = getattr(function, "__module__", None)
    top = module.partition(".")[0] if isinstance(module, str) else ""
    if module == "sqlite3.dbapi2" or (installed(top) and type(function) is not Later):
        return None
    return packed(function)


def _read(module: Any) -> _Registered | None:
    adapters = []
    needs = set()
    for (kind, protocol), function in list(module.adapters.items()):
        adapter = _packed(function) if protocol is module.PrepareProtocol else None
        type_ = None if adapter is None else packed(kind)
        if adapter is not None and type_ is not None:
            adapters.append((type_, adapter))
            needs.add(kind.__module__)
    converters = [
        (name, converter)
        for name, function in list(module.converters.items())
        if (converter := _packed(function)) is not None
    ]
    return (adapters, converters, sorted(needs - {"__main__"})) if adapters or converters else None


def _write(module: Any, value: _Registered) -> None:
    from pool._workers._carried import Undisturbed

    adapters, converters, _ = value
    for name, converter in converters:
        module.register_converter(name, Later(converter))
    for kind, adapter in adapters:
        try:
            with Undisturbed(True):
                module.register_adapter(unpacked(kind), Later(adapter))
        except Exception:
            continue  # its class cannot be imported here, so there are no objects of it either


def _needs(value: _Registered) -> Iterable[str]:
    return value[2]


SETTINGS = {"sqlite3": Setting("sqlite3", _read, _write, _needs)}
