"""Take a stream of pickles apart without building what they describe."""

from __future__ import annotations

import io
import pickletools


def split_stream(stream: bytes, count: int) -> list[bytes]:
    """Return the `count` pickles that follow each other in `stream`.

    Slow but exact, since every pickle ends with its STOP opcode. Needed when one of them cannot
    be loaded, or when only some of them are wanted.
    """
    file = io.BytesIO(stream)
    pickles = []
    for _ in range(count):
        start = file.tell()
        for _opcode in pickletools.genops(file):
            pass
        pickles.append(bytes(stream[start : file.tell()]))
    return pickles
