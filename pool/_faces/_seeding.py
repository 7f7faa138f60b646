"""Give each item of a job its own random numbers, the same for any number of workers.

With ``seed=``, `random` and numpy's global generator are seeded in the worker before each item,
from the job's root and the item's index alone. What an item draws then depends neither on which
worker runs it, nor on the chunk size, nor on what ran there before. Afterwards nothing is
restored: the numbers that follow in that worker belong to nobody.

numpy is never imported for this. If a task is the first to import it, a hook seeds its generator
at that moment, as it would have been seeded before the item.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

_NUMPY_RANDOM = "numpy.random"

# The digest of the item that this process runs now; None between items.
_current: bytes | None = None
_hook: _SeedOnImport | None = None


def seed_sequence(seed: object) -> bytes | None:
    """Return the root that all random numbers of a job come from.

    Parameters
    ----------
    seed : int, numpy.random.SeedSequence or None
        Any integer, numpy's and negative ones included. A SeedSequence is not advanced. The same
        seed always gives the same root.

    Returns
    -------
    bytes or None
        32 bytes; None (no seeding) for None.
    """
    if seed is None:
        return None
    if hasattr(seed, "generate_state") and hasattr(seed, "spawn_key"):
        return _digest(b"sequence", seed.generate_state(8).tobytes())
    try:
        number = seed.__index__()  # type: ignore[attr-defined]  # the except clause is the check
    except AttributeError:
        raise TypeError(
            f"seed must be an int, a numpy SeedSequence or None, not {seed!r}"
        ) from None
    return _digest(b"int", str(number).encode())


def seed_item(root: bytes, index: int) -> None:
    """Seed `random`, and numpy's global generator, for one item of a job.

    Parameters
    ----------
    root : bytes
        From `seed_sequence`.
    index : int
        Position of the item in the job's input, from 0.
    """
    global _current
    import random

    _current = digest = _digest(root, index.to_bytes(8, "little"))
    # An int is taken as it is, where bytes would be hashed once more. It has half the digest:
    # numpy gets the other half, so that the two generators are not the same stream.
    random.seed(int.from_bytes(digest[:16], "little"))
    numpy_random = sys.modules.get(_NUMPY_RANDOM)
    if numpy_random is None:
        _watch_for_numpy()
    else:
        _seed_numpy(numpy_random, digest)


class SeededCall:
    """Call a function with the random generators seeded for the item of that index.

    Parameters
    ----------
    function : callable
    root : bytes
        From `seed_sequence`.
    """

    __slots__ = ("__wrapped__", "root")

    def __init__(self, function: Callable[..., Any], root: bytes) -> None:
        self.__wrapped__ = function
        self.root = root

    def __call__(self, index: int, *args: Any) -> Any:
        global _current
        seed_item(self.root, index)
        try:
            return self.__wrapped__(*args)
        finally:
            _current = None

    def __reduce__(self) -> tuple[Any, ...]:
        return SeededCall, (self.__wrapped__, self.root)

    def __repr__(self) -> str:
        return f"<seeded {self.__wrapped__!r}>"


def seeded_call(func: Callable[..., Any], seed: object) -> Callable[..., Any]:
    """Return a function that calls `func` seeded, as the only item of its job."""
    from functools import partial

    root = seed_sequence(seed)
    assert root is not None
    return partial(_call_seeded, SeededCall(partial(_apply, func), root))


def _apply(func: Callable[..., Any], args: Any, kwds: Any) -> Any:
    return func(*args, **kwds)


def _call_seeded(seeded: Callable[..., Any], *args: Any, **kwds: Any) -> Any:
    return seeded(0, args, kwds)


def seeded_map(
    func: Callable[..., Any], items: Iterable[Any], seed: object, star: bool
) -> tuple[Callable[..., Any], Iterator[tuple[Any, ...]]]:
    """Return a function, and tuples of arguments for it, such that it is seeded for each item.

    Parameters
    ----------
    star : bool
        Whether an item is a tuple of arguments. They stay arguments of their own: references
        among them arrive as values.
    """
    root = seed_sequence(seed)
    assert root is not None
    if star:
        return SeededCall(func, root), ((index, *args) for index, args in enumerate(items))
    return SeededCall(func, root), enumerate(items)


def _digest(key: bytes, data: bytes) -> bytes:
    from hashlib import blake2b

    return blake2b(data, key=key, digest_size=32).digest()


def _seed_numpy(numpy_random: ModuleType, digest: bytes) -> None:
    # 128 bits as four words. One word, the usual habit, gives two of 80 000 items the same
    # numbers more often than not.
    half = digest[16:]
    words = [int.from_bytes(half[start : start + 4], "little") for start in range(0, 16, 4)]
    numpy_random.seed(words)


def _watch_for_numpy() -> None:
    global _hook
    if _hook is None:
        _hook = _SeedOnImport()
        sys.meta_path.insert(0, _hook)


class _SeedOnImport:
    """Seed numpy's generator right after a task imported it.

    First on `sys.meta_path` until that happens. It finds nothing itself: it lets the others find
    the module, and puts itself around the loader that they give.
    """

    def find_spec(
        self, name: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the other finders find for numpy's module, with the loader wrapped."""
        if name != _NUMPY_RANDOM:
            return None
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
                if spec is not None and spec.loader is not None:
                    wrapped: Any = _SeedingLoader(spec.loader)
                    spec.loader = wrapped
                    return spec
        return None


class _SeedingLoader:
    """Load a module by another loader, and seed its generator afterwards."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return the module that the other loader makes."""
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, and take the hook away."""
        global _hook
        if module.__spec__ is not None:
            # Whoever asks the module where it came from gets the true loader.
            module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        if _hook in sys.meta_path:
            sys.meta_path.remove(_hook)
        _hook = None
        if _current is not None:
            _seed_numpy(module, _current)
