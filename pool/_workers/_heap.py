"""Have the C library keep the memory of freed arrays, to use it again."""

from __future__ import annotations

#: Bytes of the largest block that glibc may serve from its heap (``DEFAULT_MMAP_THRESHOLD_MAX`` on
#: a 64-bit machine), less what glibc adds to each block.
LARGEST = (32 << 20) - 8192


def keep_freed() -> None:
    """Have the memory of freed arrays used again, from the first array on.

    glibc maps large arrays one by one and unmaps them when they are freed, so that each new one
    costs a page fault per 4 KiB: several times as long as computing with it. It stops doing so for
    sizes up to the largest that was freed so far. A process that works with arrays gets there at
    some time, so its speed depends on chance. Here a block of the largest such size is freed before
    the first task, without touching it. An idle worker then keeps up to twice that size.

    The user's settings (``MALLOC_TRIM_THRESHOLD_`` and the like) switch this off, and other C
    libraries have no such thing.

    References
    ----------
    mallopt(3), ``M_MMAP_THRESHOLD``.
    """
    try:
        bytes(LARGEST)
    except MemoryError:
        return  # under a low `ulimit -v`
