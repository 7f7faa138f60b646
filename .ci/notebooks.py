"""Execute the notebooks named on the command line, from the first cell to the last.

With ``--write`` their outputs are stored, as they are to be committed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def execute(path: Path, write: bool) -> None:
    """Execute one; an error in a cell ends this with its traceback."""
    notebook = nbformat.read(path, as_version=4)
    # In the notebook's own folder, as a person who opens it.
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources=where,
        coalesce_streams=True,  # of a progress bar only its last state
    ).execute()
    print(f"{path}: {len(notebook.cells)} cells run")
    if write:
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # when each message came: another each time
        notebook.metadata["language_info"] = {"name": "python"}
        nbformat.write(notebook, path)


def main(arguments: list[str]) -> None:
    """Execute all that are named."""
    for name in arguments:
        if name != "--write":
            execute(Path(name), "--write" in arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
