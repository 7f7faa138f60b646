"""Read the control groups around this process: which they are, and the memory that they grant.

A container or a job scheduler grants less than the machine has. The functions take the text of
files, or folders, and know nothing of the process they run in. Nothing here raises: a file that is
missing, unreadable or of an unknown form sets no limit.

References
----------
Linux kernel, ``admin-guide/cgroup-v2.rst`` ("memory.max"), ``admin-guide/cgroup-v1/memory.rst``;
``proc(5)`` (``/proc/pid/mountinfo``), ``cgroups(7)``.
"""

from __future__ import annotations

import os


def read(path: str) -> str:
    """Return the text of a file of the kernel's, or "" if it cannot be read.

    Not by `open`, which tests replace by one that has what they want to be read.
    """
    try:
        # Unbuffered and undecoded reading takes a third of the time of `open(path).read()`.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        pieces = []
        while piece := os.read(descriptor, 65536):
            pieces.append(piece)
        return b"".join(pieces).decode(errors="surrogateescape")
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def cgroup_folders(cgroup: str, mountinfo: str, controller: str) -> list[tuple[str, bool]]:
    """Return the folders of the cgroups of one kind around this process, innermost first.

    Parameters
    ----------
    cgroup : str
        Text of ``/proc/self/cgroup``.
    mountinfo : str
        Text of ``/proc/self/mountinfo``.
    controller : str
        "cpu" or "memory": each may have a tree of its own in version 1.

    Returns
    -------
    list of (str, bool)
        Each folder, and whether it is of version 2. Every ancestor up to the mount point is
        among them, because a limit of any of them holds for all below it.
    """
    paths = _cgroup_paths(cgroup, controller)
    folders = []
    for root, mount_point, version2 in _cgroup_mounts(mountinfo, controller):
        path = paths.get(version2)
        if path is not None:
            folders += [(folder, version2) for folder in _ancestors(path, root, mount_point)]
    return folders


def own_folders(controller: str) -> list[tuple[str, bool]]:
    """Return what `cgroup_folders` finds for this process."""
    return cgroup_folders(read("/proc/self/cgroup"), read("/proc/self/mountinfo"), controller)


def _cgroup_paths(cgroup: str, controller: str) -> dict[bool, str]:
    """Return the path in the version 2 tree (True) and in version 1's own tree (False)."""
    paths = {}
    for line in cgroup.splitlines():
        number, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if not colon:
            continue
        if number == "0" and not controllers:
            paths[True] = path
        elif controller in controllers.split(","):
            paths[False] = path
    return paths


def _cgroup_mounts(mountinfo: str, controller: str) -> list[tuple[str, str, bool]]:
    """Return root, mount point and whether version 2, of each mounted tree of that kind."""
    mounts = []
    for line in mountinfo.splitlines():
        left, dash, right = line.partition(" - ")
        fields, kinds = left.split(" "), right.split(" ")
        if not dash or len(fields) < 5 or len(kinds) < 3:
            continue
        if kinds[0] == "cgroup2":
            mounts.append((_unescape(fields[3]), _unescape(fields[4]), True))
        elif kinds[0] == "cgroup" and controller in kinds[2].split(","):
            mounts.append((_unescape(fields[3]), _unescape(fields[4]), False))
    return mounts


def _unescape(field: str) -> str:
    """Undo what the kernel does to blanks and backslashes in a path of mountinfo."""
    if "\\" not in field:
        return field
    for octal, character in ("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"):
        field = field.replace(octal, character)
    return field


def _ancestors(path: str, root: str, mount_point: str) -> list[str]:
    """Return the folder of a cgroup under its mount point, and those above it.

    In a container the mount shows only the part of the tree below `root`; what lies outside it
    ("/.." paths, or another branch) cannot be read, and the mount point stands for it.
    """
    if root != "/":
        inside = path == root or path.startswith(root + "/")
        path = path[len(root) :] if inside else ""
    parts = [part for part in path.split("/") if part]
    if ".." in parts:
        parts = []
    return ["/".join([mount_point, *parts[:end]]) for end in range(len(parts), -1, -1)]


def group_memory(folder: str, version2: bool) -> tuple[int, int, int] | None:
    """Return the limit of a cgroup, what it uses, and how much of that can be taken back.

    None if it has no limit.
    """
    names = _NAMES if version2 else _NAMES_1
    limit, used = (parse_number(read(f"{folder}/{name}")) for name in names)
    if limit is None or used is None:
        return None
    return limit, used, reclaimable(read(folder + "/memory.stat"))


_NAMES = "memory.max", "memory.current"
_NAMES_1 = "memory.limit_in_bytes", "memory.usage_in_bytes"


def reclaimable(stat: str) -> int:
    """Return the bytes of a cgroup that the kernel takes back before it ends a process.

    Cached files and dentries, of this cgroup and those below it; `stat` is the text of its
    ``memory.stat``.
    """
    fields = parse_fields(stat)
    prefix = "total_" if "total_inactive_file" in fields else ""
    names = ("inactive_file", "active_file", "slab_reclaimable")
    return sum(fields.get(prefix + name, 0) for name in names)


def parse_fields(text: str) -> dict[str, int]:
    """Return the numbers of a file with one name and one number a line."""
    fields = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[1].isdigit():
            fields[words[0]] = int(words[1])
    return fields


def parse_number(text: str) -> int | None:
    """Return the number in a file of a cgroup; None for "max" and for what is no number."""
    text = text.strip()
    return int(text) if text.isdigit() else None
