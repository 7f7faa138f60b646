"""List and end detached actors: ``python -m pool actors``."""

from __future__ import annotations

import argparse
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pool._transport._channel import Channel


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m pool", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    actors = commands.add_parser("actors", help="list the detached actors of this user")
    actors.add_argument("--end", metavar="NAME", help="end the actor of that name at once")
    actors.add_argument("--namespace", help="only actors of this namespace")
    actors.add_argument("--end-all", action="store_true", help="end all of them at once")
    chosen = parser.parse_args(arguments)
    return list_actors(chosen.end, chosen.namespace, chosen.end_all)


def list_actors(end: str | None, namespace: str | None, end_all: bool) -> int:
    """Print one line for each detached actor, and end those that are meant."""
    rows = []
    ended = 0
    for pid, name, where, title, channel in _found():
        if namespace not in (None, where):
            channel.close()
            continue
        meant = end_all or end == name
        if meant:
            _end(pid, channel)
            ended += 1
        channel.close()
        if meant or end is None:
            rows.append((where, name, title, str(pid), "ended" if meant else "alive"))
    if end is not None and not ended:
        print(f"no detached actor named {end!r}", file=sys.stderr)
        return 1
    if rows:
        print("\n".join(_table([("NAMESPACE", "NAME", "CLASS", "PID", "STATE"), *rows])))
    return 0


def _found() -> Iterator[tuple[int, str, str, str, Channel]]:
    from pool._runtime._detached import introduced
    from pool._transport._rendezvous import paths

    for path in paths():
        found = introduced(path)
        if found is not None:
            channel, pid, (name, namespace, facts) = found
            yield pid, name, namespace, facts.title, channel


def _end(pid: int, channel: Channel) -> None:
    from pool._runtime._detached import end
    from pool._transport._rendezvous import sweep

    path = channel.socket.getpeername()
    end(pid, channel)
    try:
        while True:
            channel.receive()
    except (EOFError, OSError):
        sweep(path, pid)


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


if __name__ == "__main__":
    sys.exit(main())
