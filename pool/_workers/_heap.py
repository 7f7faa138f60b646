"""What the C library keeps of the memory that tasks have freed."""

from __future__ import annotations

#: The largest block that glibc still serves from its heap (``DEFAULT_MMAP_THRESHOLD_MAX``, where
#: a word has 64 bits), less what it adds to each.
LARGEST = (32 << 20) - 8192


def keep_freed() -> None:
    """Have the memory of freed arrays used again, from the first of them on.

    glibc maps large arrays one by one and unmaps them when they are freed, so each new one costs
    a page fault per 4 KiB, which takes several times as long as computing with it. It stops doing
    so for sizes up to the largest that was freed so far: a process that works with arrays gets
    there sooner or later, and so depends on chance for its speed. Here one block, never touched,
    is freed before the first task. Up to twice its size stays in an idle worker.

    Settings of the user's (``MALLOC_TRIM_THRESHOLD_`` and the like) switch that off, and so do
    other C libraries.

    References
    ----------
    mallopt(3), ``M_MMAP_THRESHOLD``.
    """
    try:
        bytes(LARGEST)
    except MemoryError:
        return  # `ulimit -v`
