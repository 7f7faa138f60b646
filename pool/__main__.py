"""List and end detached actors: ``python -m pool actors``."""

from __future__ import annotations

import argparse
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pool._runtime._detached import Introduced


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
    """Print one line for each detached actor; end some of them.

    Parameters
    ----------
    end : str or None
        The name of those to end, and to print.
    namespace : str or None
        Leave out actors of other namespaces.
    end_all : bool
        End all that are not left out.

    Returns
    -------
    int
        The exit status: 1 if `end` is given and there is no such actor.
    """
    rows = []
    ended = 0
    for found in _found():
        options = found.options
        if namespace not in (None, options.namespace):
            found.channel.close()
            continue
        meant = end_all or end == options.name
        if meant:
            _end(found)
            ended += 1
        found.channel.close()
        if meant or end is None:
            state = "ended" if meant else "alive"
            title = options.facts.title
            rows.append((options.namespace, options.name, title, str(found.pid), state))
    from pool._transport._rendezvous import strangers

    missing = end is not None and not ended
    if missing:
        print(f"no detached actor named {end!r}", file=sys.stderr)
    if pids := " ".join(map(str, strangers())):
        print(
            "there are actors of another version of Python or actorpool: that one lists them, "
            f"`kill {pids}` ends them",
            file=sys.stderr,
        )
    if missing:
        return 1
    if rows:
        print("\n".join(_table([("NAMESPACE", "NAME", "CLASS", "PID", "STATE"), *rows])))
    elif not pids:
        print("no detached actors", file=sys.stderr)  # what reads the table finds no line in it
    return 0


def _found() -> Iterator[Introduced]:
    from pool._runtime._detached import introduced
    from pool._transport._rendezvous import paths

    for path in paths():
        found = introduced(path)
        if found is not None:
            yield found


def _end(found: Introduced) -> None:
    from pool._transport._pidfds import kill
    from pool._transport._rendezvous import sweep

    kill(found.keeper, found.channel.fileno())
    try:
        while True:
            found.channel.receive()
    except (EOFError, OSError):
        sweep(found.path, found.keeper, found.pid)


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


if __name__ == "__main__":
    sys.exit(main())
